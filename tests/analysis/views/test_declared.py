"""Differences that are declared: expected within their scope, an unexpected pass when gone."""

from analysis.showing.summary import summarise
from runner.stored.canonical import output_digest
from tests.analysis.arranged import Halves, arranged
from tests.analysis.conftest import Judged
from tests.analysis.handmade import Bench, Cell
from tests.analysis.handmade_sampling import draws, first_logits, greedy, plan_sampling, sampled

#: The definition of a penalty that counts the answer only.
ANSWER = "over the answer only"


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
        {"signature": output_digest("tokenize", [1, 9])},
        {"model": "tiny", "suite": "smoke"},
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
        {"signature": output_digest("tokenize", [1, 8])},
        {"model": "another"},
        {"suite": "another"},
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


@arranged
def test_draws_are_excused_by_the_declared_sampler_and_by_no_other(bench: Bench) -> Halves:
    applied, asked = {"temperature": 0.8, "top_k": 40, "min_p": 0.05}, {"temperature": 1.0}
    logits, bench.cells = first_logits(), [Cell(f"c1:{i}", engine=f"entry-{i}") for i in range(4)]
    case = plan_sampling(bench, "plain", "draws", **asked)
    for cell, by in zip(bench.cells, (applied, applied, applied, asked), strict=True):
        draws(cell.only, case, sampled(logits, by, late=True), logits, n=2000)
    order = ["top_k", "top_p", "min_p", "temperature"]
    for index, stated in enumerate([{**applied, "order": order}, {"top_k": 40}, {}, {"top_k": 9}]):
        declare(bench, engine=f"entry-{index}", stage="sampling", sampler={case: [stated]})
    found = yield
    verdicts = [found.verdict("sampling", cell.cell_id) for cell in bench.cells]
    assert verdicts == ["expected", "divergent", "divergent", "qualified"]
    assert [p["first_case"] for p in passes(found)] == [case]


@arranged
def test_a_declared_sampler_that_draws_cannot_tell_from_the_requested_one_is_no_pass(
    bench: Bench,
) -> Halves:
    logits = first_logits()
    case = plan_sampling(bench, "plain", "draws", top_k=5)
    draws(bench.attempt, case, sampled(logits, {"top_k": 5}), logits)
    declare(bench, stage="sampling", sampler={case: [{"top_k": 5, "min_p": 0.0001}]})
    found = yield
    assert found.verdict("sampling") == "qualified"
    assert passes(found) == []


@arranged
def test_a_greedy_answer_is_excused_where_it_follows_the_declared_penalty(bench: Bench) -> Halves:
    bench.cells = [Cell(f"c1:{i}", engine=f"entry-{i}") for i in range(2)]
    case = plan_sampling(bench, "penalty", "greedy", repetition_penalty=1.3)
    for cell, reach in zip(bench.cells, (0, 2), strict=True):
        greedy(cell.only, case, repetition=1.3, reach=reach)
    declare(bench, engine="llama_cpp", stage="sampling", sampler={case: [{"penalty": ANSWER}]})
    for entry in bench.expected:
        entry["engine"] = "llama_cpp"
    found = yield
    assert found.verdict("sampling", "c1:0") == "expected"
    assert found.verdict("sampling", "c1:1") == "divergent"
