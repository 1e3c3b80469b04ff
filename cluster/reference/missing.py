"""Which references the cells of a plan need and no reference root has."""

from collections.abc import Iterator, Sequence

from cluster.planning.plan import Plan, PlannedCell
from cluster.reference.freeze_orders import Wanted, truth_variant
from runner.engines.registry import DECLARATIONS
from runner.engines.trace import OBSERVED
from runner.order import Variant
from runner.stored.references import frozen_keys
from suites.suite import Case

#: Stages whose truth is frozen even where a golden answer is at hand.
_ALWAYS_FROZEN = ("logits", "state", "sampling", "chain")


def missing_references(plan: Plan, roots: Sequence[str]) -> list[Wanted]:
    """Return what must be frozen before the planned cells can be judged, in the plan's order.

    A cell needs the truth of each of its selected cases: over the model's own weights, or over
    the variant's where it is quantised. Only the missing cases of a suite are wanted; all of them
    where none is there. Weights that cannot be dequantised are left out: see ``no_truth_over``.
    """
    keys = frozen_keys(roots)
    shown = DECLARATIONS[plan.resolved.matrix.reference.engine].shown.stages
    made = {stage for stage, how in shown.items() if how in OBSERVED}
    found: dict[tuple[str, str | None], Wanted] = {}
    for pair in plan.pairs:
        model = pair.cell.model
        variant = truth_variant(model, pair.cell.variant.variant)
        if pair.cell.pass_ == "timed" or no_truth_over(variant):
            continue
        key = (model.name, variant.name if variant else None)
        wanted = found.setdefault(key, Wanted(model, variant, {}))
        suite = pair.cell.suite
        if suite.name in wanted.cases:
            continue
        weights = variant.weights_digest if variant else model.model.weights_digest
        function = model.model.function_over(weights)
        needed = [c for c in _needed(pair, plan) if c.stage in made]
        lacking = [
            case.id
            for case in needed
            if (function, model.model.tokenizer_digest, case.digest) not in keys
        ]
        if lacking:
            whole = len(lacking) == len(needed) and plan.selection.cases(suite.suite) is None
            wanted.cases[suite.name] = () if whole else tuple(lacking)
    return [wanted for wanted in found.values() if wanted.cases]


def no_truth_over(variant: Variant | None) -> str | None:
    """Return why nothing can be frozen over a variant's weights; None if it can."""
    if variant is None or variant.format == "gguf":
        return None
    return f"{variant.weights_type} weights cannot be dequantised yet"


def _needed(pair: PlannedCell, plan: Plan) -> Iterator[Case]:
    suite, model = pair.cell.suite, pair.cell.model.model
    golden = suite.golden is not None and suite.golden.applies(model)
    chosen = plan.selection.cases(suite.suite)
    for case in suite.suite.cases:
        if chosen is not None and case.id not in chosen:
            continue
        if not golden or case.stage in _ALWAYS_FROZEN:
            yield case
