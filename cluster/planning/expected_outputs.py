"""The declared differences of a plan: each rule becomes the outputs that it expects, by case.

Rules are computed when a run starts and are stored with it, so SQL judges all declared differences
in one way: by digests of outputs, and draws by the sampler that is expected.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from cluster.matrix.engine_entry import EngineEntry
from cluster.matrix.expected_entry import Expected
from cluster.matrix.expected_rules.asked import Asked
from cluster.matrix.expected_rules.model_texts import ModelTexts
from cluster.matrix.expected_rules.registry import RULES
from cluster.matrix.resolve import ResolvedModel, ResolvedSuite, golden_truth
from cluster.planning.plan import Plan
from runner.engines.probes.run import FACTS
from runner.order import Model
from runner.stored.canonical import output_digest
from runner.stored.references import References
from suites.stages import CASELESS
from suites.suite import Case, Golden

_Frozen = Callable[[Case, str, str], dict[str, Any]]


@dataclass(frozen=True)
class _Place:
    """Where a rule is computed: one suite of one model on one engine entry."""

    entry: EngineEntry
    model: ResolvedModel
    suite: ResolvedSuite


def expected_outputs(plan: Plan, roots: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the declared differences of a plan as they are stored with the run.

    A rule that changes nothing there is left out, and so is what was measured with another model.

    Args:
        plan: the plan of the run.
        roots: reference folders of the run, for rules that need the reference's answer.
    """
    by_key = {_key(p.cell.entry, p.cell.model, p.cell.suite): p.cell for p in plan.pairs}
    places = [_Place(c.entry, c.model, c.suite) for c in by_key.values()]
    texts, frozen = cache(ModelTexts), cache(partial(_frozen, roots=roots))
    found: list[dict[str, Any]] = []
    for entry in plan.resolved.matrix.expected:
        if entry.rule is None:
            found += _measured(entry, {p.model.name: p.model for p in places})
            continue
        for place in places:
            named = entry.engine in (place.entry.label, place.entry.engine)
            if named and entry.serving in (None, place.entry.served):
                outputs = _outputs(entry, place, plan, texts, frozen)
                if outputs:
                    found.append(_stored(entry, place, outputs))
    return found


def _key(entry: EngineEntry, model: ResolvedModel, suite: ResolvedSuite) -> tuple[str, str, str]:
    return entry.label, model.name, suite.suite.name


def _measured(entry: Expected, models: dict[str, ResolvedModel]) -> list[dict[str, Any]]:
    stored = entry.model_dump(mode="json", exclude={"rule", "values"})
    if entry.written_for is None:
        return [stored]
    truth = golden_truth(entry.written_for)
    return [{**stored, "model": name} for name, m in models.items() if truth.applies(m.model)]


def _stored(entry: Expected, place: _Place, outputs: dict[str, list[Any]]) -> dict[str, Any]:
    kept = entry.model_dump(mode="json", include={"versions", "stage", "rule", "reason"})
    kind = "sampler" if entry.stage == "sampling" else "signature"
    return {
        **kept,
        "engine": place.entry.label,
        "serving": entry.serving,
        "model": place.model.name,
        "suite": place.suite.suite.name,
        kind: outputs,
    }


def _outputs(
    entry: Expected,
    place: _Place,
    plan: Plan,
    texts: Callable[[Path], ModelTexts],
    frozen: Callable[[Model], _Frozen],
) -> dict[str, list[Any]]:
    """Return case → what the rule expects of it: digests, or samplers at the stage ``sampling``."""
    model = place.model.model
    golden = place.suite.golden is not None and place.suite.golden.applies(model)
    found: dict[str, list[Any]] = {}
    for name, case, fact in _questions(entry, place, plan):
        asked = Asked(
            case=case,
            fact=fact,
            golden=case.golden if case is not None and golden else Golden(),
            texts=texts(model.hf),
            serving=place.entry.served,
            options=place.entry.options,
            values=entry.values,
            frozen=partial(frozen(model), case) if case is not None else _nothing,
        )
        outputs = _computed(entry, asked)
        if outputs:
            found[name] = list(dict.fromkeys(outputs)) if entry.stage != "sampling" else outputs
    return found


def _questions(
    entry: Expected, place: _Place, plan: Plan
) -> Iterator[tuple[str, Case | None, str]]:
    """Yield the case ids that an entry covers in a place, with the case or the fact of each."""
    if entry.stage in CASELESS:
        for fact in FACTS:
            yield f"{entry.stage}/{fact}", None, fact
        return
    chosen = plan.selection.cases(place.suite.suite)
    for case in place.suite.suite.cases:
        if entry.covers(case) and (chosen is None or case.id in chosen):
            yield case.id, case, ""


def _computed(entry: Expected, asked: Asked) -> list[Any]:
    """Return what a rule expects of one case; nothing where the model's files do not allow it.

    A model's files are foreign and libraries raise what they like for them. A rule that cannot be
    computed excuses nothing, so the difference is judged like any other.
    """
    try:
        outputs = list(RULES[entry.rule or ""].outputs(asked))
    except Exception:
        return []
    if entry.stage == "sampling":
        return outputs
    return [output_digest(entry.stage, output) for output in outputs]


def _frozen(model: Model, roots: tuple[str, ...]) -> _Frozen:
    """Return how to find the reference's traces of a model; they are read when first needed."""
    read = cache(lambda: References(roots, model.weights_digest, model.tokenizer_digest))
    return lambda case, stage, probe: read().find(case, stage, probe)


def _nothing(_stage: str, _probe: str) -> dict[str, Any]:
    return {}
