"""Work orders that compute the references of a matrix: one load for each model variant."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.environments.interpreter import command_that_adds, interpreter
from cluster.matrix.engine_entry import EngineEntry
from cluster.matrix.resolve import Resolved, ResolvedSuite, resolve
from cluster.matrix.resolved_models import ResolvedModel
from cluster.planning.estimate import freeze_seconds
from cluster.running.run import absolute_results, new_run_id
from runner.engines.engine import Engine
from runner.machine import Machine, this_machine
from runner.model.artifact import HfFolder, weights_type
from runner.order import CellOrder, Variant, WorkOrder
from runner.stored.references import reference_roots
from runner.stored.store import Store
from suites.digest import tagged_digest
from suites.errors import UserError

#: What a freeze has done is lost at its deadline, and it shows its progress: so it is given time.
_LEAST_ESTIMATE_S = 240.0
#: A freeze that is cut short is lost whole, so its deadline is this much more patient.
_SLOWER = 4.0


@dataclass(frozen=True)
class Wanted:
    """What is to be frozen over the weights of one variant."""

    model: ResolvedModel
    variant: Variant | None
    """A quantised variant; None for the model's own weights."""
    cases: dict[str, tuple[str, ...]]
    """Suite, by its name in the matrix → ids of its cases; all cases when empty."""

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.model.name}/{self.variant.name if self.variant else 'own weights'}"


def freeze_orders(path: Path) -> tuple[list[WorkOrder], float]:
    """Return the orders that make every reference a matrix needs, and their estimated seconds.

    A model needs one for its own weights at fp32, and one for each quantised variant's
    dequantised weights.

    Raises:
        UserError: the matrix is wrong, or its reference engine is not installed here.
    """
    resolved = resolve(path)
    every: dict[str, tuple[str, ...]] = {suite.name: () for suite in resolved.suites}
    wanted = [
        Wanted(model, variant, dict(every))
        for model in resolved.models
        for variant in truths(model)
    ]
    return orders_of(resolved, wanted), sum(estimate_s(resolved, each) for each in wanted)


def truths(model: ResolvedModel) -> list[Variant | None]:
    """Return each variant whose weights need a reference of their own; None for the model's own."""
    return list(dict.fromkeys([None, *(truth_variant(model, v.variant) for v in model.variants)]))


def truth_variant(model: ResolvedModel, variant: Variant) -> Variant | None:
    """Return the variant over whose weights its truth is frozen; None for the model's own."""
    own = not variant.quantised or variant.weights_digest == model.model.weights_digest
    return None if own else variant


def orders_of(resolved: Resolved, wanted: Sequence[Wanted]) -> list[WorkOrder]:
    """Return the work orders that freeze what is wanted.

    One order loads the model once for all its suites; only suites whose golden answers are for
    another model need an order of their own.

    Raises:
        UserError: the reference engine, or its backend, is not here.
    """
    engine, machine, run_id = reference_engine(resolved), _machine(resolved), new_run_id()
    orders = []
    for each in wanted:
        suites = [suite for suite in resolved.suites if suite.name in each.cases]
        for golden in (True, False):
            own = [s for s in suites if _golden(s, each.model) is golden]
            if own:
                orders.append(_order(resolved, each, own, golden, engine, machine, run_id))
    return orders


def copy_references(source: str, target: str) -> None:
    """Copy the reference files of one root into another folder of this machine."""
    store = Store(source)
    Path(target).mkdir(parents=True, exist_ok=True)
    for name in store.parquet_files(""):
        Store(target).write_table(name, store.read_file(name))


def roots(results: str) -> tuple[str, ...]:
    """Return the reference roots of a run with these results, in the order of search."""
    return reference_roots(absolute_results(results))


def reference_engine(resolved: Resolved) -> Engine:
    """Return the reference engine, with the environment of a matrix entry of that engine.

    Raises:
        UserError: it is not installed on this machine.
    """
    kind = resolved.matrix.reference.engine
    same = [e for e in resolved.matrix.engines if e.engine == kind]
    entry = same[0] if same else EngineEntry(engine=kind)
    python = interpreter(kind, entry.version, resolved.python(entry))
    if python is None:
        raise UserError(
            f"the reference engine {kind} is not installed here",
            where=str(resolved.path),
            fix=command_that_adds(kind, entry.version),
        )
    return Engine(name=entry.label, engine=kind, version=entry.version, python=python)


def estimate_s(resolved: Resolved, wanted: Wanted) -> float:
    """Return about how many seconds it takes to freeze what is wanted."""
    backend = resolved.matrix.reference.backend
    size = sum(file.stat().st_size for file in wanted.model.model.hf.glob("*.safetensors"))
    cases = [
        case
        for suite in resolved.suites
        if suite.name in wanted.cases
        for case in suite.suite.cases
        if not wanted.cases[suite.name] or case.id in wanted.cases[suite.name]
    ]
    return freeze_seconds(cases, size, backend, dequantise=wanted.variant is not None)


def _machine(resolved: Resolved) -> Machine:
    machine, backend = this_machine(), resolved.matrix.reference.backend
    if backend not in machine.hardware:
        raise UserError(
            f"this machine has no {backend}",
            where=str(resolved.path),
            known=", ".join(machine.hardware),
            fix="freeze on a machine that has it, or change `reference:` in the matrix",
        )
    return machine


def _golden(suite: ResolvedSuite, model: ResolvedModel) -> bool:
    return suite.golden is not None and suite.golden.applies(model.model)


def _own_weights(model: ResolvedModel) -> Variant:
    """Return the model's folder as a variant; its digests are known, and nothing is read again."""
    hf, digest = model.model.hf, model.model.weights_digest
    kind = weights_type(HfFolder(hf))
    return Variant(
        name=kind,
        format="hf",
        path=hf,
        artifact_digest=digest,
        weights_type=kind,
        weights_digest=digest,
    )


def _order(
    resolved: Resolved,
    wanted: Wanted,
    suites: Sequence[ResolvedSuite],
    golden: bool,
    engine: Engine,
    machine: Machine,
    run_id: str,
) -> WorkOrder:
    model, backend = wanted.model, resolved.matrix.reference.backend
    variant = wanted.variant or _own_weights(model)
    cells = []
    for suite in suites:
        names = [suite.suite.name, model.name, variant.name, engine.engine, backend, "freeze"]
        cells.append(
            CellOrder(
                cell_id=tagged_digest("c1", [*names, suite.suite.digest, variant.artifact_digest]),
                series_id=tagged_digest("s1", names),
                suite=suite.suite,
            )
        )
    chosen = [case for suite in suites for case in wanted.cases[suite.name]]
    return WorkOrder(
        run_id=run_id,
        node_id=machine.node_id,
        hardware=machine.hardware[backend],
        attempt=1,
        model=model.model,
        variant=variant,
        engine=engine,
        backend=backend,
        pass_="structure",
        cells=tuple(cells),
        deadline_s=resolved.timeout_s(
            EngineEntry(engine=resolved.matrix.reference.engine),
            max(_LEAST_ESTIMATE_S, _SLOWER * estimate_s(resolved, wanted)),
        ),
        golden_model=golden,
        only_cases=tuple(dict.fromkeys(chosen)),
        freeze=True,
    )
