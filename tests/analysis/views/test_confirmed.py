"""A culprit is confirmed by the chain: cured with the truth, or carried into the reference."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.analysis.arranged import Halves, arranged
from tests.analysis.conftest import Judged
from tests.analysis.handmade import Attempt, Bench, Cell
from tests.analysis.handmade_sampling import plan_sampling, seeds
from tests.analysis.handmade_traces import Trace
from tests.analysis.handmade_truth import chain_answer, runner_up

Judge = Callable[[Bench], Judged]
CASE = "chain/plain"
RIGHT = chain_answer(CASE)
#: An answer that is wrong from its second token on.
WRONG = {**RIGHT, "output_ids": [4, 9, 9, 2], "text": "wrong"}
OTHER_PROMPT = {**WRONG, "prompt_ids": [1, 1, 9]}


def swap(attempt: Attempt, name: str, answer: dict[str, Any], case: str = CASE) -> None:
    whole = attempt.find("chain", case, "whole")[0].columns
    kept = {k: whole[k] for k in ("case_id", "case_digest", "tags", "stage", "observed")}
    attempt.traces.append(Trace({**kept, **answer, "probe": name}))


def spoil(attempt: Attempt, culprit: str) -> None:
    """Let one isolate diverge."""
    if culprit == "template":
        attempt.change("template", "template/plain", prompt_text="other")
    elif culprit == "tokenize":
        attempt.change("tokenize", "tokenize/ascii", prompt_ids=[9])
    elif culprit == "weights":
        facts = {"type": "F32", "seen_shape": [8], "model_shape": [8], "nonfinite": 0}
        body = json.dumps({**facts, "mismatched": 4, "relative_rmse": 0.5, "scale": 1.0})
        attempt.change("weights", "weights/embed.weight", value=body)
    elif culprit == "logits":
        attempt.logits(0.3)
    elif culprit == "stop":
        attempt.change("stop", "stop/eos", text="done and more")
    elif culprit == "detokenize":
        attempt.change("detokenize", "detokenize/emoji", "whole", text="ok")
    elif culprit == "parse":
        raw = json.dumps({"content": "<tool_call>"})
        attempt.change("parse", "parse/call", message=raw)
    elif culprit == "config":
        attempt.fact("rms_eps", 1e-6)


def arrange(bench: Bench, culprit: str, symptom: dict[str, Any], swaps: dict[str, Any]) -> None:
    """Let one isolate diverge, one answer of the chain be wrong, and swaps answer so."""
    if culprit == "sampling":
        # The same seed gives another answer.
        case = plan_sampling(bench, "seed", "seed", temperature=1.0)
        seeds(bench.attempt, case, [[3, 4, 5, 6], [3, 4, 5, 7], [1, 2, 3, 4], [9]], -3.0)
    spoil(bench.attempt, culprit)
    bench.attempt.change("chain", CASE, "whole", **symptom)
    for name, answer in swaps.items():
        swap(bench.attempt, name, answer)


TEXT = {**RIGHT, "text": "answer to chain\ufffd"}
MESSAGE = {**RIGHT, "message": json.dumps({"content": "<tool_call>"})}
RUN_ON = {**RIGHT, "output_ids": [4, 5, 6, 2, 7, 8], "finish_reason": "length"}
CUT = {**RIGHT, "output_ids": [4, 5], "text": "answer", "finish_reason": "stop"}
PROOFS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "template-cure": (
        "template",
        OTHER_PROMPT,
        {"cure/template": RIGHT},
    ),
    "template-infect": (
        "template",
        OTHER_PROMPT,
        {"infect/template": OTHER_PROMPT},
    ),
    "tokenize-cure": (
        "tokenize",
        OTHER_PROMPT,
        {"cure/tokenize": RIGHT, "cure/template": OTHER_PROMPT},
    ),
    "tokenize-infect": (
        "tokenize",
        OTHER_PROMPT,
        {"infect/tokenize": OTHER_PROMPT, "infect/template": RIGHT},
    ),
    "config-infect": ("config", WRONG, {"infect/config": WRONG}),
    # A fact that logits would show is confirmed by the logits too.
    "config-stage": ("config", WRONG, {"infect/logits": WRONG}),
    "weights": ("weights", WRONG, {"infect/weights": WRONG, "infect/config": RIGHT}),
    "weights-alone": ("weights", WRONG, {"infect/weights": WRONG}),
    "logits": ("logits", WRONG, {"infect/logits": WRONG, "infect/weights": RIGHT}),
    "logits-alone": ("logits", WRONG, {"infect/logits": WRONG}),
    # Infected with the symptom; what follows it need not be the same.
    "logits-then-other": (
        "logits",
        WRONG,
        {"infect/logits": {**WRONG, "output_ids": [4, 9, 8, 8]}},
    ),
    "stop-runs-on": ("stop", RUN_ON, {"cure/logits": RUN_ON, "infect/sampling": RIGHT}),
    # The reference ends where the script ends, but it says so.
    "stop-too-early": (
        "stop",
        CUT,
        {"cure/logits": CUT, "infect/sampling": {**CUT, "finish_reason": "length"}},
    ),
    "stop-cut-by-length": (
        "stop",
        CUT,
        {"cure/logits": CUT, "infect/sampling": CUT, "infect/logits": RIGHT},
    ),
    # Asked again it is as wrong as before, so it is the sampler and not chance.
    "sampling-cure": ("sampling", WRONG, {"cure/sampling": RIGHT, "cure/tokenize": WRONG}),
    "sampling-infect": (
        "sampling",
        WRONG,
        {"infect/sampling": WRONG, "infect/logits": RIGHT, "cure/tokenize": WRONG},
    ),
    # Nothing else that diverges can make these symptoms.
    "detokenize": ("detokenize", TEXT, {"cure/logits": TEXT}),
    "parse": ("parse", MESSAGE, {"cure/logits": MESSAGE}),
}


@arranged
@pytest.mark.parametrize("name", PROOFS)
def test_a_swap_confirms_a_culprit_where_its_placebo_does_not_do_the_same(
    bench: Bench, name: str
) -> Halves:
    arrange(bench, *PROOFS[name])
    cell = (yield).cell()
    assert cell["culprit"] == PROOFS[name][0]
    assert cell["confirmed"] == "yes"
    assert f"(confirmed in {CASE}: " in cell["explanation"]


#: Symptoms where a constant swap stood for a placebo, and what is said instead of a contrast.
ALONE = {
    "template-cure": "no other swap can correct the prompt text",
    "weights-alone": "the facts agree",
    "logits-alone": "tensors and facts agree",
    "parse": "it is the only divergent stage that can cause this",
}


@arranged
@pytest.mark.parametrize("name", PROOFS)
def test_an_effect_that_stands_alone_claims_no_contrast(bench: Bench, name: str) -> Halves:
    culprit, symptom, swaps = PROOFS[name]
    # What asks again with nothing changed always answers so, and is no contrast to anything here.
    constant = {"infect/tokenize": RIGHT} if name in ALONE else {}
    arrange(bench, culprit, symptom, swaps | constant)
    cell = (yield).cell()
    assert cell["culprit"] == culprit
    contrast = "no control swap: " + ALONE.get(name, "")
    assert (contrast in cell["explanation"]) == (len(swaps) == 1)
    assert "with these prompt ids" not in cell["explanation"] or "tokenize" in name


DOUBTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "nothing-cured": (
        "template",
        OTHER_PROMPT,
        {"cure/template": OTHER_PROMPT},
    ),
    "prompt-healed-answer-not": ("template", OTHER_PROMPT, {"cure/template": WRONG}),
    # The right tokens over the wrong prompt are no cure of a prompt.
    "prompt-not-healed": (
        "template",
        OTHER_PROMPT,
        {"cure/template": {**RIGHT, "prompt_ids": [1, 1, 9]}},
    ),
    "nothing-infected": ("weights", WRONG, {"infect/weights": RIGHT}),
    "another-token": (
        "logits",
        WRONG,
        {"infect/logits": {**WRONG, "output_ids": [4, 8, 9, 2]}},
    ),
    "right-when-forced": ("parse", MESSAGE, {"cure/logits": RIGHT}),
}


@arranged
@pytest.mark.parametrize("name", DOUBTS)
def test_a_swap_without_its_effect_contradicts(bench: Bench, name: str) -> Halves:
    arrange(bench, *DOUBTS[name])
    cell = (yield).cell()
    assert cell["culprit"] == DOUBTS[name][0]
    assert cell["confirmed"] == "no"
    assert "(not confirmed in " in cell["explanation"]


OPEN: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "no-symptom": ("template", RIGHT, {}, "no chain answer shows a symptom of this stage"),
    # Other text from the same tokens: weights cannot make that.
    "foreign-symptom": (
        "weights",
        TEXT,
        {"infect/weights": RIGHT},
        "no chain answer shows a symptom of this stage",
    ),
    "not-run": ("template", OTHER_PROMPT, {}, "no swap was run"),
    "failed": ("template", OTHER_PROMPT, {"cure/template": {"error": "boom"}}, "boom"),
    "no-placebo": ("tokenize", OTHER_PROMPT, {"cure/tokenize": RIGHT}, "no swap was run"),
    "placebo-alone": ("tokenize", OTHER_PROMPT, {"cure/template": RIGHT}, "no swap was run"),
    "healed-by-the-template": (
        "tokenize",
        OTHER_PROMPT,
        {"cure/tokenize": RIGHT, "cure/template": RIGHT},
        "a control swap has the same effect: with the truth's prompt ids",
    ),
    "infected-by-the-tensors": (
        "logits",
        WRONG,
        {"infect/logits": WRONG, "infect/weights": WRONG},
        "a control swap has the same effect: the reference taking the argmax of these logits",
    ),
    "healed-by-asking-again": (
        "sampling",
        WRONG,
        {"cure/sampling": RIGHT, "cure/tokenize": RIGHT},
        "a control swap has the same effect",
    ),
    "the-tokens-bring-it": (
        "stop",
        RUN_ON,
        {"cure/logits": RUN_ON, "infect/sampling": RUN_ON, "infect/logits": RUN_ON},
        "a control swap has the same effect",
    ),
    # The candidate's own logits cannot be asked for a prompt that it hides.
    "hidden-prompt": (
        "logits",
        {**WRONG, "prompt_ids": []},
        {"infect/logits": WRONG},
        "no swap tests logits with such an answer",
    ),
}


@arranged
@pytest.mark.parametrize("name", OPEN)
def test_without_a_symptom_or_a_swap_nothing_is_confirmed_or_denied(
    bench: Bench, name: str
) -> Halves:
    culprit, symptom, swaps, reason = OPEN[name]
    arrange(bench, culprit, symptom, swaps)
    cell = (yield).cell()
    assert cell["culprit"] == culprit
    assert cell["confirmed"] == "not_applicable"
    assert reason in cell["explanation"]


@arranged
@pytest.mark.parametrize(
    ("culprit", "rival", "symptom"),
    [
        ("stop", "parse", {**RIGHT, "finish_reason": "tool_calls"}),
        ("stop", "detokenize", TEXT),
    ],
)
def test_where_two_parts_could_have_made_it_no_swap_of_the_tokens_tells_which(
    bench: Bench, culprit: str, rival: str, symptom: dict[str, Any]
) -> Halves:
    spoil(bench.attempt, rival)
    arrange(bench, culprit, symptom, {"cure/logits": symptom, "infect/sampling": RIGHT})
    cell = (yield).cell()
    assert cell["culprit"] == culprit
    assert cell["confirmed"] == "not_applicable"
    assert f"in {CASE} no swap separates this stage from {rival}" in cell["explanation"]


@arranged
def test_one_case_that_confirms_outweighs_one_that_contradicts(bench: Bench) -> Halves:
    spoil(bench.attempt, "template")
    for case, healed in ((CASE, True), ("chain/tools", False)):
        right = chain_answer(case)
        ill = {**right, "prompt_ids": [7], "output_ids": [9], "text": "x"}
        bench.attempt.change("chain", case, "whole", **ill)
        swap(bench.attempt, "cure/template", right if healed else ill, case)
        swap(bench.attempt, "cure/sampling", ill, case)
    assert (yield).cell()["confirmed"] == "yes"


@arranged
def test_a_tie_counts_as_the_truths_answer(bench: Bench) -> Halves:
    bench.floor_margin = 0.1
    token, behind = runner_up(CASE, 1)
    assert behind < 0.1
    tied = {**RIGHT, "output_ids": [4, token, 9], "text": "tied"}
    proof = {"cure/template": tied, "cure/sampling": OTHER_PROMPT}
    arrange(bench, "template", OTHER_PROMPT, proof)
    cell = (yield).cell()
    assert (cell["culprit"], cell["confirmed"]) == ("template", "yes")


@arranged
def test_an_interface_fault_is_confirmed_by_any_part_and_refuted_by_none(bench: Bench) -> Halves:
    bench.cells = [Cell("c1:shown"), Cell("c1:open")]
    for cell in bench.cells:
        cell.only.change("chain", CASE, "whole", **OTHER_PROMPT)
        swap(cell.only, "cure/sampling", OTHER_PROMPT)
    swap(bench.cells[0].only, "cure/template", RIGHT)
    swap(bench.cells[1].only, "cure/template", OTHER_PROMPT)
    found = yield
    cells = [found.cell(c.cell_id) for c in bench.cells]
    assert {c["culprit"] for c in cells} == {"interface"}
    assert [c["confirmed"] for c in cells] == ["yes", "not_applicable"]


@arranged
def test_where_the_prompt_is_hidden_other_tokens_may_come_from_the_template(
    bench: Bench,
) -> Halves:
    hidden = {**WRONG, "prompt_ids": []}
    # The tokens that the template made cause the symptom wherever they are forced: no contrast.
    proof = {"cure/template": {**RIGHT, "prompt_ids": []}, "infect/logits": hidden}
    arrange(bench, "template", hidden, proof)
    cell = (yield).cell()
    assert (cell["culprit"], cell["confirmed"]) == ("template", "yes")


@arranged
@pytest.mark.parametrize(("is_declared", "confirmed"), [(False, "no"), (True, "not_applicable")])
def test_a_declared_difference_upstream_neither_confirms_nor_contradicts(
    bench: Bench, is_declared: bool, confirmed: str
) -> Halves:
    """The prompt of chain/nfd differs as declared; the template is broken elsewhere."""
    case = "chain/nfd"
    bench.attempt.change("tokenize", "tokenize/nfd", prompt_ids=[1, 9])
    spoil(bench.attempt, "template")
    ill = {**chain_answer(case), "prompt_ids": [7], "output_ids": [9], "text": "x"}
    bench.attempt.change("chain", case, "whole", **ill)
    bench.attempt.change("chain", case, "stream", text="x")
    swap(bench.attempt, "cure/template", ill, case)
    if is_declared:
        signature = bench.attempt.signature("tokenize", "tokenize/nfd")
        bench.expected = [{"stage": "tokenize", "signature": signature, "reason": "known"}]
    assert (yield).cell()["confirmed"] == confirmed


def test_swaps_disturb_no_other_relation(bench: Bench, judged: Judge) -> None:
    """Also between nodes and between attempts, where only what was planned is compared."""
    kept = (
        "compared.comparisons",
        "alignments",
        "divergences",
        "chain.compared",
        "verdicts",
        "detections",
    )
    bench.cells = [
        Cell("c1:0001", "node-a", attempts=[Attempt(), Attempt(2)]),
        Cell("c1:0001", "node-b"),
    ]
    attempts = [a for cell in bench.cells for a in cell.attempts]
    for attempt in attempts:
        attempt.change("chain", CASE, "whole", **WRONG)

    def counted() -> dict[str, list[dict[str, Any]]]:
        catalog = judged(bench).catalog
        left_out = {
            "alignments": " EXCLUDE (trace_row, truth_row)",
            "compared.comparisons": " EXCLUDE (comparison_id, trace_row, truth_row)",
        }
        return {
            n: catalog.rows(f"SELECT *{left_out.get(n, '')} FROM {n} ORDER BY ALL") for n in kept
        }

    before = counted()
    for index, attempt in enumerate(attempts):
        swap(attempt, "cure/template", {**WRONG, "output_ids": [index, 1]})
        swap(attempt, "infect/logits", {"error": "the reference is not installed"})
    after = counted()
    assert len(judged(bench).catalog.rows("SELECT * FROM compared.swaps")) == 2 * len(attempts)
    assert repr(after) == repr(before)
