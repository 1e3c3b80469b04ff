"""What a matrix may say: the design's example, the shipped ones, every engine and dialect."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.matrix.engine_entry import EngineEntry
from cluster.matrix.schema import load_matrix
from cluster.matrix.secret_names import is_secret_name
from runner.engines.registry import DECLARATIONS, DIALECTS
from tests.paths import ROOT

SHIPPED = sorted((ROOT / "infra" / "matrices").glob("*.yaml"))


def test_the_design_s_example_of_a_matrix_is_right(
    right_matrix: dict[str, Any],
    write_matrix: Callable[[dict[str, Any] | str], Path],
    exit_of: Callable[..., tuple[int, str, str]],
) -> None:
    right_matrix["engines"] += [
        {"engine": "transformers"},
        {"engine": "vllm", "version": "0.32.0", "serving": "managed"},
        {
            "engine": "openai",
            "name": "candidate",
            "serving": "external",
            "base_url": "http://127.0.0.1:8000/v1",
            "api_key_env": "CANDIDATE_KEY",
            "dialect": "auto",
        },
    ]
    right_matrix |= {
        "backends": ["cuda", "rocm", "metal", "cpu"],
        "exclude": [{"engine": "vllm", "backend": "metal"}],
        "reference": {"engine": "transformers", "backend": "cpu"},
        "require": ["config", "weights", "template", "tokenize", "logits", "stop"],
        "expected": [
            {
                "engine": "llama_cpp",
                "stage": "tokenize",
                "tags": ["whitespace"],
                "signature": "p1:0",
                "reason": "known",
            }
        ],
        "hardware": {"nvidia-h100-80gb-hbm3": {"usd_per_hour": 2.5, "tdp_w": 700}},
    }
    code, out, err = exit_of("plan", write_matrix(right_matrix))
    assert (code, err) == (0, "")
    assert "an external server keeps its own data type" in out


@pytest.mark.parametrize("path", SHIPPED, ids=[path.stem for path in SHIPPED])
def test_shipped_matrices_hold_only_known_keys_and_are_named_as_their_files(path: Path) -> None:
    assert load_matrix(path)[0].name == path.stem


@pytest.mark.parametrize("dialect", ["auto", *DIALECTS])
def test_every_dialect_that_is_spoken_may_be_named(dialect: str) -> None:
    entry = {"engine": "openai", "base_url": "http://here:8000/v1", "dialect": dialect}
    assert EngineEntry(**entry).dialect == dialect


@pytest.mark.parametrize("engine", DECLARATIONS)
def test_every_engine_that_is_declared_may_be_named(engine: str) -> None:
    """It is served as the engine declares first, where an entry does not say."""
    url = {"base_url": "http://here:8000/v1"} if engine == "openai" else {}
    assert EngineEntry(engine=engine, **url).served == DECLARATIONS[engine].servings[0]


@pytest.mark.parametrize(
    "entry",
    [
        {"engine": "mlx", "options": {"chat_template_args": {"enable_thinking": False}}},
        {"engine": "llama_cpp", "options": {"chat_template_kwargs": {}, "n_ctx": 64}},
        {"engine": "vllm", "options": {"tool_call_parser": "hermes", "enforce_eager": True}},
    ],
)
def test_a_managed_server_takes_its_own_options(entry: dict[str, Any]) -> None:
    given = EngineEntry.model_validate({**entry, "serving": "managed"})
    assert given.options == entry["options"]


@pytest.mark.parametrize("url", ["http://[::1]:8000/v1", "https://models.example", "http://h:/v1"])
def test_an_address_is_taken_as_it_is_written(url: str) -> None:
    assert EngineEntry(engine="openai", base_url=url).base_url == url


def test_a_python_of_an_unknown_user_is_a_path_like_any_other(
    right_matrix: dict[str, Any],
    write_matrix: Callable[[dict[str, Any] | str], Path],
    exit_of: Callable[..., tuple[int, str, str]],
) -> None:
    right_matrix["engines"][0]["python"] = "~nosuchuser/bin/python"
    code, _, err = exit_of("plan", write_matrix(right_matrix))
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("api_key", True),
        ("apiKey", True),
        ("HF_TOKEN", True),
        ("proxyPassword", True),
        ("basic-auth", True),
        ("aws_credentials", True),
        ("client_secret", True),
        ("max_tokens", False),
        ("tokenizer", False),
        ("return_token_ids", False),
        ("eos_token", False),
        ("kv_cache_dtype", False),
        ("monkey", False),
        ("author", False),
    ],
)
def test_names_of_secrets_are_told_from_names_of_tokens(name: str, secret: bool) -> None:
    assert is_secret_name(name) is secret
