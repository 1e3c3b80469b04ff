"""Work orders as orders to an engine child: the candidate's, and the reference's for infections."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from runner.engines.base import Load
from runner.engines.engine import Engine
from runner.engines.orders import CellInput, ChildOrder
from runner.engines.redaction import SHORTEST_KEY
from runner.engines.registry import DECLARATIONS
from runner.order import WorkOrder
from suites.errors import UserError


def candidate_order(order: WorkOrder, cells: Iterable[CellInput]) -> ChildOrder:
    """Return the order to the child of the engine that is qualified.

    Raises:
        UserError: the server's key is not set on this machine, or too short to be kept secret.
    """
    return ChildOrder(
        load=Load(
            path=str(order.variant.path),
            backend=order.backend,
            pass_=order.pass_,
            weights_type=order.variant.weights_type,
            engine=order.engine,
            api_key=_api_key(order.engine),
            deadline_s=order.deadline_s,
        ),
        cells=list(cells),
        freeze=order.freeze,
        floor=order.floor,
    )


def reference_order(engine: Engine, model: Path, cells: Iterable[CellInput]) -> ChildOrder:
    """Return the order to a reference child that runs only the infections of ``cells``."""
    # One thread adds up in one order, as when the truth was made.
    one_thread = DECLARATIONS[engine.engine].one_thread
    return ChildOrder(
        load=Load(
            path=str(model),
            backend="cpu",
            pass_="structure",
            weights_type="f32",
            engine=replace(engine, options={**engine.options, **one_thread}),
        ),
        cells=list(cells),
        infect=True,
    )


def _api_key(engine: Engine) -> str | None:
    """Return the key of an external server, which only its node has."""
    if engine.api_key_env is None:
        return None
    key = os.environ.get(engine.api_key_env)
    if not key:
        raise UserError(
            f"the variable {engine.api_key_env} with the key of {engine.name} is not set here",
            fix=f"export {engine.api_key_env} where this node's Ray was started",
        )
    if len(key) < SHORTEST_KEY:
        raise UserError(
            f"the key in {engine.api_key_env} is shorter than {SHORTEST_KEY} characters",
            fix="give the server a longer key: so short a one cannot be removed from its answers",
        )
    return key
