"""The self-test end to end, on real engines: a few faults of each depth, and two controls.

What a stranger reads of ten faults is kept as files, so that a change of wording is looked at.
FLEETQUAL_REWRITE=1 writes them anew; look at the difference before it is committed.
"""

import os
import re

import pytest

from tests.command import query
from tests.fleetqual.selftested import CONTROLS, FAULTS, SelfTested
from tests.paths import ROOT

FOLDER = ROOT / "tests" / "explained"
#: Fault → what a stranger must find in the text to know which part to mend.
NAMED = {
    "tools-dropped-by-template": "template",
    "pre-tokenizer-default": "tokenize",
    "theta-of-the-old-key": "rope_theta",
    "matrix-scaled": "scale",
    "rows-mixed-in-batch": "batch",
    "hidden-repetition-penalty": "penalty",
    "one-eos-of-two": "eos_ids",
    "broken-characters-dropped-in-streams": "detokenize",
    "last-brace-eaten": "parse",
    "logprobs-depend-on-order": "instrument",
}
#: What differs from run to run and from machine to machine, and says nothing of the fault.
_CHANGING = (
    (re.compile(r"\b([crsfpk]1):[0-9a-f]+"), r"\1:…"),
    (re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}"), "RUN"),
    (re.compile(r"/\S*/"), ".../"),
    (re.compile(r" on \S+ · "), " on NODE · "),
    (re.compile(r" · cpu · \S+ · "), " · cpu · HARDWARE · "),
    (re.compile(r"\d+\.\d+(e[-+]?\d+)?|\d+e[-+]?\d+|\d+(?= nats)"), "N"),
    (re.compile(r"\[N?\d*, N?\d*\]"), "[N, N]"),
    (re.compile(r"\d+ of \d+ most probable"), "N of N most probable"),
    (re.compile(r"(at position|worst in \S+ at position) \d+"), r"\1 N"),
    (re.compile(r"^(logits +\S+ +\S+ ).*$", re.M), r"\1…"),
)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_known_fault_is_seen_and_placed(fault: str, selftested: SelfTested) -> None:
    found = selftested.fault(fault)
    assert (found["detected"], found["placed"], found["culprit"]) == (True, True, FAULTS[fault])
    assert found["cases"]


def test_controls_alarm_nothing(selftested: SelfTested) -> None:
    assert all(set(one) == {"totals", "faults", "not_run"} for one in selftested.printed)
    totals = selftested.totals
    # The untouched cells beside the faults are controls too.
    assert sum(t["controls"] for t in totals) > len(CONTROLS)
    assert {(t["false_alarms"], t["errors"]) for t in totals} == {(0, 0)}
    assert sum(t["faults"] for t in totals) == len(FAULTS)
    assert {(t["sensitivity"], t["placement"]) for t in totals} == {(1.0, 1.0)}


def test_the_smallest_set_detects_what_any_case_detects(selftested: SelfTested) -> None:
    for one in selftested.printed:
        detected = {f for case in one["totals"]["minimal"] for f in case["detects"]}
        assert detected == {f["id"] for f in one["faults"] if f["cases"]} != set()


def test_a_part_that_is_at_fault_is_confirmed_by_a_swap(selftested: SelfTested) -> None:
    for fault in ("tools-dropped-by-template", "theta-of-the-old-key", "one-eos-of-two"):
        assert selftested.fault(fault)["confirmed"] == "yes", fault


def test_a_broken_instrument_makes_numbers_inconclusive_and_not_divergent(
    selftested: SelfTested,
) -> None:
    rows = query(
        selftested.results,
        "select stage, verdict from verdicts where case_group = '*' "
        "and engine like '%+logprobs-depend-on-order%' and suite = 'smoke'",
    )
    stages = {row["stage"]: row["verdict"] for row in rows}
    assert (stages["instrument"], stages["logits"]) == ("divergent", "inconclusive")


def test_the_page_is_written(selftested: SelfTested) -> None:
    pages = "".join(selftested.pages)
    assert all(name in pages for name in (*FAULTS, *CONTROLS))


def test_a_cell_is_named_after_its_fault_and_stays_to_be_explained(
    selftested: SelfTested,
) -> None:
    names = {r["engine"] for r in query(selftested.results, "select engine from qualification")}
    assert "llama_cpp+tools-dropped-by-template" in names
    assert "tools-dropped-by-template" in selftested.explained("tools-dropped-by-template")
    assert not list(selftested.results.glob("**/*.gguf"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_stranger_reads_which_part_to_mend(fault: str, selftested: SelfTested) -> None:
    path, text = FOLDER / f"{fault}.txt", _steady(selftested.explained(fault))
    if os.environ.get("FLEETQUAL_REWRITE") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert NAMED[fault] in text
    assert text == path.read_text(encoding="utf-8")


def _steady(text: str) -> str:
    """Return the head of the text, up to the evidence case by case, the same on every machine."""
    head = text.split("\n\n")[0]
    for pattern, instead in _CHANGING:
        head = pattern.sub(instead, head)
    # How far a line is padded depends on what was taken out of it.
    return "\n".join(re.sub(r"[ ─]*[│╮╯]?$", "", line) for line in head.splitlines()) + "\n"
