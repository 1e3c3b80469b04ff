"""Harmed rows of logits on every path that takes logits: forced, sampled, in a batch, in a chat."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from runner.engines.abilities import (
    Adapter,
    Chunked,
    Distribution,
    Forced,
    Scenarios,
    Vocabulary,
    distribution_of,
    vocabulary_of,
)
from runner.engines.base import Logits
from runner.engines.faults.adapter.base import AdapterMutation, answering_with
from runner.engines.faults.adapter.sampler import probabilities

_NEVER = 1 << 30
Positions = npt.NDArray[np.int64]


class HarmedLogits(AdapterMutation):
    """Rows of logits are changed by their position, and answers follow from the changed rows."""

    needs = ("distribution", "template", "tokenizer", "vocabulary")

    @abstractmethod
    def harm(self, rows: Logits, places: Positions, decoded: npt.NDArray[np.bool_]) -> Logits:
        """Return changed rows [n, V].

        Args:
            rows: logits [n, V], to be changed in place or not.
            places: position [n] of each row.
            decoded: whether [n] a row was computed one token at a time on the cache.
        """

    def harmed(self, rows: Logits, start: int = 0, decoded_from: int = _NEVER) -> Logits:
        """Return changed rows [n, V], the first of which is at position ``start``."""
        places = np.arange(start, start + len(rows), dtype=np.int64)
        return self.harm(np.array(rows, np.float32), places, places >= decoded_from)

    def applied(self) -> Adapter:
        inner = self.inner
        engine = distribution_of(inner)
        parameters = inner.sampler.parameters if inner.sampler else ()
        answers = _Answers(self, engine, vocabulary_of(inner), parameters)
        return replace(
            inner,
            distribution=_HarmedDistribution(self, engine),
            sampler=answers if inner.sampler else None,
            scenarios=_harmed_scenarios(self, inner.scenarios, answers),
            chat=answering_with(inner, answers.generate),
        )


class _HarmedDistribution:
    """An engine's distribution, harmed."""

    def __init__(self, fault: HarmedLogits, engine: Distribution) -> None:
        self._fault, self._engine = fault, engine

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        return self._fault.harmed(self._engine.prefill(ids, cold=cold))

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        rows = self._engine.decode(prompt, output)
        return self._fault.harmed(rows, len(prompt) - 1, len(prompt))


class _Answers:
    """Answers that are sampled from the harmed rows; equal questions get equal answers."""

    def __init__(
        self,
        fault: HarmedLogits,
        engine: Distribution,
        vocabulary: Vocabulary,
        parameters: Sequence[str],
    ) -> None:
        self._fault, self._engine, self._vocabulary = fault, engine, vocabulary
        self.parameters = parameters
        self._known: dict[tuple[Any, ...], list[int]] = {}

    def draw(self, prompt: Sequence[int], asked: dict[str, Any], n: int, seed: int) -> list[int]:
        row = self._fault.harmed(self._engine.prefill(prompt))[-1]
        chances = probabilities(_sampled(row), asked, prompt)
        drawn = np.random.default_rng(seed).choice(len(chances), n, p=chances)
        return [int(token) for token in drawn]

    def generate(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        key = (tuple(prompt), repr(sorted(asked.items())), max_tokens, seed)
        if key not in self._known:
            self._known[key] = self._generated(prompt, asked, max_tokens, seed)
        return list(self._known[key])

    def serve(
        self, prompts: Sequence[Sequence[int]], _slots: int, max_tokens: int
    ) -> list[list[int]]:
        """Answer prompts one after the other: what harms the rows harms them alone, too."""
        return [self.generate(p, {"temperature": 0.0}, max_tokens, None) for p in prompts]

    def _generated(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        ends, rng = set(self._vocabulary.eos_ids()), np.random.default_rng(seed or 0)
        ids, output = list(prompt), list[int]()
        while len(output) < max_tokens and not ends & set(output[-1:]):
            rows = self._engine.prefill(ids)[-1:]
            row = self._fault.harmed(rows, len(ids) - 1, len(prompt))[0]
            chances = probabilities(_sampled(row), asked, ids)
            token = int(np.argmax(chances))
            if asked.get("temperature", 1.0):
                token = int(rng.choice(len(chances), p=chances))
            output.append(token)
            ids.append(token)
        return output


def _harmed_scenarios(fault: HarmedLogits, engine: Scenarios, answers: _Answers) -> Scenarios:
    """Return the scenarios that the engine has, with harmed rows."""
    found, chunks = engine, engine.chunked
    if (batched := engine.batched) is not None:

        def batch(sequences: Sequence[Forced]) -> list[Logits]:
            rows = zip(batched(sequences), sequences, strict=True)
            return [fault.harmed(own, 0, len(prompt)) for own, (prompt, _) in rows]

        found = replace(found, batched=batch)
    if chunks is not None:

        def chunked(ids: Sequence[int], size: int) -> Logits:
            return fault.harmed(chunks.prefill(ids, size))

        found = replace(found, chunked=Chunked(chunked, chunks.size))
    if (prefix := engine.prefix) is not None:

        def warm(earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
            start, rows = prefix(earlier, ids)
            return start, fault.harmed(rows, start)

        found = replace(found, prefix=warm)
    if (reused := engine.reused) is not None:

        def again(earlier: Sequence[int], ids: Sequence[int]) -> Logits:
            return fault.harmed(reused(earlier, ids))

        found = replace(found, reused=again)
    return replace(found, concurrent=answers.serve if engine.concurrent else None)


def _sampled(row: Logits) -> Logits:
    """Return a row as a sampler sees it that does not look for NaN: every id is as likely."""
    return np.asarray(np.nan_to_num(row, nan=0.0, posinf=0.0, neginf=-1e30), np.float32)


def noise(rows: Logits, places: Positions, by: float, seed: int) -> Logits:
    """Return rows with Gaussian noise of ``by`` nats, the same for a position each time."""
    drawn = [np.random.default_rng([seed, int(p)]).standard_normal(rows.shape[1]) for p in places]
    return np.asarray(rows + by * np.array(drawn).reshape(rows.shape), np.float32)
