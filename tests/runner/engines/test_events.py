"""Orders and events on the wire: they arrive as they were sent, and nothing malformed is taken."""

import io
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.engines import base
from runner.engines.base import Load
from runner.engines.engine import Engine
from runner.engines.events import (
    CellDone,
    Done,
    EngineLoaded,
    Event,
    EventWriter,
    Failed,
    Hello,
    StageStarted,
    TraceSeen,
    event_of,
)
from runner.engines.orders import (
    CellInput,
    ChildOrder,
    Infection,
    Truth,
    read_order,
    write_order,
)
from runner.engines.protocol import PROTOCOL_VERSION, Arrays, ProtocolError, read_frame, write_frame
from runner.engines.trace import Timing, Trace
from runner.truth import question
from suites.loading import SHIPPED, load_suite
from suites.stages import CHAIN, STAGES

_LOADED: dict[str, Any] = {
    "event": "loaded",
    "load_s": 1,
    "engine_version": "1",
    "engine_build": "b",
    "compute_dtype": "f32",
    "kv_dtype": "f32",
    "stages": {"chain": "path"},
}
_TRACE: dict[str, Any] = {"stage": "stop", "case_id": "a", "probe": "isolate"}


def _sent(event: Event, secret: str | None = None) -> Event:
    stream = io.BytesIO()
    EventWriter(stream, secret).write(event)
    stream.seek(0)
    frame = read_frame(stream)
    assert frame is not None
    return event_of(*frame)


def test_the_child_knows_the_stages_of_the_suites() -> None:
    assert (*STAGES, CHAIN) == base.STAGES


@pytest.mark.parametrize(
    "event",
    [
        Hello(1),
        StageStarted("load"),
        StageStarted("stop", "c1:1"),
        EngineLoaded(
            0.5, "1", "b", "f32", "f32", {"chain": "path"}, ["u"], {"n": [1]}, [("a",) * 3]
        ),
        CellDone("c1:1"),
        Failed("oom", "no room"),
        Done(),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_arrives_as_it_was_sent(event: Event) -> None:
    assert _sent(event) == event


@given(
    st.builds(
        Trace,
        stage=st.sampled_from(base.STAGES),
        case_id=st.text(),
        probe=st.text(),
        prompt_ids=st.none() | st.lists(st.integers()),
        text=st.none() | st.text(),
        message=st.none() | st.dictionaries(st.text(), st.none() | st.lists(st.text())),
        timing=st.none()
        | st.builds(Timing, itl_s=st.lists(st.floats(0, 9)), e2el_s=st.floats(0, 9)),
        unseen=st.sampled_from([None, "hidden", "absent"]),
        arrays=st.just({}),
    )
)
def test_a_trace_arrives_as_it_was_sent(trace: Trace) -> None:
    assert _sent(TraceSeen("c1:1", trace)) == TraceSeen("c1:1", trace)


def test_the_arrays_of_a_trace_arrive_with_it() -> None:
    arrays: Arrays = {
        "logprobs": np.array([0.5, -1.0], np.float32),
        "top_ids": np.array([[1, 2], [3, 4]], np.int32),
    }
    event = _sent(TraceSeen("c1:1", Trace("logits", "a", "prefill", arrays=arrays)))
    assert isinstance(event, TraceSeen)
    assert event.trace.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(event.trace.arrays[name], array)


def test_a_key_is_taken_out_of_every_text_of_an_event() -> None:
    trace = Trace("chain", "a", "whole", text="key sk-secret", message={"sk-secret": ["sk-secret"]})
    event = _sent(TraceSeen("c1:1", replace(trace, error="sk-secret")), secret="sk-secret")
    assert "sk-secret" not in repr(event)
    assert repr(event).count("[API key]") == 4


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ({}, "no event is called None"),
        ({"event": ["trace"]}, "no event is called"),
        ({"event": "hello", "pid": 1, "protocol": PROTOCOL_VERSION - 1}, "protocol 1, not 2"),
        ({"event": "hello", "protocol": PROTOCOL_VERSION}, "Hello: field 'pid' is missing"),
        ({"event": "stage", "stage": 3}, "StageStarted.stage: expected str, found int 3"),
        ({"event": "done", "more": 1}, "Done: unknown field 'more'"),
        ({"event": "failed", "kind": "bored", "error": ""}, "Failed.kind"),
        ({**_LOADED, "load_s": True}, "EngineLoaded.load_s: expected float, found bool"),
        ({**_LOADED, "stages": {"chain": "seen"}}, "no stage is seen 'seen'"),
        ({**_LOADED, "stages": []}, "EngineLoaded.stages: expected dict"),
        ({**_LOADED, "environment": [["a", "b"]]}, r"EngineLoaded.environment\[0\]"),
        ({"event": "trace", "cell_id": "c"}, "TraceSeen: field 'trace' is missing"),
        ({"event": "trace", "cell_id": "c", "trace": [1]}, "TraceSeen.trace: expected dict"),
    ],
)
def test_a_malformed_event_is_one_error_that_names_the_field(
    header: dict[str, Any], named: str
) -> None:
    with pytest.raises(ProtocolError, match=named):
        event_of(header, {})


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("stage", "thinking", "unknown stage 'thinking'"),
        ("value", [1], "TraceSeen.trace.value: expected dict, found list"),
        ("prompt_ids", [1, "2"], r"TraceSeen.trace.prompt_ids\[1\]: expected int, found str '2'"),
        ("prompt_ids", [1, True], "expected int, found bool"),
        ("message", "hello", "TraceSeen.trace.message: expected dict"),
        ("unseen", "lost", "TraceSeen.trace.unseen"),
        ("timing", {"itl_s": [], "e2el_s": None}, "TraceSeen.trace.timing.e2el_s"),
        ("arrays", {}, "unknown field 'arrays'"),
    ],
)
def test_a_malformed_trace_is_one_error_that_names_the_field(
    field: str, value: Any, named: str
) -> None:
    header = {"event": "trace", "cell_id": "c", "trace": {**_TRACE, field: value}}
    with pytest.raises(ProtocolError, match=named):
        event_of(header, {})


