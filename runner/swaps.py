"""What is worth putting into the reference's chain: a selection only, no verdict rests on it.

Swaps cost a second engine, so they are run where an answer, a fact or a tensor of the candidate
differs. Whether a difference means anything, and what a swap shows, is judged in SQL.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runner.engines.orders import CaseInput, Infection
from runner.engines.protocol import ProtocolError
from runner.engines.trace import Trace
from runner.model.copies import is_portable
from runner.stored.canonical import canonical_fact
from runner.truth import question
from suites.stages import CHAIN
from suites.suite import Case


class SwapCandidates:
    """Chain cases, facts and tensors of one cell that are candidates for a swap."""

    def __init__(self, cases: Mapping[str, Case]) -> None:
        self._cases = cases
        self._wholes: dict[str, Trace] = {}
        self._cures: dict[str, dict[str, Trace]] = {}
        self._swapped: set[tuple[str, str]] = set()
        self.facts: dict[str, Any] = {}
        """Facts as the engine states them, where the model's files state another value."""
        self.has_other_weights = False
        """Whether a tensor has other values or another shape than the model's."""

    def note(self, trace: Trace) -> None:
        """Keep the answers of chain cases, whole and with a stage swapped.

        Raises:
            ProtocolError: a stage was swapped in a case that was never asked whole.
        """
        case_id, probe = trace.case_id, trace.probe
        if trace.stage != CHAIN or case_id not in self._cases:
            return
        if probe == "whole":
            self._wholes[case_id] = trace
        elif "/" in probe:
            self.note_swap(case_id, probe)
        if probe.startswith("cure/"):
            if case_id not in self._wholes:
                raise ProtocolError(f"{probe} of {case_id}, which was never asked whole")
            self._cures.setdefault(case_id, {})[probe] = trace

    def note_fact(self, fact: str, seen: Any, model: Any) -> None:
        """Keep a portable fact of which the model's files state another value."""
        stated, wanted = (canonical_fact(fact, json.dumps(value)) for value in (seen, model))
        if is_portable(fact, seen) and model is not None and stated != wanted:
            self.facts[fact] = seen

    def note_tensor(self, facts: Mapping[str, Any]) -> None:
        """Note whether a tensor differs beyond the cast to its type."""
        misshapen = facts["seen_shape"] != facts["model_shape"]
        self.has_other_weights |= bool(facts.get("mismatched")) or misshapen

    def note_swap(self, case_id: str, probe: str) -> bool:
        """Note that a swap has a trace; return whether it had none before."""
        is_new = (case_id, probe) not in self._swapped
        self._swapped.add((case_id, probe))
        return is_new

    def infections(self) -> list[CaseInput]:
        """Return the cases that the child has swapped stages in, with what of them is put in."""
        found = []
        for case_id, cures in self._cures.items():
            whole, greedy = self._wholes[case_id], cures.get("cure/sampling")
            infections = [
                Infection("infect/template", prompt_text=whole.prompt_text),
                Infection("infect/tokenize", prompt_ids=whole.prompt_ids),
                Infection("infect/logits", script=_forced_ids(greedy)),
                Infection("infect/sampling", script=whole.output_ids),
            ]
            if portable := [infection for infection in infections if infection.is_portable]:
                found.append(replace(question(self._cases[case_id]), infections=portable))
        return found


def _forced_ids(trace: Trace | None) -> list[int] | None:
    """Return the ids that a swap forced; None where the child states none."""
    ids = ((trace and trace.value) or {}).get("script_ids")
    known = isinstance(ids, list) and all(type(token) is int for token in ids)
    return ids if known else None
