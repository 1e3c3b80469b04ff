"""Declared differences of a plan: rules become outputs by case, for each model and suite."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.matrix.resolve import resolve
from cluster.planning.expected_outputs import expected_outputs
from cluster.planning.node import Node
from cluster.planning.planner import make_plan
from cluster.planning.selection import parse_selection
from runner.stored.canonical import output_digest
from tests.paths import ROOT, TINY_CHAT

Write = Callable[[dict[str, Any] | str], Path]
Expand = Callable[..., list[dict[str, Any]]]

CASES: list[dict[str, Any]] = [
    {"id": "tokenize/plain", "stage": "tokenize", "text": "caf\u00e9"},
    {"id": "tokenize/nfd", "stage": "tokenize", "text": "cafe\u0301", "tags": ["nfd"]},
    {
        "id": "template/parts",
        "stage": "template",
        "messages": [{"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}],
    },
    {"id": "stop/one", "stage": "stop", "script": {"text": "The river", "eos": 1}, "stop": ["iv"]},
    {
        "id": "stop/two",
        "stage": "stop",
        "script": {"text": "The river", "eos": 1},
        "stop": ["er", "iv"],
    },
    {
        "id": "parse/call",
        "stage": "parse",
        "script": {"text": "<tool_call>x</tool_call>", "eos": 1},
        "golden": {
            "message": {"tool_calls": [{"name": "x", "arguments": "{}"}]},
            "finish_reason": "tool_calls",
        },
    },
    {
        "id": "parse/text",
        "stage": "parse",
        "script": {"text": "Hello", "eos": 1},
        "golden": {"message": {"content": "Hello"}, "finish_reason": "stop"},
    },
    {
        "id": "sampling/plain",
        "stage": "sampling",
        "text": "The",
        "measure": "draws",
        "asked": {"temperature": 1},
    },
]


@pytest.fixture
def expand(right_matrix: dict[str, Any], write_matrix: Write, tmp_path: Path) -> Expand:
    """Return what a plan stores of these declared differences."""

    def expanded(*entries: dict[str, Any], hf: Path = TINY_CHAT, only: str | None = None) -> Any:
        suite = {"name": "own", "version": 1, "requires": ["stop"], "cases": CASES}
        suite["golden_for"] = "models/tiny-chat"
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
        right_matrix["suites"] = ["own.yaml"]
        right_matrix["models"][0]["hf"] = str(hf)
        right_matrix["expected"] = [{"reason": "known", **entry} for entry in entries]
        node = Node(id="n", hardware={"cpu": "amd-epyc"}, cpus=2)
        plan = make_plan(resolve(write_matrix(right_matrix)), (node,), parse_selection(only))
        return expected_outputs(plan, ())

    return expanded


def entry(stage: str, rule: str, **more: Any) -> dict[str, Any]:
    return {"engine": "llama_cpp", "stage": stage, "rule": rule, **more}


def test_a_rule_covers_the_cases_that_it_changes(expand: Expand) -> None:
    (found,) = expand(entry("tokenize", "no_normaliser", versions=">=0.3"))
    assert list(found["signature"]) == ["tokenize/nfd"]
    assert (found["engine"], found["model"], found["suite"]) == ("llama_cpp", "tiny-chat", "own")
    assert (found["versions"], found["reason"]) == (">=0.3", "known")


@pytest.mark.parametrize(
    ("stage", "rule", "case", "outputs"),
    [
        (
            "stop",
            "first_stop_string_wins",
            "stop/two",
            [{"text": "The riv", "finish_reason": "stop"}],
        ),
        (
            "parse",
            "calls_as_text",
            "parse/call",
            [
                {
                    "message": {
                        "content": "<tool_call>x</tool_call>",
                        "reasoning_content": "",
                        "tool_calls": [],
                    },
                    "finish_reason": "stop",
                }
            ],
        ),
        (
            "template",
            "content_parts_as_list",
            "template/parts",
            [
                "<|bos|><|role|>assistant<|body|>\n\n[{'type': 'text', 'text': 'Hi'}]<|turn_end|>"
                "<|role|>assistant<|body|>\n\n"
            ],
        ),
    ],
)
def test_a_rule_computes_what_the_engine_gives(
    stage: str, rule: str, case: str, outputs: list[Any], expand: Expand
) -> None:
    (found,) = expand(entry(stage, rule))
    assert found["signature"] == {case: [output_digest(stage, output) for output in outputs]}


def test_sampling_defaults_become_the_sampler_of_each_case(expand: Expand) -> None:
    (found,) = expand(
        entry("sampling", "sampler_defaults", values={"temperature": 0.8, "top_k": 40})
    )
    assert found["sampler"] == {"sampling/plain": [{"temperature": 1.0, "top_k": 40}]}
    assert "signature" not in found


@pytest.mark.parametrize(
    "scope",
    [
        {"cases": ["tokenize/plain"]},
        {"serving": "managed"},
        {"cases": ["tokenize/nfd"], "tags": ["nfd"], "serving": "external"},
    ],
)
def test_an_entry_that_changes_nothing_in_its_scope_is_left_out(
    scope: dict[str, Any], expand: Expand
) -> None:
    assert expand(entry("tokenize", "no_normaliser", **scope)) == []


def test_cases_that_are_not_run_are_left_out(expand: Expand) -> None:
    assert expand(entry("tokenize", "no_normaliser"), only="case=tokenize/plain") == []


def test_a_model_without_a_normaliser_has_no_such_difference(
    expand: Expand, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(TINY_CHAT, folder, ignore=shutil.ignore_patterns("*.gguf", "*.py"))
    body = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**body, "normalizer": None}))
    assert expand(entry("tokenize", "no_normaliser"), hf=folder) == []


def test_a_rule_whose_output_is_the_truth_declares_nothing(expand: Expand) -> None:
    """Without golden answers the reference is the truth, with all its habits."""
    (case,) = [c for c in CASES if c["id"] == "stop/one"]
    kept = entry("stop", "stop_string_kept", cases=["stop/one"])
    (found,) = expand(kept)
    assert list(found["signature"]) == ["stop/one"]
    case["golden"] = {"text": "The river", "finish_reason": "stop"}
    try:
        assert expand(kept) == []
    finally:
        del case["golden"]


def test_a_signature_of_another_model_is_left_out(expand: Expand) -> None:
    measured = {"engine": "llama_cpp", "stage": "stop", "signature": "p1:a"}
    own, other = "models/tiny-chat", "models/of-nobody"
    found = expand({**measured, "written_for": own}, {**measured, "written_for": other}, measured)
    assert [(e["written_for"], e.get("model")) for e in found] == [(own, "tiny-chat"), (None, None)]


def test_every_shipped_signature_says_for_which_model_it_was_measured() -> None:
    files = sorted((ROOT / "infra" / "expected").glob("*.yaml"))
    entries = [e for file in files for e in yaml.safe_load(file.read_text())["expected"]]
    assert len(files) == 4
    assert [e for e in entries if "rule" not in e and "written_for" not in e] == []
