"""One order, one engine child: what is recorded, and how every kind of end is named."""

import datetime as dt
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from runner.ending import Ending
from runner.engines.probes.run import FACTS
from runner.engines.protocol import PROTOCOL_VERSION, write_frame
from runner.engines.trace import Trace
from runner.machine import this_machine
from runner.model.known_facts import KnownFacts
from runner.recording import AttemptRecord
from runner.stored.store import Store
from runner.supervisor import Outcome, execute
from suites.suite import Suite
from tests.engines import babbling_llama_cpp, failing_llama_cpp
from tests.paths import ROOT
from tests.runner.conftest import OrderMaker

Rows = list[dict[str, object]]

#: A forward pass of llama.cpp that the logits of the small suite need; 31 are the instrument's.
_IN_LOGITS = 33


def _run(order: object, root: Path) -> tuple[Outcome, Rows, dict[str, object]]:
    (outcome,) = execute(order, str(root))  # type: ignore[arg-type]  # an OrderMaker's product
    store = Store(str(root))
    traces = store.read("20260101-000000-test", "traces")
    (attempt,) = store.read("20260101-000000-test", "attempts")
    return outcome, traces, attempt


def fake_child(folder: Path, frames: list[dict[str, Any]]) -> str:
    """Return an interpreter that writes these frames, whatever it is asked to run."""
    with (folder / "frames").open("wb") as file:
        for frame in frames:
            write_frame(file, frame)
    python = folder / "fake-python"
    python.write_text(f"#!/bin/sh\nexec cat '{folder}/frames'\n")
    python.chmod(0o755)
    return str(python)


def _stages(traces: Rows) -> set[object]:
    return {row["stage"] for row in traces if row["payload_digest"]}


def test_llama_cpp_shows_every_stage_and_its_numbers_are_the_reference_s(
    make_order: OrderMaker, references: str, tmp_path: Path
) -> None:
    outcome, traces, attempt = _run(make_order(references=(references,)), tmp_path)
    assert outcome.status == attempt["status"] == "ok"
    assert _stages(traces) == {
        "instrument",
        "config",
        "weights",
        "template",
        "tokenize",
        "logits",
        "stop",
        "detokenize",
        "parse",
        "chain",
    }
    by_case = {(row["case_id"], row["probe"]): row for row in traces}
    assert by_case["stop/eos", "isolate"]["text"] == "Hello 12"
    assert by_case["detokenize/split", "stream"]["text"] == "😀 東京 done"
    frozen = Store(references).read_file(Store(references).parquet_files("")[0]).to_pylist()
    truth = next(r for r in frozen if r["case_id"] == "logits/hello" and r["probe"] == "decode")
    seen = by_case["logits/hello", "decode"]
    assert seen["ref_topk_logprobs"][0] == pytest.approx(truth["ref_topk_logprobs"][0], abs=1e-4)
    assert {row["stage"] for row in traces if row["observed"] == "not_probed"} == set()


def test_every_planned_case_has_a_row_and_a_lack_of_truth_is_told(
    make_order: OrderMaker, tmp_path: Path
) -> None:
    order = make_order()
    _, traces, attempt = _run(order, tmp_path)
    assert attempt["status"] == "ok"
    answered = {row["case_id"] for row in traces}
    assert {case.id for case in order.cells[0].suite.cases} <= answered
    missed = {row["case_id"]: row["error"] for row in traces if row["probe"] == "*"}
    assert "logits/hello" in missed
    assert "neither golden nor frozen" in str(missed["logits/hello"])


def test_requests_are_timed(make_order: OrderMaker, references: str, tmp_path: Path) -> None:
    _run(make_order(references=(references,)), tmp_path)
    (request,) = Store(str(tmp_path)).read("20260101-000000-test", "requests")
    assert request["ttft_s"] > 0
    assert request["e2el_s"] >= request["ttft_s"] + sum(request["itl_s"]) - 1e-6
    assert len(request["itl_s"]) > 3


@pytest.mark.parametrize(
    ("failure", "status", "signal"),
    [("segfault", "crashed", "SIGSEGV"), ("exit", "crashed", None)],
)
def test_a_crash_is_named_and_what_came_before_is_kept(
    failure: str,
    status: str,
    signal: str | None,
    make_order: OrderMaker,
    references: str,
    tmp_path: Path,
) -> None:
    python = failing_llama_cpp(tmp_path, failure, at_forward=_IN_LOGITS)
    order = make_order(python=python, references=(references,))
    outcome, traces, attempt = _run(order, tmp_path / "results")
    assert outcome.status == attempt["status"] == status
    assert attempt["signal"] == signal
    assert attempt["stage_reached"] == "logits"
    assert {"config", "template", "tokenize"} <= _stages(traces)


