"""Servers that fail, through the real supervisor: an error, its reason, in time, and no more."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from runner.order import CellOrder, WorkOrder
from runner.stored.store import Store
from runner.supervisor import Outcome, execute
from suites.suite import Case, Golden, Suite
from tests.runner.conftest import OrderMaker
from tests.runner.engines.servers import fake_servers as fakes
from tests.runner.engines.servers.fake_servers import FakeHandler, FakeOpenAI, Misbehaviour, serving

KEY = 'sk-"Qu0ted"-and-not-to-be-told'
_KEY_ENV = "CANDIDATE"  # nothing in this name says what it holds
_DEADLINE_S = 40.0
_REQUEST_S = 1.5

#: What goes wrong, and what the attempt's error must say.
FAILURES: dict[str, tuple[Misbehaviour, str]] = {
    "hangs": (fakes.hanging, "had no end within 1.5 s"),
    "streams for ever": (fakes.streaming_for_ever, "had no end within 1.5 s"),
    "sends no line": (fakes.without_newline, "had no end within 1.5 s"),
    "sends headers for ever": (fakes.slow_headers, "had no end within 1.5 s"),
    "dies": (fakes.dying(after=3), "ConnectionRefused"),
    "answers 500": (fakes.answering({"error": "out of cheese"}, 500), "HTTP 500: out of cheese"),
    "answers html": (fakes.answering(b"<html>hello</html>"), "no JSON came from chat/completions"),
    "has no choices": (fakes.answering({"choices": None}), "choices is null"),
    "lists usage": (fakes.answering({"choices": [{"text": "7"}], "usage": []}), "usage is a list"),
    "answers NaN": (fakes.answering(b'{"choices": NaN}'), "NaN is no number of JSON"),
    "nests deeply": (fakes.answering(b"[" * 100_000), "no JSON came"),
    "closes streams": (fakes.closing_mid_stream, "closed before its end"),
    "closes answers": (fakes.closing_mid_answer, "the answer broke off: IncompleteRead"),
    "sends too much": (fakes.huge, "over 256 MiB"),
    "redirects": (fakes.answering({}, 307, Location="http://127.0.0.1:9/"), "is not followed"),
    "knows no key": (fakes.answering({"error": "who are you"}, 401), "api_key_env"),
}


@dataclass(frozen=True)
class Attempt:
    """What one order left behind."""

    outcome: Outcome
    row: dict[str, Any]
    traces: list[dict[str, Any]]


@pytest.fixture(scope="module")
def suite() -> Suite:
    """Chats whose truth is written down."""
    golden = Golden(text=fakes.TEXT, finish_reason="stop")
    return Suite(
        name="chats",
        version=1,
        requires=("chain",),
        cases=tuple(
            Case(
                id=f"chain/{number}",
                stage="chain",
                messages=({"role": "user", "content": f"Question {number}"},),
                golden=golden,
            )
            for number in range(5)
        ),
    )


@pytest.fixture(scope="module")
def make(make_order: OrderMaker, suite: Suite) -> Callable[..., WorkOrder]:
    """Return a maker of orders for an external server."""

    def order(base_url: str, name: str = "candidate", **engine: Any) -> WorkOrder:
        made = make_order(
            "openai",
            python=sys.executable,
            suite=suite,
            deadline_s=_DEADLINE_S,
            options={"request_timeout_s": _REQUEST_S},
            pass_="deployed",
        )
        more = {"serving": "external", "base_url": base_url, "dialect": "plain", **engine}
        cell = CellOrder(cell_id=f"c1:{name}", series_id=f"s1:{name}", suite=suite)
        changed = replace(made.engine, **more)
        return made.model_copy(update={"engine": changed, "cells": (cell,), "run_id": f"r-{name}"})

    return order


def _run(order: WorkOrder, root: Path) -> Attempt:
    (outcome,) = execute(order, str(root))
    store = Store(str(root))
    (row,) = store.read(order.run_id, "attempts")
    return Attempt(outcome, row, store.read(order.run_id, "traces"))


@pytest.fixture(scope="module")
def groups() -> Iterator[list[int]]:
    """Collect the process groups of all engine children."""
    found: list[int] = []
    real = subprocess.Popen

    class Watched(real):  # type: ignore[misc,valid-type]  # generic in what it reads
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            found.append(self.pid)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runner.process.subprocess.Popen", Watched)
        yield found


@pytest.fixture(scope="module")
def attempts(
    make: Callable[..., WorkOrder], groups: list[int], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Attempt]:
    """Run all of them, some at a time: they mostly wait."""
    root = tmp_path_factory.mktemp("misbehaving")

    def run(name: str) -> Attempt:
        misbehave, _ = FAILURES[name]
        with serving(FakeOpenAI(misbehave)) as server:
            return _run(make(server.base_url, name.replace(" ", "-")), root)

    with ThreadPoolExecutor(4) as pool:
        return dict(zip(FAILURES, pool.map(run, FAILURES), strict=True))


@pytest.mark.parametrize("name", FAILURES)
def test_a_server_that_fails_makes_an_error_with_its_reason(
    name: str, attempts: dict[str, Attempt]
) -> None:
    attempt = attempts[name]
    assert attempt.outcome.status == attempt.row["status"] == "error"
    assert FAILURES[name][1] in str(attempt.row["error"])
    assert attempt.outcome.duration_s < _DEADLINE_S / 2


def test_no_process_is_left_of_any_of_them(attempts: dict[str, Attempt], groups: list[int]) -> None:
    assert len(groups) >= len(attempts)
    left = [p for p in psutil.process_iter() if _group(p.pid) in groups]
    assert left == []


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def test_nobody_listening_is_an_error_at_once(
    make: Callable[..., WorkOrder], tmp_path: Path
) -> None:
    attempt = _run(make(fakes.closed_port()), tmp_path)
    assert attempt.row["status"] == "error"
    assert "no server answers at" in str(attempt.row["error"])
    assert not [row for row in attempt.traces if row["stage"] == "chain"]


def test_what_is_refused_or_fails_once_is_that_case_s_error_alone(
    make: Callable[..., WorkOrder], tmp_path: Path
) -> None:
    def picky(handler: FakeHandler, _number: int) -> bool:
        told = str(handler.asked["messages"])
        if "Question 1" in told:
            handler.answer({"error": {"message": "too long a question"}}, 400)
        elif "Question 3" in told:
            handler.answer({"error": {"message": "no such template"}}, 500)
        return "Question 1" in told or "Question 3" in told

    with serving(FakeOpenAI(picky)) as server:
        attempt = _run(make(server.base_url), tmp_path)
    assert attempt.row["status"] == "ok"
    errors = {row["case_id"]: row["error"] for row in attempt.traces if row["stage"] == "chain"}
    assert "HTTP 400: too long a question" in errors.pop("chain/1")
    assert "HTTP 500: no such template" in errors.pop("chain/3")
    assert set(errors.values()) == {None}


def test_a_server_that_is_busy_for_a_while_succeeds(
    make: Callable[..., WorkOrder], tmp_path: Path
) -> None:
    def busy(handler: FakeHandler, number: int) -> bool:
        if number % 3 < 2:
            handler.answer({"error": "slow down"}, 429, Retry_After="0.01")
        return number % 3 < 2

    with serving(FakeOpenAI(busy)) as server:
        attempt = _run(make(server.base_url), tmp_path)
    assert attempt.row["status"] == "ok"
    assert {row["text"] for row in attempt.traces if row["stage"] == "chain"} == {fakes.TEXT}


def test_hostile_texts_are_stored_and_hurt_nothing(
    make: Callable[..., WorkOrder], tmp_path: Path
) -> None:
    body = (
        b'{"id": "\\ud800", "choices": [{"finish_reason": "\\udfff", "message": {"role": "a",'
        b' "content": "half \\ud83d", "tool_calls": [{"function": {"name": "\\ud83d",'
        b' "arguments": "{\\"a\\": \\"\\\\ud83d\\"}"}}]}}]}'
    )
    with serving(FakeOpenAI(fakes.answering(body))) as server:
        attempt = _run(make(server.base_url), tmp_path)
    wholes = [row for row in attempt.traces if row["probe"] == "whole"]
    assert {row["text"] for row in wholes} == {"half \ufffd"}
    assert {row["finish_reason"] for row in wholes} == {"\ufffd"}


def _echoing(handler: FakeHandler, number: int) -> bool:
    """Repeat the key in every kind of answer."""
    if number == 1:
        handler.answer({"error": {"message": "x" * 285 + f"bad key {handler.key}"}}, 400)
    return number == 1


def test_the_key_is_stored_nowhere(
    make: Callable[..., WorkOrder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(_KEY_ENV, KEY)
    server = FakeOpenAI(_echoing)
    server.text = lambda handler: f"your key is {handler.key}, or {handler.key[:9]}…"
    server.answers["/v1/models"] = lambda handler: {"data": [{"id": handler.key}]}
    with serving(server):
        attempt = _run(make(server.base_url, api_key_env=_KEY_ENV), tmp_path)
    assert {key for _, key in server.asked} == {KEY}
    assert attempt.row["status"] == "ok"
    texts = {row["text"] for row in attempt.traces if row["probe"] in ("whole", "stream")}
    assert f"your key is [API key], or {KEY[:9]}…" in texts
    shown = [*_values(attempt.traces), *_values(attempt.row), *capfd.readouterr()]
    forms = (KEY, KEY.replace('"', '\\"'), KEY.replace('"', '\\\\"'))
    for form in forms:
        assert not [text for text in shown if form in text]
        for file in (f for f in tmp_path.rglob("*") if f.is_file()):
            assert form.encode() not in file.read_bytes()


def _values(value: Any) -> list[str]:
    """List every text in nested rows."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in _values(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in _values(item)]
    return [str(value)]


def test_the_key_s_variable_reaches_no_child(
    make: Callable[..., WorkOrder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the key under any other name: a managed server inherits the child's variables."""
    seen = tmp_path / "seen"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nenv > {seen}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv(_KEY_ENV, KEY)
    with serving(FakeOpenAI()) as server:
        order = make(server.base_url, api_key_env=_KEY_ENV, python=str(python))
        assert _run(order, tmp_path / "results").row["status"] == "ok"
    assert {key for _, key in server.asked} == {KEY}
    assert KEY not in seen.read_text()


def test_a_missing_key_is_named_before_anything_is_asked(
    make: Callable[..., WorkOrder], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(serving(FakeOpenAI()))
        attempt = _run(make(server.base_url, api_key_env="NO_SUCH_KEY"), tmp_path)
    assert attempt.row["status"] == "error"
    assert "NO_SUCH_KEY" in str(attempt.row["error"])
    assert server.asked == []
