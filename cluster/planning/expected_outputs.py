"""The declared differences of a plan: each rule becomes the outputs that it expects, by case.

Rules are computed when a run starts and are stored with it, so SQL judges all declared differences
in one way: by digests of outputs, and draws by the sampler that is expected.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from cluster.matrix.engine_entry import EngineEntry
from cluster.matrix.expected_entry import Expected
from cluster.matrix.expected_rules.asked import Asked
from cluster.matrix.expected_rules.model_texts import ModelTexts
from cluster.matrix.expected_rules.registry import RULES
from cluster.matrix.expected_rules.truths import right_outputs
from cluster.matrix.resolve import ResolvedSuite, golden_truth
from cluster.matrix.resolved_models import ResolvedModel
from cluster.planning.plan import Plan
from runner.engines.probes.run import FACTS
from runner.stored.canonical import output_digest
from runner.stored.references import References
from suites.errors import UserError
from suites.stages import CASELESS
from suites.suite import Case, Golden


class _Model:
    """A model of the plan, whose files are read when a rule first needs them."""

    def __init__(self, resolved: ResolvedModel, roots: tuple[str, ...]) -> None:
        self.resolved, self._roots = resolved, roots

    @cached_property
    def texts(self) -> ModelTexts | None:
        """Its tokenizer and template; None if they cannot be read."""
        try:
            return ModelTexts(self.resolved.model.hf)
        except UserError:
            return None

    @cached_property
    def _references(self) -> list[References]:
        model = self.resolved.model
        weights = {
            v.variant.weights_digest if v.variant.quantised else model.weights_digest
            for v in self.resolved.variants
        }
        return [
            References(self._roots, model.function_over(w), model.tokenizer_digest)
            for w in sorted(weights)
        ]

    def frozen(self, case: Case, stage: str, probe: str) -> list[dict[str, Any]]:
        """Return the reference's traces of a case: one for each set of weights that has one."""
        return [found for r in self._references if (found := r.find(case, stage, probe))]

    def close(self) -> None:
        """End what reading its files has started."""
        if self.texts is not None:
            self.texts.close()


@dataclass(frozen=True)
class _Place:
    """Where a rule is computed: one suite of one model on one engine entry."""

    entry: EngineEntry
    model: _Model
    suite: ResolvedSuite


def expected_outputs(plan: Plan, roots: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the declared differences of a plan as they are stored with the run.

    A rule that changes nothing there is left out, and so is what was measured with another model.

    Args:
        plan: the plan of the run.
        roots: reference folders of the run, for rules that need the reference's answer.
    """
    found: list[dict[str, Any]] = []
    with contextlib.ExitStack() as held:
        models = {p.cell.model.name: _Model(p.cell.model, roots) for p in plan.pairs}
        for model in models.values():
            held.callback(model.close)
        cells = [pair.cell for pair in plan.pairs]
        once = {(c.entry.label, c.model.name, c.suite.suite.name): c for c in cells}
        places = [_Place(c.entry, models[c.model.name], c.suite) for c in once.values()]
        for entry in plan.resolved.matrix.expected:
            if entry.rule is None:
                found += _measured(entry, [m.resolved for m in models.values()])
                continue
            for place in places:
                named = entry.engine in (place.entry.label, place.entry.engine)
                if named and entry.serving in (None, place.entry.served):
                    outputs = _outputs(entry, place, plan)
                    if outputs:
                        found.append(_stored(entry, place, outputs))
    return found


def _measured(entry: Expected, models: list[ResolvedModel]) -> list[dict[str, Any]]:
    stored = entry.model_dump(mode="json", exclude={"rule", "values"})
    if entry.written_for is None:
        return [stored]
    truth = golden_truth(entry.written_for)
    return [{**stored, "model": m.name} for m in models if truth.applies(m.model)]


def _stored(entry: Expected, place: _Place, outputs: dict[str, list[Any]]) -> dict[str, Any]:
    kept = entry.model_dump(mode="json", include={"versions", "stage", "rule", "reason"})
    kind = "sampler" if entry.stage == "sampling" else "signature"
    return {
        **kept,
        "engine": place.entry.label,
        "serving": entry.serving,
        "model": place.model.resolved.name,
        "suite": place.suite.suite.name,
        kind: outputs,
    }


def _outputs(entry: Expected, place: _Place, plan: Plan) -> dict[str, list[Any]]:
    """Return case → what the rule expects of it: digests, or samplers at the stage ``sampling``."""
    golden, texts = place.suite.golden, place.model.texts
    if texts is None:
        return {}
    applies = golden is not None and golden.applies(place.model.resolved.model)
    found: dict[str, list[Any]] = {}
    for name, case, fact in _questions(entry, place, plan):
        asked = Asked(
            case=case,
            fact=fact,
            golden=case.golden if case is not None and applies else Golden(),
            texts=texts,
            serving=place.entry.served,
            options=place.entry.options,
            values=entry.values,
            frozen=_nothing if case is None else partial(place.model.frozen, case),
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
        if entry.stage == "sampling":
            return outputs
        right = {output_digest(entry.stage, output) for output in right_outputs(asked)}
    except Exception:
        return []
    digests = [output_digest(entry.stage, output) for output in outputs]
    # What is right in one probe may be wrong in another, as long as there are several truths.
    return [digest for digest in digests if right != {digest}]


def _nothing(_stage: str, _probe: str) -> list[dict[str, Any]]:
    return []
