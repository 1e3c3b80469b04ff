"""All tiny models in both formats, and what three engines make of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.architectures.engines import ask_engine, mean_kl
from tests.architectures.gguf_file import write_gguf
from tests.architectures.tiny import TINY, write_tiny


@dataclass(frozen=True)
class Models:
    """Model name → its Hugging Face folder and its GGUF file."""

    hf: dict[str, Path]
    gguf: dict[str, Path]


@dataclass(frozen=True)
class Asked:
    """What engines answered."""

    facts: dict[str, dict[str, dict[str, Any]]]
    """Engine → model → fact → value."""
    folder: Path

    def kl(self, engine: str, name: str) -> float:
        """Return how far an engine lies from transformers, in nats."""
        return mean_kl(*(self.folder / e / f"{name}.npy" for e in ("transformers", engine)))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Every tiny model, and what a converter makes of it."""
    folder = tmp_path_factory.mktemp("tiny")
    hf = {name: write_tiny(name, folder / name) for name in TINY}
    gguf = {name: write_gguf(path, folder / f"{name}.gguf") for name, path in hf.items()}
    return Models(hf, gguf)


@pytest.fixture(scope="session")
def asked(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """The answers of transformers, mlx-lm and llama.cpp about all of them."""
    folder = tmp_path_factory.mktemp("asked")
    facts = {
        engine: ask_engine(
            engine, models.gguf if engine == "llama_cpp" else models.hf, folder / engine
        )
        for engine in ("transformers", "mlx", "llama_cpp")
    }
    return Asked(facts, folder)