@pytest.mark.parametrize(
    "arrays",
    [
        {"case_id": np.zeros(1, np.float32)},
        {"logprobs": np.zeros((1, 1), np.float32)},
        {"top_ids": np.zeros((1, 1), np.float32)},
        {"tail_logprob": np.zeros(1, np.int32)},
    ],
)
def test_an_array_that_no_trace_has_is_refused(arrays: Arrays) -> None:
    with pytest.raises(ProtocolError, match="is not expected"):
        event_of({"event": "trace", "cell_id": "c", "trace": _TRACE}, arrays)


def test_only_traces_carry_arrays() -> None:
    with pytest.raises(ProtocolError, match="carries no arrays"):
        event_of({"event": "done"}, {"logprobs": np.zeros(1, np.float32)})


# Orders


def _order() -> ChildOrder:
    cases = [
        replace(question(case), truth=Truth(prompt_ids=[1, 2], beside_ids=[([1], [2])]))
        for path in sorted(SHIPPED.glob("*.yaml"))
        for case in load_suite(path.stem, SHIPPED).cases
    ]
    assert {case.stage for case in cases} >= {"state", "sampling", "parse", "chain"}
    cases[0] = replace(cases[0], infections=[Infection("infect/logits", script=[3])])
    engine = Engine("e", "llama_cpp", options={"n_ctx": 8, "rope": [1, 2]}, fault={"at": "stop"})
    return ChildOrder(Load("model", "cpu", "deployed", "f32", engine), [CellInput("c1:1", cases)])


def test_an_order_with_every_shipped_case_arrives_as_it_was_sent() -> None:
    order, stream = _order(), io.BytesIO()
    write_order(stream, order)
    stream.seek(0)
    found = read_order(stream)
    assert found == order
    # The order of keys is part of the question: a template prints tools as they come.
    assert repr(found) == repr(order)
    assert read_order(stream) is None


def test_an_order_with_an_unknown_field_is_refused() -> None:
    stream = io.BytesIO()
    write_frame(stream, {"order": {**asdict(ChildOrder(_order().load, [])), "haste": 1}})
    stream.seek(0)
    with pytest.raises(ProtocolError, match="ChildOrder: unknown field 'haste'"):
        read_order(stream)
