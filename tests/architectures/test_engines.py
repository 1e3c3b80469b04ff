"""Each architecture in real engines: they load what the model says and compute the same, or the
difference is a finding of FINDINGS.md."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from runner.model.known_facts import known_facts
from runner.stored.canonical import canonical_fact
from tests.architectures.conftest import Asked, Models
from tests.architectures.engines import OPTIONS, ask_engine, mean_kl
from tests.architectures.tiny import TINY
from tests.paths import ROOT

#: Where all computations are the same: the floor of fp32 on CPUs is 1e-12 to 1e-10.
SAME = 1e-9
#: (engine, model) → number of the finding, facts that show it, and the least and most mean KL.
FINDINGS: dict[tuple[str, str], tuple[str, set[str], float, float]] = {
    ("llama_cpp", "gemma2"): ("A2", set(), 1e-9, 1e-6),
    ("llama_cpp", "gemma3"): ("A2", set(), 1e-9, 1e-4),
    ("llama_cpp", "gpt-neox"): ("A2", set(), 1e-8, 1e-5),
    ("mlx", "gpt-neox"): ("A3", set(), 1e-8, 1e-5),
    ("llama_cpp", "mistral-window"): ("A4", {"sliding_window", "windowed_layers"}, 0.1, 50),
    ("mlx", "mistral-window"): ("A4", {"sliding_window", "windowed_layers"}, 0.1, 50),
    ("mlx", "gemma2"): ("A5", {"sliding_window", "windowed_layers"}, 0.01, 50),
    ("mlx", "gemma3"): ("A10", set(), 1e-9, 1e-5),
    ("mlx", "phi-longrope"): ("A6", {"rope_scaling"}, 0.1, 50),
    ("llama_cpp", "llama-dynamic"): ("A7", {"rope_scaling"}, 0.1, 50),
    ("mlx", "llama-dynamic"): ("A8", set(), 1e-5, 0.1),
}
CASES = [(engine, name) for engine in ("llama_cpp", "mlx") for name in TINY]


def differing(engine: str, hf: Path, gguf: Path, stated: dict[str, Any]) -> set[str]:
    """Return the facts of a loaded model that differ from what its files say."""
    served = gguf if engine == "llama_cpp" else hf
    known = known_facts(hf, "structure", OPTIONS.get(engine, {}), served)
    found = set()
    for fact in {*stated, *known.artifact}:
        value = known.value(fact, {"seen": stated[fact]} if fact in stated else None)
        assert value is not None
        sides = [canonical_fact(fact, json.dumps(value[side])) for side in ("seen", "model")]
        if sides[0] != sides[1] and not (value["model"] is None and fact not in _NONE_COUNTS):
            found.add(fact)
    return found - _NO_MEANING


_NO_MEANING = {"model_name", "tokenizer_digest", "normalizer", "not_compared", "kv_dtype"}
_NONE_COUNTS = {"sliding_window", "rope_theta_windowed", "attention_softcap", "final_softcap"}


@pytest.mark.parametrize("name", TINY)
def test_the_reference_engine_loads_what_the_model_says(
    name: str, models: Models, asked: Asked
) -> None:
    facts = asked.facts["transformers"][name]
    assert differing("transformers", models.hf[name], models.gguf[name], facts) == set()


@pytest.mark.parametrize(("engine", "name"), CASES)
def test_an_architecture_is_loaded_and_computed_as_the_model_says(
    engine: str, name: str, models: Models, asked: Asked
) -> None:
    facts = differing(engine, models.hf[name], models.gguf[name], asked.facts[engine][name])
    finding = FINDINGS.get((engine, name))
    if finding is None:
        assert facts == set()
        assert asked.kl(engine, name) < SAME
    else:
        _, shown, least, most = finding
        assert facts == shown
        assert least < asked.kl(engine, name) < most


def test_every_difference_is_a_listed_finding() -> None:
    listed = (ROOT / "FINDINGS.md").read_text(encoding="utf-8")
    numbers = {number for number, *_ in FINDINGS.values()}
    assert [n for n in sorted(numbers) if f"\n| {n} | " not in listed] == []


def test_without_the_plain_attention_transformers_leaves_a_soft_cap_out(
    models: Models, asked: Asked, tmp_path: Path
) -> None:
    """Finding A1: the reference would be wrong, and the fact says so where it is left out."""
    hf = {"gemma2": models.hf["gemma2"]}
    facts = ask_engine("transformers", hf, tmp_path / "deployed", pass_="deployed")["gemma2"]
    assert facts["attention_softcap"] is None
    assert differing("transformers", hf["gemma2"], models.gguf["gemma2"], facts) == {
        "attention_softcap"
    }
    truth = asked.folder / "transformers" / "gemma2.npy"
    assert mean_kl(truth, tmp_path / "deployed" / "gemma2.npy") > 1e-5


def test_a_pattern_of_windows_that_the_converter_does_not_write_is_seen(
    models: Models, asked: Asked, tmp_path: Path
) -> None:
    """Finding A9: the file of the model with windows in every sixth layer serves another one."""
    other = tmp_path / "other"
    shutil.copytree(models.hf["gemma3"], other)
    config = json.loads((other / "config.json").read_text()) | {"sliding_window_pattern": 2}
    (other / "config.json").write_text(json.dumps(config))
    facts = asked.facts["llama_cpp"]["gemma3"]
    assert differing("llama_cpp", other, models.gguf["gemma3"], facts) == {"windowed_layers"}


@pytest.mark.engines
def test_vllm_computes_three_of_them_as_the_model_says(
    models: Models, asked: Asked, tmp_path: Path
) -> None:
    names = ("llama-llama3", "qwen3", "mistral-window")
    hf = {name: models.hf[name] for name in names}
    facts = ask_engine("vllm", hf, tmp_path / "vllm")
    for name in names:
        assert differing("vllm", hf[name], models.gguf[name], facts[name]) == set()
        truth = asked.folder / "transformers" / f"{name}.npy"
        assert mean_kl(truth, tmp_path / "vllm" / f"{name}.npy") < 1e-8
