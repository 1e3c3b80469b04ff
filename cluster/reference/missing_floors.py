"""Which floors the cells of a plan need and no reference root has, and how each is measured."""

from collections.abc import Sequence

from cluster.matrix.resolve import ResolvedSuite
from cluster.planning.estimate import freeze_seconds
from cluster.planning.plan import Plan, PlannedCell
from cluster.reference.floor_matrices import Floor, rounded_dtype
from cluster.reference.freeze_orders import truth_variant
from runner.engines.registry import DECLARATIONS
from runner.stored.references import floor_keys
from suites.suite import Case

#: A floor with a prior is measured on so many cases and about so many tokens, short and long ones.
_CASES, _TOKENS, _CHARACTERS = 12, 1500, 4
_PLAIN = ("f32", "f16", "bf16")
#: The suite on which floors are measured, and its cases.
Taken = tuple[ResolvedSuite, tuple[str, ...]]


def missing_floors(plan: Plan, roots: Sequence[str]) -> list[Floor]:
    """Return the floors that can be measured here and that no root has, in the plan's order.

    A floor belongs to a function, a compute dtype and a backend. It is measured with the
    reference engine, so only on that engine's backend and in the dtypes that it computes.
    """
    reference = plan.resolved.matrix.reference
    if DECLARATIONS[reference.engine].few_floors is None:
        return []
    keys, found = floor_keys(roots), dict[tuple[str, str], Floor]()
    for pair in plan.pairs:
        dtype = compute_dtype(pair, reference.engine)
        variant = pair.cell.variant.variant
        if pair.cell.backend != reference.backend or dtype is None:
            continue
        model = pair.cell.model.model
        weights = variant.weights_digest if variant.quantised else model.weights_digest
        function = model.function_over(weights)
        if (function, dtype, reference.backend) not in keys and _asks_logits(pair, plan):
            own = variant if variant.quantised else None
            found.setdefault((function, dtype), Floor(pair.cell.model, own, dtype))
    return list(found.values())


def compute_dtype(pair: PlannedCell, reference: str) -> str | None:
    """Return the dtype that a cell will compute in, as far as a plan knows; None if it does not."""
    cell = pair.cell
    if cell.pass_ == "timed":
        return None
    if cell.pass_ == "structure":
        return "f32"
    asked = cell.entry.options.get("dtype")
    if isinstance(asked, str):
        return asked if asked in _PLAIN else None
    if truth_variant(cell.model, cell.variant.variant) is None and not (
        cell.variant.variant.quantised
    ):
        return cell.variant.variant.weights_type
    return rounded_dtype(reference, cell.variant.variant)


def floor_seconds(plan: Plan, floor: Floor, taken: Taken) -> float:
    """Return about how many seconds a floor takes: a load, and each case once per configuration."""
    reference, (suite, cases) = plan.resolved.matrix.reference, taken
    few = DECLARATIONS[reference.engine].few_floors
    size = sum(file.stat().st_size for file in floor.model.model.hf.glob("*.safetensors"))
    forced = [case for case in suite.suite.cases if case.id in cases]
    every = [case for _ in (few(floor.dtype) if few else ()) for case in forced]
    return freeze_seconds(every, size, reference.backend, dequantise=floor.variant is not None)


def floor_cases(plan: Plan) -> Taken | None:
    """Return the suite and the cases that floors with a prior are measured on; None if none fits.

    It is the suite with the most ``logits`` cases; of these, some of every length are taken.
    """
    suites = {pair.cell.suite.name: pair.cell.suite for pair in plan.pairs}
    best = max(suites.values(), key=lambda s: len(_logits(s)), default=None)
    if best is None or not _logits(best):
        return None
    by_length = sorted(_logits(best), key=lambda case: (_tokens(case), case.id))
    step = max(1, len(by_length) // _CASES)
    chosen, tokens = list[str](), 0
    for case in by_length[::step][:_CASES]:
        tokens += _tokens(case)
        if chosen and tokens > _TOKENS:
            break
        chosen.append(case.id)
    return best, tuple(chosen)


def _asks_logits(pair: PlannedCell, plan: Plan) -> bool:
    chosen = plan.selection.cases(pair.cell.suite.suite)
    return any(chosen is None or case.id in chosen for case in _logits(pair.cell.suite))


def _logits(suite: ResolvedSuite) -> list[Case]:
    return [case for case in suite.suite.cases if case.stage == "logits"]


def _tokens(case: Case) -> int:
    asked = case.model_dump_json(include={"messages", "tools", "text"})
    return len(asked) // _CHARACTERS + case.max_tokens
