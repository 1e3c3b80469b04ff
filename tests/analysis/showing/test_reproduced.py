"""One case run again: whether it differs again, and how that is said."""

from typing import Any

import pytest

from analysis.showing.output import console
from analysis.showing.reproduced import (
    as_data,
    exit_code,
    outputs_of,
    paired,
    print_reproduced,
    verdict_of,
)
from tests.analysis.arranged import Halves, arranged
from tests.analysis.handmade import Bench


def row(seen: str | None, **more: Any) -> dict[str, Any]:
    """Return one compared output whose truth is ``right``."""
    own = {"stage": "detokenize", "probe": "whole", "repeat": 0, "effect": None, "detail": None}
    differs = seen is not None and seen != "right"
    outcome = "mismatch" if differs else "match"
    return {**own, "expected": "right", "seen": seen, "differs": differs, "outcome": outcome} | more


GONE = row(None, outcome="error", detail="the child died")


@pytest.mark.parametrize(
    ("now", "code", "said"),
    [
        ([row("wrong")], 1, "reproduced: 1 of 1 outputs differ again, with the same output"),
        ([row("other")], 1, "reproduced: 1 of 1 outputs differ again, 0 with the same output"),
        ([row("right")], 0, "not reproduced: all 1 outputs agree now"),
        ([GONE], 3, "not reproduced: 1 of 1 outputs were not compared: the child died"),
        ([], 3, "not reproduced: 1 of 1 outputs were not compared: the new run brought no output"),
        ([row("wrong", probe="stream")], 3, "not reproduced: 1 of 1 outputs were not compared"),
    ],
)
def test_a_case_is_reproduced_where_it_differs_again(
    now: list[dict[str, Any]], code: int, said: str
) -> None:
    outputs = paired([row("wrong"), row("right", probe="stream")], now)
    assert exit_code(outputs) == code
    assert verdict_of(outputs).startswith(said)
    assert as_data(outputs)["reproduced"] is {1: True, 0: False, 3: None}[code]


def test_both_sides_are_shown_then_and_now(capsys: pytest.CaptureFixture[str]) -> None:
    print_reproduced(console(), "case a", paired([row("wrong\x1b")], [row("other")]))
    flat = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "⟦right⟧ ⟦wrong\\u{001b}⟧ ⟦other⟧" in flat


@arranged
def test_the_outputs_of_a_case_are_those_that_were_judged(bench: Bench) -> Halves:
    bench.attempt.change("tokenize", "tokenize/nfd", prompt_ids=[1, 9])
    bench.attempt.fact("rope_theta", 10000.0)
    found = yield
    cell = found.cell()
    states = {
        case: [o["differs"] for o in outputs_of(found.catalog, cell, case)]
        for case in ("tokenize/nfd", "tokenize/ascii", "config/rope_theta", "none")
    }
    assert states == {
        "tokenize/nfd": [True],
        "tokenize/ascii": [False],
        "config/rope_theta": [True],
        "none": [],
    }