def test_a_hang_ends_at_the_deadline_and_leaves_no_process(
    make_order: OrderMaker, references: str, tmp_path: Path
) -> None:
    python = failing_llama_cpp(tmp_path, "hang", at_forward=3)
    order = make_order(python=python, references=(references,), deadline_s=10)
    outcome, traces, attempt = _run(order, tmp_path / "results")
    assert outcome.status == attempt["status"] == "timeout"
    assert "10 s" in str(attempt["error"])
    assert "instrument" in _stages(traces)
    ours = psutil.Process(os.getpid()).children(recursive=True)
    assert not [p for p in ours if "runner/engines" in " ".join(p.cmdline())]


def test_running_out_of_memory_has_its_own_status(
    make_order: OrderMaker, references: str, tmp_path: Path
) -> None:
    python = failing_llama_cpp(tmp_path, "out_of_memory", at_forward=_IN_LOGITS)
    order = make_order(python=python, references=(references,))
    _, _, attempt = _run(order, tmp_path / "results")
    assert attempt["status"] == "oom"


def test_an_environment_that_does_not_exist_is_an_error_that_says_what_to_do(
    make_order: OrderMaker, tmp_path: Path
) -> None:
    outcome, _, attempt = _run(make_order(python="/nowhere/bin/python"), tmp_path)
    assert outcome.status == attempt["status"] == "error"
    assert "/nowhere/bin/python" in str(outcome.error)
    assert "fleetqual doctor" in str(outcome.error)


def test_foreign_output_where_events_belong_is_an_error_not_a_finding(
    make_order: OrderMaker, tmp_path: Path
) -> None:
    outcome, traces, _ = _run(make_order(python=babbling_llama_cpp(tmp_path)), tmp_path / "r")
    assert outcome.status == "error"
    assert "sent an invalid event" in str(outcome.error)
    assert "logits" not in _stages(traces)


_HELLO_FRAME: dict[str, Any] = {"event": "hello", "pid": 1, "protocol": PROTOCOL_VERSION}


@pytest.mark.parametrize(
    ("event", "named"),
    [
        ({"event": "trace", "cell_id": "c1:0123"}, "TraceSeen: field 'trace' is missing"),
        ({"event": "cell_done", "cell_id": "c1:other"}, "cell 'c1:other' was not ordered"),
        ({**_HELLO_FRAME, "protocol": 0}, "protocol 0, not 2"),
        (
            {
                "event": "trace",
                "cell_id": "c1:0123",
                "trace": {"stage": "stop", "case_id": "a", "probe": "b", "prompt_ids": [2**40]},
            },
            "a: prompt_ids.0: Input should be less than",
        ),
    ],
    ids=["no-trace", "other-cell", "other-protocol", "huge-id"],
)
def test_a_malformed_event_ends_the_attempt_with_one_clear_error(
    event: dict[str, Any], named: str, make_order: OrderMaker, tmp_path: Path
) -> None:
    python = fake_child(tmp_path, [_HELLO_FRAME, event])
    outcome, _, attempt = _run(make_order(python=python), tmp_path / "results")
    assert outcome.status == attempt["status"] == "error"
    assert "sent an invalid event" in str(outcome.error)
    assert named in str(outcome.error)


def test_an_order_for_other_source_is_refused(make_order: OrderMaker, tmp_path: Path) -> None:
    outcome, _, _ = _run(make_order(source_digest="0123456789abcdef"), tmp_path)
    assert outcome.status == "error"
    assert "0123456789abcdef" in str(outcome.error)


def test_secrets_do_not_reach_the_child(
    make_order: OrderMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = failing_llama_cpp(tmp_path, "exit", at_forward=1)
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "sys.stderr.write('SEEN ' + os.environ.get('CANDIDATE_KEY', 'nothing'))\n"
        "sys.stderr.flush()\n"
        "os._exit(9)\n"
    )
    monkeypatch.setenv("CANDIDATE_KEY", "sk-very-secret")
    outcome, _, _ = _run(make_order(python=python), tmp_path / "results")
    assert "SEEN nothing" in str(outcome.error)


