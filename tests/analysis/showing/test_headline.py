"""The one sentence of a run: what agrees or differs, where, and with how many exceptions."""

from analysis.showing.headline import headline
from analysis.showing.summary import summarise
from tests.analysis.arranged import Halves, arranged
from tests.analysis.conftest import Judged
from tests.analysis.handmade import Attempt, Bench, Cell


def told(found: Judged) -> str:
    return headline(found.catalog, summarise(found.catalog, found.run_id))


@arranged
def test_a_cell_that_agrees_says_at_how_many_stages_and_which_were_not_seen(
    bench: Bench,
) -> Halves:
    found = yield
    assert told(found) == (
        "tiny f32 on llama.cpp 0.3.16: agrees at 9 of 11 stages (not seen: state, sampling)."
    )


@arranged
def test_declared_differences_are_counted_by_their_reasons(bench: Bench) -> Halves:
    bench.attempt.change("tokenize", "tokenize/nfd", prompt_ids=[1, 9])
    bench.attempt.change("tokenize", "tokenize/ascii", prompt_ids=[1, 8])
    bench.attempt.change("stop", "stop/eos", text="other")
    for stage, case in (("tokenize", "nfd"), ("tokenize", "ascii"), ("stop", "eos")):
        signature = bench.attempt.signature(stage, f"{stage}/{case}")
        entry = {"engine": "llama_cpp", "stage": stage, "reason": f"known at {stage}"}
        bench.expected.append({**entry, "cases": [f"{stage}/{case}"], "signature": signature})
    found = yield
    assert told(found).endswith("(not seen: state, sampling), with 2 declared exceptions.")


@arranged
def test_a_cell_that_differs_says_where_and_how_much(bench: Bench) -> Halves:
    bench.attempt.change("tokenize", "tokenize/nfd", prompt_ids=[1, 9])
    found = yield
    assert told(found) == (
        "tiny f32 on llama.cpp 0.3.16: differs at tokenize: 1 of 2 differ, first tokenize/nfd."
    )


@arranged
def test_end_tokens_that_the_model_does_not_list_are_counted_in_words(bench: Bench) -> Halves:
    bench.attempt.fact("eos_ids", [0, 2, 4], [2])
    found = yield
    assert told(found).endswith(": differs at config: two extra end tokens.")


@arranged
def test_of_several_cells_the_worst_is_told_and_the_others_are_counted(bench: Bench) -> Halves:
    dead = Cell("c1:dead", attempts=[Attempt(status="crashed", signal="SIGSEGV")])
    bad = Cell("c1:bad", variant="q8_0", serving="managed")
    bad.only.change("tokenize", "tokenize/nfd", prompt_ids=[1, 9])
    bench.cells += [dead, bad]
    found = yield
    assert told(found).startswith(
        "1 of 3 cells differs. The first one: tiny q8_0 on llama.cpp server 0.3.16: "
        "differs at tokenize"
    )


@arranged
def test_a_cell_that_could_not_be_judged_says_why(bench: Bench) -> Halves:
    bench.attempt.drop("tokenize", "tokenize/nfd")
    found = yield
    assert "and could not be judged at tokenize (1 of 2 cases not compared" in told(found)


@arranged
def test_a_declared_difference_that_is_gone_is_counted(bench: Bench) -> Halves:
    entry = {"engine": "llama_cpp", "stage": "tokenize", "reason": "known"}
    bench.expected.append({**entry, "signature": "p1:gone"})
    found = yield
    assert told(found).endswith("; 1 declared difference did not occur.")
