"""What of one cell was planned, and what the engine child has answered."""

from collections.abc import Mapping

from runner.ending import Ending, error_ending
from runner.engines.probes.run import FACTS
from runner.engines.registry import DECLARATIONS
from runner.engines.trace import NOT_OBSERVED, OBSERVED
from runner.order import CellOrder, WorkOrder
from suites.stages import CHAIN, STAGES
from suites.suite import Case

ALL_STAGES: tuple[str, ...] = (*STAGES, CHAIN)
_TAKEN_AS_MODEL = "the GGUF was taken as the model: conversion was not checked"


class Completeness:
    """The cases that a cell asks of what its engine shows, and those that have a trace."""

    def __init__(self, order: WorkOrder, cell: CellOrder) -> None:
        self._order = order
        self.cases = {case.id: case for case in cell.suite.cases}
        self._answered: set[str] = set()
        declaration = DECLARATIONS.get(order.engine.engine)
        if declaration and order.engine.serving == "in_process":
            self.show(declaration.shown.stages)
        else:
            # What a server shows is known only when it is loaded: until then, anything.
            self.show(dict.fromkeys(ALL_STAGES, "endpoint"))

    def show(self, seen: Mapping[str, str]) -> None:
        """Note how each stage is seen; stages that are left out are not probed."""
        shown = {stage: seen.get(stage, "not_probed") for stage in ALL_STAGES}
        if self._order.pass_ == "timed":
            # Nothing is instrumented there: only the requests are timed.
            shown = {stage: how if stage == CHAIN else "not_probed" for stage, how in shown.items()}
        if shown["weights"] in OBSERVED and self._is_model:
            # They would be compared with themselves.
            shown["weights"] = "absent"
        self.shown: dict[str, str] = shown

    def why_unseen(self, stage: str) -> str:
        """Return why a stage that is not shown has no evidence."""
        how = self.shown[stage]
        if stage == "weights" and how == "absent" and self._is_model:
            return _TAKEN_AS_MODEL
        return NOT_OBSERVED[how]

    @property
    def _is_model(self) -> bool:
        return self._order.variant.is_model(self._order.model)

    @property
    def stages(self) -> list[str]:
        """Stages that the engine shows in this pass."""
        return [stage for stage, how in self.shown.items() if how in OBSERVED]

    @property
    def planned(self) -> list[Case]:
        """Cases to ask: those of shown stages, or the chosen ones among them.

        A freeze asks all: a stage that the reference engine lacks still has inputs to freeze.
        """
        chosen, freeze = self._order.only_cases, self._order.freeze
        return [
            case
            for case in self.cases.values()
            if (freeze or case.stage in self.stages) and (not chosen or case.id in chosen)
        ]

    def answered(self, case_id: str) -> None:
        """Note that a case, or a fact of ``config``, has a trace."""
        self._answered.add(case_id)

    def ending(self) -> Ending:
        """Return ``ok``, or the error that planned cases have no trace."""
        planned = [case.id for case in self.planned]
        if "config" in self.stages and not (self._order.freeze or self._order.floor):
            planned += [f"config/{fact}" for fact in FACTS]
        missing = [case_id for case_id in planned if case_id not in self._answered]
        if not missing:
            return Ending(status="ok")
        return error_ending(
            f"the engine child left {len(missing)} cases unanswered, the first is {missing[0]}"
        )
