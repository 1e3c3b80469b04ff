"""What the probes make of an engine that fails, and how they search for its argmax."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from runner.engines.abilities import Adapter, Ask, Chunked, Scenarios
from runner.engines.base import Loaded, Logits, Reply, Request
from runner.engines.orders import CaseInput, Scenario, Truth
from runner.engines.probes.run import FACTS, probe_cell, probe_engine
from runner.engines.probes.subject import Subject, greedy_ids
from runner.engines.registry import DECLARATIONS
from runner.engines.shown import Shown
from runner.engines.trace import Trace

EOS = 9


class Counting:
    """After n comes n + 1, up to an EOS; ``failing`` is raised instead once there are some ids."""

    shown = DECLARATIONS["llama_cpp"].shown

    def __init__(self, failing: Exception | None = None) -> None:
        self.failing, self.passes = failing, 0

    def adapter(self) -> Adapter:
        return Adapter(
            loaded=Loaded("1.0", "", "f32", "f32", [], {}),
            shown=self.shown,
            facts=self.facts,
            chat=self.chat,
            template=self,
            vocabulary=self,
            distribution=self,
            scenarios=self.scenarios(),
        )

    def scenarios(self) -> Scenarios:
        return Scenarios(chunked=Chunked(self.chunked, self.chunk_size))

    def facts(self) -> dict[str, Any]:
        raise AssertionError("nobody asked for facts")

    def render(self, request: Request) -> str:
        raise AssertionError("nobody asked for a prompt")

    def chat(self, request: Request) -> Reply:
        raise AssertionError("nobody asked for an answer")

    def chunk_size(self, asked: int | None) -> int | None:
        raise ValueError("no chunks here")

    def chunked(self, ids: Sequence[int], size: int) -> Logits:
        raise AssertionError("nobody asked for chunks")

    def eos_ids(self) -> list[int]:
        return [EOS]

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        self.passes += 1
        if self.failing is not None and len(ids) > 3:
            raise self.failing
        return np.eye(16, dtype=np.float32)[[i + 1 for i in ids]]


def _adapter(failing: Exception | None = None) -> Adapter:
    return Counting(failing).adapter()


def _case(name: str, ids: list[int]) -> CaseInput:
    truth = Truth(prompt_ids=ids, output_ids=[], beside_ids=[])
    return CaseInput(name, "state", 4, truth, scenario=Scenario("chunked", sizes=[2]))


def _traces(adapter: Adapter, cases: list[CaseInput]) -> list[Trace]:
    subject = Subject(adapter)
    return list(probe_cell(subject, cases, lambda _: None))


def test_what_a_probe_raises_is_its_case_s_error_and_the_next_case_is_asked() -> None:
    long, short = _case("state/long", [1, 2, 3, 4]), _case("state/short", [1, 2])
    failed, alone, lacking = _traces(_adapter(ValueError("too long")), [long, short])
    assert (failed.case_id, failed.probe) == ("state/long", "*")
    assert failed.error == "ValueError: too long"
    assert (alone.case_id, alone.probe, alone.error) == ("state/short", "alone", None)
    # What was seen before stays.
    assert (lacking.probe, lacking.error) == ("*", "ValueError: no chunks here")
    assert all(p.seconds is not None and p.seconds >= 0 for p in (failed, alone, lacking))


def test_a_lack_of_memory_ends_the_cell() -> None:
    with pytest.raises(MemoryError):
        _traces(_adapter(MemoryError()), [_case("state/long", [1, 2, 3, 4])])


@pytest.mark.parametrize(
    ("guess", "passes"), [((), 4), ((6, 7, 8, EOS), 1), ((6, 2, 8, EOS), 2), ((1, 1, 1, 1), 4)]
)
def test_the_argmax_is_found_whatever_is_guessed_and_sooner_with_a_good_guess(
    guess: tuple[int, ...], passes: int
) -> None:
    engine = Counting()
    assert greedy_ids(engine.adapter(), [4, 5], 12, guess) == [6, 7, 8, EOS]
    assert engine.passes == passes


class Mute(Counting):
    """Returns no logits."""

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        return np.zeros((0, 16), np.float32)


def test_without_any_logits_the_search_for_the_argmax_ends() -> None:
    with pytest.raises(ValueError, match="no logits came for position 1"):
        greedy_ids(Mute().adapter(), [4, 5], 12)


class Chunking(Counting):
    """Takes a prompt in chunks of up to 4 ids."""

    def chunk_size(self, asked: int | None) -> int | None:
        return min(asked or 4, 4)

    def chunked(self, ids: Sequence[int], size: int) -> Logits:
        return self.prefill(ids)


@pytest.mark.parametrize(("length", "unseen"), [(3, {3, 4, 8}), (6, {4, 8})])
def test_a_chunk_that_cuts_nothing_otherwise_than_alone_is_not_observed(
    length: int, unseen: set[int]
) -> None:
    scenario = Scenario("chunked", sizes=[2, 3, 4, 8])
    case = replace(_case("state/sizes", list(range(length))), scenario=scenario)
    alone, *forms = _traces(Chunking().adapter(), [case])
    assert (alone.probe, alone.unseen) == ("alone", None)
    assert [form.repeat for form in forms] == [0, 1, 2, 3]
    for form in forms:
        size = (form.value or {})["size"]
        assert form.unseen == ("absent" if size in unseen else None)
        assert bool(form.error) == (size in unseen) != bool(form.arrays)


class Chatting(Counting):
    """Answers nothing but a wrong text; what would look into it fails."""

    def render(self, request: Request) -> str:
        return "prompt"

    def chat(self, request: Request) -> Reply:
        return Reply([4], [5], "wrong", None, "stop", [], 0.0)

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        raise AssertionError("a timed engine keeps no logits")


@pytest.mark.parametrize("truth", [Truth(text="right", output_ids=[6]), Truth()])
def test_what_is_only_timed_is_neither_instrumented_nor_swapped(truth: Truth) -> None:
    case = CaseInput("chain/a", "chain", 4, truth)
    subject = Subject(Chatting().adapter(), timed=True)
    found = list(probe_cell(subject, [case], lambda _: None))
    # The stream, which tells the times, comes before the engine can have seen the prompt.
    assert [(p.probe, p.error) for p in found] == [("stream", None), ("whole", None)]


class Stating(Counting):
    """Shows its configuration only, and cannot read it."""

    shown = Shown(stages={"config": "endpoint"}, calls={})

    def facts(self) -> dict[str, Any]:
        raise ValueError("no JSON came")


def test_a_configuration_that_cannot_be_read_is_the_error_of_each_fact() -> None:
    found = list(probe_engine(Subject(Stating().adapter()), [], {"config"}, lambda _: None))
    assert [p.case_id for p in found] == [f"config/{name}" for name in FACTS]
    assert {p.error for p in found} == {"ValueError: no JSON came"}


class Thinking(Counting):
    """Says nothing but what it thinks, or nothing at all."""

    shown = DECLARATIONS["openai"].shown

    def __init__(self, thought: str | None) -> None:
        self.message = {"content": None, "reasoning_content": thought}

    def scenarios(self) -> Scenarios:
        return Scenarios(chats=self.together)

    def together(self, ask: Ask, requests: Sequence[Request], slots: int) -> list[Reply]:
        return [Reply(None, None, "", self.message, "length", [], 0.0) for _ in requests]


@pytest.mark.parametrize("thought", ["Let me see", None])
def test_a_chat_that_says_nothing_has_no_text_that_could_agree(thought: str | None) -> None:
    case = replace(_case("state/chats", []), scenario=Scenario("concurrent", sizes=[2]))
    alone, together = _traces(Thinking(thought).adapter(), [case])
    assert alone.text == together.text == thought


def test_the_argmax_ends_at_the_limit() -> None:
    assert greedy_ids(_adapter(), [1], 3, [2, 3, 4, 5, 6]) == [2, 3, 4]
