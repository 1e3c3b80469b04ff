"""The engine that is probed, and the chat requests that cases make of it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.engines.abilities import (
    Adapter,
    Answer,
    Summary,
    distribution_of,
    vocabulary_of,
)
from runner.engines.base import EngineGone, Request, Unseen
from runner.engines.failures import error_line, is_out_of_memory
from runner.engines.orders import CaseInput
from runner.engines.trace import Trace

_OPENING = [{"role": "user", "content": "Hello!"}]


@dataclass
class Subject:
    """The engine that is probed, and what its cases have shown so far."""

    adapter: Adapter
    freeze: bool = False
    """Whether its answers become the truth, of which there is none yet."""
    timed: bool = False
    """Whether its requests are only timed: then nothing is instrumented or swapped."""
    worth_swapping: list[tuple[CaseInput, Trace]] = field(default_factory=list)
    """Chain cases whose answer is not the truth's, with that answer: a selection, no verdict."""
    answers: dict[tuple[int, ...], Answer] = field(default_factory=dict)
    """Prompt → the greedy answer that a freeze has made for it in a batch."""

    def answer(self, prompt: Sequence[int], limit: int) -> Answer | None:
        """Return the first ``limit`` ids of the answer to a prompt; None where none was made."""
        made = self.answers.get(tuple(prompt))
        if made is None:
            return None
        arrays = {name: array[:limit] for name, array in made.numbers.arrays.items()}
        return Answer(made.output_ids[:limit], Summary(arrays, made.numbers.nonfinite))

    def numbers(self, prompt: Sequence[int], output: Sequence[int]) -> Summary | None:
        """Return the numbers at ``output`` of a prompt whose made answer begins with it."""
        made = self.answer(prompt, len(output))
        return made.numbers if made and made.output_ids == list(output) else None


#: A stage's probes of one case.
StageProbe = Callable[[Subject, CaseInput], Iterator[Trace]]


def request(case: CaseInput, *, stream: bool = False) -> Request:
    """Return a case's request; one with a script forces it and ends with it.

    Raises:
        ValueError: the ids of the case's script are missing from its truth.
    """
    script, limit = case.truth.script_ids, case.max_tokens
    if case.script is not None and script is None:
        raise ValueError("the truth's ids of the scripted output are missing")
    return Request(
        messages=case.messages or _OPENING,
        tools=case.tools,
        template_options=case.template_options,
        max_tokens=limit if script is None else min(limit, len(script)),
        stop=case.stop,
        script=script,
        stream=stream,
    )


def caught(probes: Iterable[Trace], stage: str, case_id: str, probe: str) -> Iterator[Trace]:
    """Yield ``probes``; an exception that they raise becomes the error of a trace of ``probe``.

    Raises:
        EngineGone: the engine no longer answers, so that the attempt has failed.
        MemoryError: memory ran out, or an engine's own error that says so.
    """
    try:
        yield from probes
    except EngineGone:
        raise
    except Unseen as unseen:
        yield Trace(stage, case_id, probe, unseen=unseen.how, error=str(unseen) or None)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        yield Trace(stage, case_id, probe, error=error_line(error))


def greedy_ids(
    adapter: Adapter, prompt: Sequence[int], limit: int, guess: Sequence[int] = ()
) -> list[int]:
    """Return the argmax of the engine's raw logits, step by step, to an EOS or ``limit`` ids.

    No sampler is involved. ``guess`` is what probably comes out: as far as it is right, one forward
    pass confirms it all.

    Raises:
        ValueError: the engine returned no logits for the next token.
    """
    ends, ids = set(vocabulary_of(adapter).eos_ids()), list[int]()
    while len(ids) < limit and not (ids and ids[-1] in ends):
        tried = [*ids, *guess[len(ids) : limit - 1]]
        rows = distribution_of(adapter).prefill([*prompt, *tried])[len(prompt) - 1 + len(ids) :]
        if not len(rows):
            raise ValueError(f"no logits came for position {len(prompt) - 1 + len(ids)}")
        for best in rows.argmax(axis=1).tolist():
            ids.append(int(best))
            if best in ends or tried[len(ids) - 1 : len(ids)] != [best]:
                break
    return ids


def kept_positions(summary: Summary) -> dict[str, Any]:
    """Return the kept positions as a part of a trace's value; nothing where all are kept."""
    return {} if summary.positions is None else {"positions": summary.positions}


def script_value(case: CaseInput) -> dict[str, Any] | None:
    """Return the forced ids as the value of a trace."""
    script = case.truth.script_ids
    return None if script is None else {"script_ids": script}
