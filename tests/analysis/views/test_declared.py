"""Differences that are declared: expected within their scope, an unexpected pass when gone."""

from analysis.showing.summary import summarise
from tests.analysis.arranged import Halves, arranged
from tests.analysis.conftest import Judged
from tests.analysis.handmade import Bench, Cell


def passes(found: Judged) -> list[dict[str, object]]:
    return summarise(found.catalog, found.run_id).unexpected_passes


def nfd_signature(bench: Bench) -> str:
    """Give the only cell a tokenizer that differs on one case; return that output's digest."""
    bench.attempt.change("tokenize", "tokenize/nfd", prompt_ids=[1, 9])
    return bench.attempt.signature("tokenize", "tokenize/nfd")


def declare(bench: Bench, **scope: object) -> None:
    entry = {"engine": "llama_cpp", "stage": "tokenize", "reason": "known"}
    bench.expected.append({**entry, **scope})


@arranged
def test_a_declared_difference_is_expected_within_its_scope_only(bench: Bench) -> Halves:
    signature = nfd_signature(bench)
    inside: list[dict[str, object]] = [
        {},
        {"tags": ["nfd"]},
        {"cases": ["tokenize/nfd"]},
        {"cases": ["tokenize/*"]},
        {"versions": ">=0.3,<0.4"},
        {"serving": "in_process"},
        {"signature": {"tokenize/nfd": signature}},
    ]
    outside: list[dict[str, object]] = [
        {"tags": ["other"]},
        {"cases": ["tokenize/ascii"]},
        {"versions": ">=0.4"},
        {"serving": "managed"},
        {"signature": "p1:other"},
        {"signature": None},
        {"signature": {"tokenize/ascii": signature}},
        {"stage": "template"},
    ]
    bench.cells = []
    for index, scope in enumerate([*inside, *outside, {"engine": "another"}]):
        cell = Cell(f"c1:{index}", engine=f"entry-{index}")
        cell.only.change("tokenize", "tokenize/nfd", prompt_ids=[1, 9])
        bench.cells.append(cell)
        declare(bench, **{"engine": f"entry-{index}", "signature": signature, **scope})
    found = yield
    verdicts = [found.verdict("tokenize", cell.cell_id) for cell in bench.cells]
    assert verdicts == ["expected"] * len(inside) + ["divergent"] * (len(outside) + 1)
    assert found.cell("c1:0")["verdict"] == "qualified"
    assert "declared differences: tokenize (1 of 2)" in found.cell("c1:0")["explanation"]
    assert "known" in found.stage("tokenize", cell="c1:0")["explanation"]


@arranged
def test_one_declared_and_one_new_difference_is_divergent(bench: Bench) -> Halves:
    declare(bench, signature=nfd_signature(bench))
    bench.attempt.change("tokenize", "tokenize/ascii", prompt_ids=[1, 1])
    found = yield
    assert found.verdict("tokenize") == "divergent"
    assert found.stage("tokenize")["first_case"] == "tokenize/ascii"


@arranged
def test_a_declaration_of_one_serving_is_missed_only_there(bench: Bench) -> Halves:
    bench.cells = [Cell("c1:library"), Cell("c1:server", serving="managed")]
    declare(bench, signature="p1:gone", serving="managed")
    found = yield
    gone = passes(found)
    assert [row["cell_id"] for row in gone] == ["c1:server"]


@arranged
def test_a_declaration_that_no_longer_occurs_fails_the_check(bench: Bench) -> Halves:
    declare(bench, signature="p1:gone", tags=["nfd"])
    found = yield
    assert found.cell()["verdict"] == "qualified"
    assert [p["reason"] for p in passes(found)] == ["known"]
    assert found.exit_code == 1


@arranged
def test_a_declaration_whose_cases_did_not_run_is_no_pass(bench: Bench) -> Halves:
    declare(bench, signature="p1:gone", tags=["nfd"])
    bench.attempt.drop("tokenize", "tokenize/nfd")
    found = yield
    assert passes(found) == []


@arranged
def test_of_signatures_by_case_each_that_is_gone_is_a_pass_of_its_own(bench: Bench) -> Halves:
    signature = nfd_signature(bench)
    declare(bench, signature={"tokenize/nfd": signature, "tokenize/ascii": "p1:gone"})
    declare(bench, signature={"tokenize/nfd": [signature], "template/*": "p1:elsewhere"})
    declare(bench, signature=signature, cases=["tokenize/nfd", "tokenize/ascii"])
    found = yield
    assert found.cell()["verdict"] == "qualified"
    told = [(p["entry"], p["reason"], p["first_case"]) for p in passes(found)]
    assert told == [(0, "known (tokenize/ascii)", "tokenize/ascii")]
    assert found.exit_code == 1
