"""An answer among others against the same answer alone: each scenario, both ways."""

import json
from typing import Any

import numpy as np
import pytest

from tests.analysis.arranged import Halves, arranged
from tests.analysis.conftest import Judged
from tests.analysis.handmade import Bench, Cell
from tests.analysis.handmade_state import (
    ANSWER,
    CANARIES,
    FORMS,
    alone_logits,
    among,
    change,
    plan_state,
)
from tests.analysis.handmade_traces import Trace
from tests.analysis.handmade_truth import digest_of, distribution

KINDS = tuple(FORMS)
NUMERIC = tuple(kind for kind in KINDS if kind != "concurrent")


def rows(found: Judged, kind: str, cell: str = "c1:0001") -> dict[int, dict[str, Any]]:
    """Return what `state_compared` says of each form of one scenario, by its repeat."""
    told = found.rows("compared.state", f"cell_id = '{cell}' AND probe = '{kind}'")
    return {row["repeat"]: row for row in told}


def moved(kind: str, from_row: int, by: float = 1.0) -> np.ndarray:
    """Return the logits of being alone, with noise from a row on."""
    logits = alone_logits(kind)
    noise = np.random.default_rng(2).normal(0, by, logits.shape)
    noise[:from_row] = 0
    return logits + noise


def cells(bench: Bench, *names: str) -> dict[str, Cell]:
    bench.cells = [Cell(f"c1:{name}") for name in names]
    return dict(zip(names, bench.cells, strict=True))


@arranged
def test_answers_that_others_do_not_change_are_qualified(bench: Bench) -> Halves:
    plan_state(bench, *KINDS)
    row = (yield).stage("state")
    assert (row["verdict"], row["n"], row["mismatches"]) == ("qualified", 10, 0)
    assert row["effect"] == 0


CHANGED = [
    ("batched", 1, 0, "batched with 1 others, row 1: mean KL"),
    ("chunked", 0, 48, "first differing position 48 (a border of 16)"),
    ("chunked", 1, 64, "first differing position 64 (a border of 64)"),
    ("batched", 0, 32, "first differing position 32 (a border of 32)"),
    ("batched", 0, 33, "first differing position 33"),
    ("prefix", 0, 0, "(48 positions from the cache): mean KL"),
    ("prefix", 0, 48, "first differing position 48 (the first one not from the cache)"),
    ("prefix", 0, 50, "first differing position 50"),
    ("reused", 1, 0, "in the slot of a finished request: mean KL"),
]


@arranged
@pytest.mark.parametrize(("kind", "repeat", "from_row", "says"), CHANGED)
def test_what_others_change_is_divergent_and_says_in_which_form(
    bench: Bench, kind: str, repeat: int, from_row: int, says: str
) -> Halves:
    plan_state(bench, *KINDS)
    change(bench.attempt, kind, repeat, **among(kind, repeat, moved(kind, from_row)))
    found = yield
    row = found.stage("state")
    assert row["verdict"] == "divergent"
    assert row["first_case"] == f"state/{kind}"
    assert says in row["explanation"]
    told = rows(found, kind)
    assert {r for r in told if told[r]["outcome"] == "mismatch"} == {repeat}
    expected = {"prefix": max(from_row, 48)}.get(kind, from_row)
    assert told[repeat]["first_position"] == expected
    assert row["effect"] == told[repeat]["effect"] > 1e-3


@arranged
@pytest.mark.parametrize("seed", range(12))
def test_rounding_within_the_margin_is_never_alarmed(bench: Bench, seed: int) -> Halves:
    """Rounding of 1e-9 to 1e-5 in the logits."""
    size = 10 ** np.linspace(-9, -5, 12)[seed]
    plan_state(bench, "batched")
    logits = alone_logits("batched")
    near = logits + np.random.default_rng(seed).normal(0, size, logits.shape)
    change(bench.attempt, "batched", 1, **among("batched", 1, near))
    assert (yield).verdict("state") == "qualified"


@arranged
def test_without_a_margin_only_equal_bits_agree(bench: Bench) -> Halves:
    known = cells(bench, "equal", "near")
    for cell in known.values():
        cell.pass_, cell.margin = "deployed", None
    plan_state(bench, "chunked")
    change(known["near"].only, "chunked", 0, **among("chunked", 0, moved("chunked", 0, 1e-6)))
    found = yield
    assert found.verdict("state", "c1:equal") == "qualified"
    assert found.verdict("state", "c1:near") == "inconclusive"
    assert "no margin is declared" in found.stage("state", cell="c1:near")["reason"]