def test_a_child_ends_when_its_supervisor_is_killed(
    make_order: OrderMaker, references: str, tmp_path: Path
) -> None:
    python = failing_llama_cpp(tmp_path, "hang", at_forward=_IN_LOGITS)
    order = make_order(python=python, references=(references,))
    (tmp_path / "order.json").write_text(order.model_dump_json())
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "runner", str(tmp_path / "order.json"), "--results", str(tmp_path)],
        cwd=ROOT,
    )
    child = _wait_for(lambda: _children(supervisor.pid))
    supervisor.kill()
    supervisor.wait()
    gone, alive = psutil.wait_procs(child, timeout=20)
    assert gone
    assert not alive


def _children(pid: int) -> list[psutil.Process]:
    found = psutil.Process(pid).children(recursive=True)
    return [p for p in found if any("runner/engines" in part for part in p.cmdline())]


def _wait_for(ask: Callable[[], list[psutil.Process]]) -> list[psutil.Process]:
    for _ in range(200):
        if found := ask():
            time.sleep(2)
            return found
        time.sleep(0.1)
    raise AssertionError("the engine child never started")


def test_a_crash_is_noticed_at_once_though_a_worker_holds_the_pipe(
    make_order: OrderMaker, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nsleep 60 &\nkill -SEGV $$\n")
    python.chmod(0o755)
    started = time.monotonic()
    outcome, _, attempt = _run(make_order(python=str(python)), tmp_path / "results")
    assert outcome.status == "crashed"
    assert attempt["signal"] == "SIGSEGV"
    assert time.monotonic() - started < 30


def test_text_that_is_no_unicode_is_stored_and_nothing_else_is_lost(
    make_order: OrderMaker, small_suite: Suite, tmp_path: Path
) -> None:
    order = make_order()
    store = Store(str(tmp_path))
    record = AttemptRecord(order, order.cells[0], store)
    for number, text in enumerate(["before", "half a pair: \ud83d", "after"]):
        record.trace(Trace("stop", "stop/eos", str(number), text=text), KnownFacts({}))
    record.finish()
    record.write(Ending(status="ok"), dt.datetime.now(dt.UTC), None, this_machine())
    rows = store.read(order.run_id, "traces")
    assert [r["text"] for r in rows if r["stage"] == "stop"] == [
        "before",
        "half a pair: \ufffd\ufffd\ufffd",
        "after",
    ]


def test_evidence_is_on_disk_before_the_attempt_ends(
    make_order: OrderMaker, tmp_path: Path
) -> None:
    order = make_order()
    store = Store(str(tmp_path))
    record = AttemptRecord(order, order.cells[0], store)
    for number in range(600):
        record.trace(Trace("stop", "stop/eos", str(number), text="x"), KnownFacts({}))
    assert len(store.read(order.run_id, "traces")) >= 512
    assert store.files(order.run_id, "attempts") == []


def test_an_attempt_that_left_a_fact_or_a_case_unanswered_is_not_ok(
    make_order: OrderMaker, tmp_path: Path
) -> None:
    order = make_order()
    record = AttemptRecord(order, order.cells[0], Store(str(tmp_path)))
    for case in order.cells[0].suite.cases:
        record.trace(Trace(case.stage, case.id, "isolate"), KnownFacts({}))
    record.finish()
    ending = record.completeness.ending()
    assert ending.status == "error"
    assert "config/" in str(ending.error)
    for fact in FACTS:
        record.trace(Trace("config", f"config/{fact}", "fact"), KnownFacts({}))
    assert record.completeness.ending().status == "ok"


def test_a_gguf_taken_as_the_model_has_no_weights_to_be_compared_with(
    make_order: OrderMaker, small_suite: Suite, tmp_path: Path
) -> None:
    few = small_suite.model_copy(update={"cases": small_suite.cases[:1]})
    order = make_order(suite=few)
    taken = order.model.model_copy(update={"gguf_digest": order.variant.artifact_digest})
    outcome, traces, _ = _run(order.model_copy(update={"model": taken}), tmp_path)
    assert outcome.status == "ok"
    (weights,) = (row for row in traces if row["stage"] == "weights")
    assert (weights["case_id"], weights["observed"]) == ("*", "absent")
    assert weights["error"] == "the GGUF was taken as the model: conversion was not checked"
    rows = Store(str(tmp_path)).read("20260101-000000-test", "environment")
    taken = [row["version"] for row in rows if row["name"] == "model_taken_from_gguf"]
    assert taken == [order.variant.artifact_digest[:16]]
