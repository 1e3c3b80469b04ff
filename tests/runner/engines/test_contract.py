"""What every engine promises, however it is served: facts, or an honest word why there are none.

Each runs the same small suite through the real supervisor, on the shipped model.
"""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from runner.engines.registry import DECLARATIONS, shown_as
from runner.supervisor import execute
from suites.stages import CHAIN, STAGES, Serving
from tests.runner.conftest import OrderMaker

_WITH_ENGINES = pytest.mark.engines
SERVED = [
    ("transformers", "in_process"),
    ("llama_cpp", "in_process"),
    ("llama_cpp", "managed"),
    ("mlx", "in_process"),
    ("mlx", "managed"),
    pytest.param(("vllm", "in_process"), marks=_WITH_ENGINES),
    pytest.param(("vllm", "managed"), marks=_WITH_ENGINES),
]
_OBSERVED = {"path", "endpoint", "reenacted"}
_CONTENT = ("prompt_text", "prompt_ids", "output_ids", "text", "message", "value", "logprobs")


class Evidence:
    """What one attempt left behind."""

    def __init__(self, engine: str, serving: Serving, results: Path, status: str) -> None:
        self.engine, self.serving, self.status = engine, serving, status
        run = results / "runs" / "20260101-000000-test"
        self.traces = _rows(run / "traces")
        (self.attempt,) = _rows(run / "attempts")
        self.environment = _rows(run / "environment")

    @property
    def declared(self) -> dict[str, str]:
        """What the engine says beforehand that it shows."""
        shown = shown_as(self.engine, self.serving)
        assert shown is not None
        return shown.stages


@pytest.fixture(scope="module", params=SERVED, ids=lambda served: "-".join(served))
def evidence(
    request: pytest.FixtureRequest,
    make_order: OrderMaker,
    references: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Evidence:
    engine, serving = request.param
    results = tmp_path_factory.mktemp(f"{engine}-{serving}")
    order = make_order(
        engine,
        serving=serving,
        references=(references,),
        pass_="structure" if serving == "in_process" else "deployed",
        deadline_s=300,
    )
    (outcome,) = execute(order, str(results))
    return Evidence(engine, serving, results, f"{outcome.status}: {outcome.error}")


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [
        row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def test_the_attempt_is_ok_and_says_what_ran(evidence: Evidence) -> None:
    assert evidence.status == "ok: None"
    assert evidence.attempt["engine_version"] not in (None, "", "unknown")
    named = {row["name"].lower() for row in evidence.environment if row["kind"] == "package"}
    packages = {name.replace("_", "-") for name in named}
    assert packages & set(DECLARATIONS[evidence.engine].packages)


def test_every_stage_is_seen_as_declared_or_says_why_not(evidence: Evidence) -> None:
    for stage in (*STAGES, CHAIN):
        seen = {row["observed"] for row in evidence.traces if row["stage"] == stage}
        declared = evidence.declared[stage]
        assert declared in seen or stage in ("state", "sampling"), stage
        assert seen <= {declared, "hidden", "absent"}, stage


def test_a_stage_that_is_shown_has_facts(evidence: Evidence) -> None:
    unasked = {"state", "sampling"}  # the small suite has no case for these
    declared = {(stage, how) for stage, how in evidence.declared.items() if how in _OBSERVED}
    shown = {(r["stage"], r["observed"]) for r in evidence.traces if _has_content(r)}
    assert (CHAIN, evidence.declared[CHAIN]) in declared
    assert {(stage, how) for stage, how in declared if stage not in unasked} <= shown


def test_no_trace_is_empty_without_a_reason(evidence: Evidence) -> None:
    for row in evidence.traces:
        explained = row["observed"] not in _OBSERVED or row["error"]
        assert _has_content(row) or explained, (row["stage"], row["case_id"], row["probe"])


def test_nothing_fails_that_could_be_told_as_unseen(evidence: Evidence) -> None:
    failed = [
        (row["case_id"], row["probe"], row["error"])
        for row in evidence.traces
        if row["error"] and row["observed"] in _OBSERVED
    ]
    assert failed == []


def test_the_chain_answers_alike_whole_and_streamed(evidence: Evidence) -> None:
    (whole,) = [r for r in evidence.traces if r["stage"] == CHAIN and r["probe"] == "whole"]
    streams = [r for r in evidence.traces if r["stage"] == CHAIN and r["probe"] == "stream"]
    # What a server takes for thinking is no content.
    assert whole["text"] or "reasoning_content" in whole["message"]
    assert [row["text"] for row in streams] == [whole["text"]]


def _has_content(row: dict[str, Any]) -> bool:
    return any(row[name] is not None for name in _CONTENT)