@arranged
def test_nan_among_others_is_a_mismatch_and_nan_that_was_there_alone_is_none(
    bench: Bench,
) -> Halves:
    known = cells(bench, "new", "always")
    plan_state(bench, "batched")
    broken = alone_logits("batched")
    broken[40] = np.nan
    change(known["new"].only, "batched", 0, **among("batched", 0, broken, nonfinite=32))
    for trace in known["always"].only.find("state", "state/batched"):
        numbers = ("ref_topk_logprobs", "tail_logprob", "logprobs")
        value = json.loads(trace.columns["value"]) | {"nonfinite": 32}
        whole = distribution(broken, np.array(distribution(alone_logits("batched"))["top_ids"]))
        trace.columns |= {name: whole[name] for name in numbers} | {"value": json.dumps(value)}
    found = yield
    assert found.verdict("state", "c1:new") == "divergent"
    assert "NaN" in found.stage("state", cell="c1:new")["explanation"]
    assert found.verdict("state", "c1:always") == "qualified"


@arranged
def test_nan_of_broken_weights_is_left_to_the_weights(bench: Bench) -> Halves:
    plan_state(bench, "batched")
    broken = alone_logits("batched")
    broken[40] = np.nan
    change(bench.attempt, "batched", 0, **among("batched", 0, broken, nonfinite=32))
    facts = {"type": "F32", "seen_shape": [8], "model_shape": [8], "nonfinite": 3, "mismatched": 3}
    bench.attempt.change("weights", "weights/embed.weight", value=json.dumps(facts))
    found = yield
    assert found.verdict("state") == "qualified"
    assert found.cell()["culprit"] == "weights"


# Concurrency


def answered(bench: Bench, repeat: int, **columns: Any) -> None:
    change(bench.attempt, "concurrent", repeat, **columns)


@arranged
def test_another_conversations_secret_in_any_answer_names_both(bench: Bench) -> Halves:
    plan_state(bench, "concurrent")
    others = [[[1], f"I keep {CANARIES[1]}"], [[1], f"I keep {CANARIES[0]}"]]
    answered(bench, 1, value=json.dumps({"size": 3, "row": 0, "others": others}))
    row = (yield).stage("state")
    assert row["verdict"] == "divergent"
    assert (
        "with 3 at once: the answer to conversation 3 holds the secret of conversation 1"
        in (row["explanation"])
    )
    assert CANARIES[0] in row["explanation"]


@arranged
def test_a_secret_of_another_in_the_own_answer_is_a_mismatch_unless_it_was_there_alone(
    bench: Bench,
) -> Halves:
    known = cells(bench, "leaked", "always")
    plan_state(bench, "concurrent")
    for cell in known.values():
        change(cell.only, "concurrent", 0, text=f"I keep {CANARIES[2]}")
    for trace in known["always"].only.find("state", "state/concurrent", "alone"):
        trace.columns["text"] = f"I keep {CANARIES[2]}"
    found = yield
    assert found.verdict("state", "c1:leaked") == "divergent"
    assert (
        "answer to conversation 1 holds the secret of conversation 3"
        in (found.stage("state", cell="c1:leaked")["explanation"])
    )
    assert found.verdict("state", "c1:always") == "qualified"


@arranged
@pytest.mark.parametrize(
    ("lead", "floors", "verdict"),
    [
        (0.005, 24, "qualified"),
        (0.02, 24, "divergent"),
        (9.0, 24, "divergent"),
        (-0.005, 24, "qualified"),
        (-9.0, 24, "divergent"),
        (-0.2, 0, "inconclusive"),
        (-9.0, 0, "divergent"),
        (0.0005, 0, "qualified"),
        (0.2, 0, "inconclusive"),
        (9.0, 0, "divergent"),
    ],
)
def test_another_token_is_a_tie_within_what_benign_flips_reach(
    bench: Bench, lead: float, floors: int, verdict: str
) -> Halves:
    bench.floors = floors
    plan_state(bench, "concurrent")
    alone = distribution(alone_logits("concurrent", lead))
    bench.attempt.change("state", "state/concurrent", "alone", **alone)
    answered(bench, 0, output_ids=[ANSWER[0], 5, 30, 31])
    found = yield
    assert found.verdict("state") == verdict
    assert "token 2 of the answer is 5, alone it is 29" in str(rows(found, "concurrent")[0])


