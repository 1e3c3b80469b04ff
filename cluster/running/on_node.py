"""What runs on the node: find the engine's interpreter, then call the supervisor."""

import datetime as dt
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cluster.environments.interpreter import command_that_adds, environments_root, interpreter
from runner.engines.engine import Engine
from runner.model.folder import default_cache, model_folder
from runner.order import Model, WorkOrder
from runner.stored.store import Store, attempt_name
from runner.stored.tables import AttemptRow
from runner.supervisor import Outcome
from suites.errors import UserError
from suites.loading import SHIPPED

Execute = Callable[[WorkOrder, str], list[Outcome]]


def run_on_node(
    execute: Execute, order: WorkOrder, results: str, device: str | None, shipped: str
) -> list[Outcome]:
    """Run an order on this node; this is the whole Ray task.

    Args:
        execute: the supervisor.
        order: what to run.
        results: results root, as this node reaches it.
        device: the only accelerator that the child may see; all of them when None.
        shipped: folder of the shipped suites and models on the driver; paths in it are read from
            the copy that came with the code.
    """
    if device is not None:
        for variable in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
            os.environ[variable] = device
    order = relocated(order, Path(shipped), SHIPPED)
    engine = order.engine
    python = interpreter(engine.engine, engine.version, engine.python or None)
    if python is None:
        wanted = f"{engine.engine} {engine.version}" if engine.version else engine.engine
        error = UserError(
            f"{order.node_id} has no environment for {wanted}",
            where=str(environments_root()),
            fix=command_that_adds(engine.engine, engine.version),
        )
        return record_unrun_attempts(order, results, "error", error.line)
    try:
        model = _with_folder(order.model)
    except UserError as error:
        return record_unrun_attempts(order, results, "error", error.line)
    here = {
        "model": model,
        "engine": replace(engine, python=python),
        "reference": _installed(order.reference),
    }
    return execute(order.model_copy(update=here), results)


def _with_folder(model: Model) -> Model:
    """Return the model with a folder that this node makes, where it has not the one made elsewhere.

    Raises:
        UserError: what it is made from is not on this node either, or cannot be read.
    """
    if model.made_from is None or model.hf.is_dir():
        return model
    made = model_folder(model.made_from, default_cache())
    return model.model_copy(update={"hf": made.path})


def _installed(reference: Engine | None) -> Engine | None:
    """Return the reference engine with its interpreter on this node; None if it is missing."""
    if reference is None:
        return None
    python = interpreter(reference.engine, reference.version, reference.python or None)
    return replace(reference, python=python) if python else None


def relocated(order: WorkOrder, here: Path, there: Path) -> WorkOrder:
    """Return the order with its paths in the folder ``here`` changed to the folder ``there``."""
    if here == there:
        return order

    def moved(path: Path) -> Path:
        return there / path.relative_to(here) if path.is_relative_to(here) else path

    return order.model_copy(
        update={
            "model": order.model.model_copy(
                update={
                    "hf": moved(order.model.hf),
                    "made_from": order.model.made_from and moved(order.model.made_from),
                }
            ),
            "variant": order.variant.model_copy(update={"path": moved(order.variant.path)}),
            "references": tuple(
                root if "://" in root else str(moved(Path(root))) for root in order.references
            ),
        }
    )


def record_unrun_attempts(
    order: WorkOrder,
    results: str,
    status: str,
    error: str,
    started: dt.datetime | None = None,
) -> list[Outcome]:
    """Store attempts that no supervisor could record; return their outcomes.

    An attempt that a supervisor did record stays as it is: a node may continue to work after the
    driver gave it up.
    """
    store = Store(results)
    now = dt.datetime.now(dt.UTC)
    started = started or now
    outcomes = []
    for cell in order.cells:
        name = attempt_name(cell.cell_id, order.node_id, order.attempt)
        recorded = f"attempts/{name}.parquet"
        if recorded in store.files(order.run_id, "attempts"):
            (row,) = store.read_file(f"runs/{order.run_id}/{recorded}").to_pylist()
            outcomes.append(Outcome(**{k: row[k] for k in Outcome.model_fields}))
            continue
        unrun = AttemptRow(
            run_id=order.run_id,
            cell_id=cell.cell_id,
            node_id=order.node_id,
            attempt=order.attempt,
            status=status,
            error=error,
            started=started,
            duration_s=(now - started).total_seconds(),
            hardware=order.hardware,
        )
        store.write(order.run_id, "attempts", name, [unrun])
        outcomes.append(
            Outcome(
                cell_id=cell.cell_id,
                node_id=order.node_id,
                attempt=order.attempt,
                status=status,
                stage_reached=None,
                error=error,
                duration_s=unrun.duration_s,
            )
        )
    return outcomes
