"""Work orders that compute the references of a matrix."""

from pathlib import Path

from cluster.environments.interpreter import command_that_adds, interpreter
from cluster.matrix.engine_entry import EngineEntry
from cluster.matrix.resolve import Resolved, ResolvedSuite, resolve
from cluster.matrix.resolved_models import ResolvedModel
from cluster.planning.estimate import child_seconds, suite_seconds
from cluster.running.run import absolute_results, new_run_id
from runner.engines.engine import Engine
from runner.machine import this_machine
from runner.model.artifact import describe_variant
from runner.order import CellOrder, Variant, WorkOrder
from runner.stored.references import reference_roots
from runner.stored.store import Store
from suites.digest import tagged_digest
from suites.errors import UserError
from suites.stages import Backend


def freeze_orders(path: Path) -> list[WorkOrder]:
    """Return one work order for each suite and each reference that a matrix needs.

    A model needs one for its own weights at fp32, and one for each quantised variant's
    dequantised weights.

    Raises:
        UserError: the matrix is wrong, or its reference engine is not installed here.
    """
    resolved = resolve(path)
    engine, run_id = _engine(resolved), new_run_id()
    orders = []
    for model in resolved.models:
        for suite in resolved.suites:
            for variant in _truths(model):
                orders.append(_order(resolved, model, suite, variant, engine, run_id))
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


def _truths(model: ResolvedModel) -> list[Variant]:
    hf = model.model.hf
    artifact, weights_type, weights = describe_variant(hf, "hf")
    own = Variant(
        name=weights_type,
        format="hf",
        path=hf,
        artifact_digest=artifact,
        weights_type=weights_type,
        weights_digest=weights,
    )
    return [own, *(v.variant for v in model.variants if v.variant.quantised)]


def _engine(resolved: Resolved) -> Engine:
    """Return the reference engine, with the environment of a matrix entry of that engine."""
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


def _order(
    resolved: Resolved,
    model: ResolvedModel,
    suite: ResolvedSuite,
    variant: Variant,
    engine: Engine,
    run_id: str,
) -> WorkOrder:
    machine, backend = this_machine(), resolved.matrix.reference.backend
    if backend not in machine.hardware:
        raise UserError(
            f"this machine has no {backend}",
            where=str(resolved.path),
            known=", ".join(machine.hardware),
            fix="freeze on a machine that has it, or change `reference:` in the matrix",
        )
    names = [suite.suite.name, model.model.name, variant.name, engine.engine, backend, "freeze"]
    cell = CellOrder(
        cell_id=tagged_digest("c1", [*names, suite.suite.digest, variant.artifact_digest]),
        series_id=tagged_digest("s1", names),
        suite=suite.suite,
    )
    golden = suite.golden
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
        cells=(cell,),
        deadline_s=resolved.timeout_s(
            EngineEntry(engine=resolved.matrix.reference.engine), _estimate_s(suite, model, backend)
        ),
        golden_model=golden is not None and golden.applies(model.model),
        freeze=True,
    )


def _estimate_s(suite: ResolvedSuite, model: ResolvedModel, backend: Backend) -> float:
    """Return estimated seconds of a freeze, which generates answers that a run only forces."""
    size = sum(file.stat().st_size for file in model.model.hf.glob("*.safetensors"))
    return child_seconds(size) + 4 * suite_seconds(suite.suite, size, backend, "structure")
