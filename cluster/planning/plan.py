"""The plan: (cell, node) pairs to run and skips with reasons, and both as stored rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.matrix.resolve import Resolved
from cluster.planning.cell import Cell
from cluster.planning.node import Node
from cluster.planning.selection import Selection
from runner.stored.tables import PlanRow


@dataclass(frozen=True)
class PlannedCell:
    """A cell on a node to run; with a reason, a cell that is skipped on one node or on all."""

    cell: Cell
    node: Node | None
    reason: str | None = None
    device: str | None = None
    """The one accelerator to use, where the coverage asks for each device."""
    device_node_id: str | None = None
    """The name of that device as a node; None for the node's own name."""
    estimate_s: float | None = None

    @property
    def node_id(self) -> str | None:
        """The node's name in every table."""
        return self.device_node_id or (self.node.id if self.node else None)

    @property
    def hardware(self) -> str | None:
        """Slug of the device that computes."""
        return self.node.hardware.get(self.cell.backend) if self.node else None

    @property
    def columns(self) -> dict[str, str | None]:
        """The columns by which ``--only`` selects."""
        names = {k: v for k, v in self.cell.names.items() if k != "kind"}
        return {
            **names,
            "cell": self.cell.cell_id,
            "series": self.cell.series_id,
            "hardware": self.hardware,
            "node": self.node_id,
        }


@dataclass(frozen=True)
class Plan:
    """What will run where, and why the rest is skipped."""

    resolved: Resolved
    selection: Selection
    pairs: tuple[PlannedCell, ...]
    skips: tuple[PlannedCell, ...]

    @property
    def seconds(self) -> float:
        """Estimated seconds of the busiest node: nodes work at the same time."""
        busy: dict[str | None, float] = {}
        for pair in self.pairs:
            busy[pair.node_id] = busy.get(pair.node_id, 0.0) + (pair.estimate_s or 0.0)
        return max(busy.values(), default=0.0)

    def rows(self, run_id: str) -> list[PlanRow]:
        """Return the plan as stored."""
        return [plan_row(p, self.resolved, run_id) for p in (*self.pairs, *self.skips)]


def plan_row(planned: PlannedCell, resolved: Resolved, run_id: str) -> PlanRow:
    """Return a pair or skip as stored."""
    cell = planned.cell
    suite, model, variant = cell.suite.suite, cell.model.model, cell.variant.variant
    if cell.pass_ == "structure":
        margin = suite.margins.get("structure")
    else:
        margin = variant.margin if variant.margin is not None else suite.margins.get(cell.pass_)
    weights = variant.weights_digest if variant.quantised else model.weights_digest
    return PlanRow(
        run_id=run_id,
        cell_id=cell.cell_id,
        node_id=planned.node_id,
        series_id=cell.series_id,
        suite=suite.name,
        suite_version=suite.version,
        model=model.name,
        variant=variant.name,
        engine=cell.entry.label,
        engine_kind=cell.entry.engine,
        serving=cell.entry.served,
        backend=cell.backend,
        pass_=cell.pass_,
        hardware=planned.hardware,
        reason=planned.reason,
        margin=margin,
        required=_required(cell.entry.require or resolved.matrix.require or suite.requires, cell),
        weights_type=variant.weights_type,
        weights_digest=weights,
        function_digest=model.function_over(weights),
        tokenizer_digest=model.tokenizer_digest,
        model_weights_digest=model.weights_digest,
        estimate_s=planned.estimate_s,
    )


def _required(stages: Sequence[str], cell: Cell) -> list[str]:
    """Return the stages that must be qualified; a GGUF taken as the model has no other weights."""
    itself = cell.variant.variant.is_model(cell.model.model)
    return [stage for stage in stages if not (itself and stage == "weights")]
