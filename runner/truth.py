"""Cases as the engine child asks them: each with the truth's input to its stage."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from runner.engines.orders import CaseInput, Scenario, Script, Truth
from runner.engines.typed_json import from_json, to_json
from runner.order import WorkOrder
from runner.stored.references import References
from suites import suite
from suites.suite import Case, Golden


def question(case: Case) -> CaseInput:
    """Return what a case asks, without any truth."""
    script, scenario = case.script, case.scenario
    return CaseInput(
        id=case.id,
        stage=case.stage,
        max_tokens=case.max_tokens,
        messages=None if case.messages is None else list(case.messages),
        tools=None if case.tools is None else list(case.tools),
        template_options=case.template_options,
        text=case.text,
        script=None if script is None else Script(script.text, script.eos, script.after),
        stop=list(case.stop),
        asked=case.asked.model_dump(exclude={"logit_bias"}, exclude_none=True),
        bias=case.asked.logit_bias,
        measure=case.measure,
        draws=case.draws,
        scenario=None if scenario is None else _scenario(scenario),
    )


def _scenario(scenario: suite.Scenario) -> Scenario:
    beside = [list(messages) for messages in scenario.beside]
    return Scenario(scenario.kind, beside, list(scenario.sizes))


def with_truth(case: Case, order: WorkOrder, references: References) -> CaseInput:
    """Return a case with the truth's input to its stage, as far as it is known.

    Raises:
        ValueError: what is frozen for it is malformed.
    """
    try:
        found = _truth(case, order, references)
        return replace(question(case), truth=from_json(Truth, to_json(found)))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"its frozen reference is malformed: {error}") from error


def _truth(case: Case, order: WorkOrder, references: References) -> Truth:
    golden = case.golden if order.golden_model else Golden()
    find = _FROZEN.get(case.stage)
    truth = Truth() if find is None else find(case, references)
    if case.stage == "tokenize" and case.text is None:
        # The prompt is the template's output: golden here, or frozen beside this very case.
        frozen = references.find(case, "tokenize", "isolate").get("value")
        truth = replace(truth, prompt_text=golden.prompt_text or _json(frozen).get("text"))
    if case.script is not None:
        frozen = references.find(case, case.stage, _first_probe(case.stage)).get("value")
        ids = golden.script_ids
        found = _json(frozen).get("script_ids") if ids is None else list(ids)
        truth = replace(truth, script_ids=found)
    return truth


def lacks_truth(case: CaseInput) -> str | None:
    """Return which input to its stage a case still needs; None when it is complete."""
    truth, stage = case.truth, case.stage
    if stage == "tokenize" and case.text is None and truth.prompt_text is None:
        return "the rendered prompt"
    if stage == "logits" and truth.top_ids_prefill is None:
        return "the reference's token ids and distribution"
    if stage == "state" and (
        truth.prompt_ids is None or len(truth.beside) != len(case.around.beside)
    ):
        return "the token ids of its conversations"
    if stage == "sampling":
        if truth.prompt_ids is None:
            return "the prompt's token ids"
        if set(case.bias) - set(truth.bias_ids or {}):
            return "the token id of a biased text"
    if case.script is not None and truth.script_ids is None:
        return "the token ids of the scripted output"
    return None


def _logits(case: Case, references: References) -> Truth:
    decode = references.find(case, "logits", "decode").get("top_ids")
    return replace(_forced(references.find(case, "logits", "prefill")), top_ids_decode=decode)


def _state(case: Case, references: References) -> Truth:
    alone = references.find(case, "state", "alone")
    beside = _json(alone.get("value")).get("beside_ids")
    pairs = None if beside is None else [(prompt, output) for prompt, output in beside]
    return replace(_forced(alone), beside_ids=pairs)


def _sampling(case: Case, references: References) -> Truth:
    inputs = references.find(case, "sampling", "inputs")
    return replace(_forced(inputs), bias_ids=_json(inputs.get("value")).get("bias_ids"))


def _chain(case: Case, references: References) -> Truth:
    """Return the whole chain's outputs; a chain's golden text is an outcome, not its truth."""
    whole = references.find(case, "chain", "whole")
    names = ("prompt_text", "prompt_ids", "output_ids", "text", "finish_reason")
    found = {name: whole.get(name) for name in names}
    return Truth(**found, message=_json(whole.get("message")) or None)


_FROZEN: dict[str, Callable[[Case, References], Truth]] = {
    "logits": _logits,
    "state": _state,
    "sampling": _sampling,
    "chain": _chain,
}


def _forced(trace: dict[str, Any]) -> Truth:
    """Return a frozen sequence as prompt and output, and what was most probable at its positions.

    A trace keeps both as the one sequence that was forced.
    """
    if not trace:
        return Truth()
    ids, output = trace["prompt_ids"], trace["output_ids"] or []
    return Truth(
        prompt_ids=ids[: len(ids) - len(output)],
        output_ids=output,
        top_ids_prefill=trace["top_ids"],
        positions=_json(trace["value"]).get("positions"),
    )


def _first_probe(stage: str) -> str:
    return "whole" if stage in ("detokenize", "chain") else "isolate"


def _json(text: str | None) -> dict[str, Any]:
    return json.loads(text) if text else {}