@arranged
def test_an_answer_that_ends_elsewhere_or_was_not_ranked_alone_is_no_tie(bench: Bench) -> Halves:
    answers = {"shorter": ANSWER[:2], "longer": [*ANSWER, 7], "unranked": [28, 29, 3, 31]}
    known = cells(bench, *answers)
    plan_state(bench, "concurrent")
    for name, cell in known.items():
        change(cell.only, "concurrent", 1, output_ids=answers[name])
    found = yield
    assert [found.verdict("state", f"c1:{name}") for name in answers] == ["divergent"] * 3


# Missing is never a match


@arranged
def test_what_the_engine_does_not_have_is_no_gap_beside_what_it_has(bench: Bench) -> Halves:
    known = cells(bench, "some", "none")
    plan_state(bench, "batched", "chunked")
    for name, kinds in (("some", ["chunked"]), ("none", ["batched", "chunked"])):
        attempt = known[name].only
        for kind in kinds:
            attempt.drop("state", f"state/{kind}")
            attempt.traces.append(absent(kind))
    found = yield
    assert found.verdict("state", "c1:some") == "qualified"
    assert "not shown: state/chunked" in found.stage("state", cell="c1:some")["explanation"]
    assert found.verdict("state", "c1:none") == "not_observed"
    assert found.stage("state", cell="c1:none")["reason"].startswith("absent")


def absent(kind: str, **columns: Any) -> Trace:
    """Return the trace of a scenario that the engine does not have."""
    case_id = f"state/{kind}"
    row = {"case_id": case_id, "case_digest": digest_of(case_id), "stage": "state", "probe": kind}
    return Trace({**row, "observed": "absent", "error": "no such", **columns})


@arranged
def test_a_form_without_a_trace_is_never_a_match(bench: Bench) -> Halves:
    known = cells(bench, *KINDS)
    plan_state(bench, *KINDS)
    for kind, cell in known.items():
        *_, last = cell.only.find("state", f"state/{kind}", kind)
        cell.only.traces.remove(last)
    found = yield
    for kind in KINDS:
        row = found.stage("state", cell=f"c1:{kind}")
        assert row["verdict"] == "inconclusive"
        assert "1 missing" in row["reason"]


@arranged
def test_without_the_answer_alone_nothing_is_compared(bench: Bench) -> Halves:
    known = cells(bench, *KINDS)
    plan_state(bench, *KINDS)
    for kind, cell in known.items():
        cell.only.drop("state", f"state/{kind}", "alone")
    found = yield
    for kind in KINDS:
        assert found.verdict("state", f"c1:{kind}") == "inconclusive"
        outcomes = {row["outcome"] for row in rows(found, kind, f"c1:{kind}").values()}
        assert not outcomes & {"match", "mismatch"}


@arranged
def test_a_scenario_that_raised_is_never_a_match(bench: Bench) -> Halves:
    plan_state(bench, "batched", "reused")
    bench.attempt.drop("state", "state/reused", "reused")
    failed = absent("reused", probe="*", observed="path", error="boom")
    bench.attempt.traces.append(failed)
    row = (yield).stage("state")
    assert row["verdict"] == "inconclusive"
    assert "boom" in row["reason"]


@arranged
def test_a_cache_that_gave_nothing_shows_nothing(bench: Bench) -> Halves:
    plan_state(bench, "prefix")
    columns = among("prefix", 0, alone_logits("prefix"), cached=0, start=0)
    change(bench.attempt, "prefix", 0, **columns)
    assert (yield).verdict("state") == "not_observed"


@arranged
def test_another_sequence_or_no_numbers_are_no_evidence(bench: Bench) -> Halves:
    known = cells(bench, "sequence", "numbers")
    plan_state(bench, "batched")
    change(known["sequence"].only, "batched", 0, prompt_ids=[1, 2])
    change(known["numbers"].only, "batched", 0, tail_logprob=None, ref_topk_logprobs=None)
    found = yield
    assert [found.verdict("state", f"c1:{name}") for name in known] == ["inconclusive"] * 2


@arranged
def test_rows_beyond_those_alone_are_no_evidence(bench: Bench) -> Halves:
    plan_state(bench, "prefix")
    for trace in bench.attempt.find("state", "state/prefix", "prefix"):
        trace.columns["value"] = json.dumps({"cached": 60, "start": 60, "nonfinite": 0})
    row = (yield).stage("state")
    assert row["verdict"] == "inconclusive"
    assert "positions from 60" in row["reason"]


@arranged
def test_a_declared_bound_excuses_what_others_change(bench: Bench) -> Halves:
    plan_state(bench, "batched")
    change(bench.attempt, "batched", 0, **among("batched", 0, moved("batched", 0, 0.05)))
    bench.expected = [{"stage": "state", "bound": 0.1, "reason": "known batch kernel"}]
    assert (yield).verdict("state") == "expected"
