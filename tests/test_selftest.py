"""The self-test end to end, on real engines: a few faults of each depth, and two controls."""

import pytest

from tests.command import query
from tests.selftested import CONTROLS, FAULTS, SelfTested


@pytest.mark.parametrize("fault", FAULTS)
def test_a_known_fault_is_seen_and_placed(fault: str, selftested: SelfTested) -> None:
    found = selftested.fault(fault)
    assert (found["detected"], found["placed"], found["culprit"]) == (True, True, FAULTS[fault])
    assert found["cases"]


def test_controls_alarm_nothing(selftested: SelfTested) -> None:
    assert set(selftested.told) == {"totals", "faults"}
    totals = selftested.told["totals"]
    # The untouched cells beside the faults are controls too.
    assert totals["controls"] > len(CONTROLS)
    assert (totals["false_alarms"], totals["errors"]) == (0, 0)
    assert (totals["faults"], totals["sensitivity"], totals["placement"]) == (len(FAULTS), 1.0, 1.0)


def test_the_smallest_set_detects_what_any_case_detects(selftested: SelfTested) -> None:
    detected = {f for case in selftested.told["totals"]["minimal"] for f in case["detects"]}
    assert detected == {f["id"] for f in selftested.told["faults"] if f["cases"]}


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
    assert all(name in selftested.page for name in (*FAULTS, *CONTROLS))


def test_a_cell_is_named_after_its_fault_and_stays_to_be_explained(
    selftested: SelfTested,
) -> None:
    names = {r["engine"] for r in query(selftested.results, "select engine from qualification")}
    assert "llama_cpp+tools-dropped-by-template" in names
    assert "tools-dropped-by-template" in selftested.explained("tools-dropped-by-template")
    assert not list(selftested.results.glob("**/*.gguf"))
