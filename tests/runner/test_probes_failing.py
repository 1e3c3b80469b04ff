"""What the probes make of an engine that fails, and how they search for its argmax."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest

from runner.child.adapters import DECLARATIONS
from runner.child.adapters.base import Adapter, Logits
from runner.child.probed import CaseInput, Probed
from runner.child.probes import probe_cell
from runner.child.stages.subject import Subject, greedy_ids

EOS = 9


class Counting:
    """After n comes n + 1, up to an EOS; ``failing`` is raised instead once there are some ids."""

    def __init__(self, failing: Exception | None = None) -> None:
        self.failing, self.passes = failing, 0

    def eos_ids(self) -> list[int]:
        return [EOS]

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        self.passes += 1
        if self.failing is not None and len(ids) > 3:
            raise self.failing
        return np.eye(16, dtype=np.float32)[[i + 1 for i in ids]]


def _adapter(failing: Exception | None = None) -> Any:
    return cast(Adapter, Counting(failing))


def _case(name: str, ids: list[int]) -> CaseInput:
    return {
        "id": name,
        "stage": "state",
        "max_tokens": 4,
        "scenario": {"kind": "chunked", "sizes": [2]},
        "truth": {"prompt_ids": ids, "output_ids": [], "beside_ids": []},
    }


def _probed(adapter: Any, cases: list[CaseInput]) -> list[Probed]:
    subject = Subject(adapter, DECLARATIONS["llama_cpp"])
    return list(probe_cell(subject, cases, lambda _: None))


def test_what_a_probe_raises_is_its_case_s_error_and_the_next_case_is_asked() -> None:
    long, short = _case("state/long", [1, 2, 3, 4]), _case("state/short", [1, 2])
    failed, alone, lacking = _probed(_adapter(ValueError("too long")), [long, short])
    assert (failed.case_id, failed.probe) == ("state/long", "*")
    assert failed.error == "ValueError: too long"
    assert (alone.case_id, alone.probe, alone.error) == ("state/short", "alone", None)
    # It has no chunks: what was seen before stays.
    assert (lacking.probe, lacking.error) == (
        "*",
        "AttributeError: 'Counting' object has no attribute 'chunked'",
    )
    assert all(p.seconds is not None and p.seconds >= 0 for p in (failed, alone, lacking))


def test_a_lack_of_memory_ends_the_cell() -> None:
    with pytest.raises(MemoryError):
        _probed(_adapter(MemoryError()), [_case("state/long", [1, 2, 3, 4])])


@pytest.mark.parametrize(
    ("guess", "passes"), [((), 4), ((6, 7, 8, EOS), 1), ((6, 2, 8, EOS), 2), ((1, 1, 1, 1), 4)]
)
def test_the_argmax_is_found_whatever_is_guessed_and_sooner_with_a_good_guess(
    guess: tuple[int, ...], passes: int
) -> None:
    adapter = _adapter()
    assert greedy_ids(adapter, [4, 5], 12, guess) == [6, 7, 8, EOS]
    assert adapter.passes == passes


def test_the_argmax_ends_at_the_limit() -> None:
    assert greedy_ids(_adapter(), [1], 3, [2, 3, 4, 5, 6]) == [2, 3, 4]
