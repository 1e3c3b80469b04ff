"""Samplers that apply what nobody asked for, lose what was asked, or slip."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from runner.engines.abilities import Adapter, Sampler, distribution_of, sampler_of, vocabulary_of
from runner.engines.base import Logits
from runner.engines.faults.adapter.base import (
    AdapterMutation,
    AdapterMutationOptions,
    answering_with,
)

Asked = dict[str, Any]


class SamplerMutation(AdapterMutation):
    """The sampler is harmed."""

    needs: ClassVar[tuple[str, ...]] = ("sampler",)

    def __init__(self, adapter: Adapter, options: AdapterMutationOptions) -> None:
        super().__init__(adapter, options)
        self.engine: Sampler = sampler_of(adapter)
        self.parameters = self.engine.parameters

    @abstractmethod
    def draw(self, prompt: Sequence[int], asked: Asked, n: int, seed: int) -> list[int]:
        """Return what is drawn, as ``Sampler.draw`` does."""

    @abstractmethod
    def generate(
        self, prompt: Sequence[int], asked: Asked, max_tokens: int, seed: int | None
    ) -> list[int]:
        """Return one answer, as ``Sampler.generate`` does."""

    def applied(self) -> Adapter:
        return replace(self.inner, sampler=self)


class GreedySamplerMutation(SamplerMutation):
    """The sampler is harmed in greedy answers too, so the chat path takes its tokens from it."""

    needs: ClassVar[tuple[str, ...]] = ("template", "tokenizer", "sampler")

    def applied(self) -> Adapter:
        return replace(self.inner, sampler=self, chat=answering_with(self.inner, self.generate))


class OtherAsked(SamplerMutation):
    """The engine's sampler is asked for something else."""

    @abstractmethod
    def instead(self, asked: Asked) -> Asked:
        """Return what reaches the sampler."""

    def draw(self, prompt: Sequence[int], asked: Asked, n: int, seed: int) -> list[int]:
        return self.engine.draw(prompt, self.instead(asked), n, seed)

    def generate(
        self, prompt: Sequence[int], asked: Asked, max_tokens: int, seed: int | None
    ) -> list[int]:
        return self.engine.generate(prompt, self.instead(asked), max_tokens, seed)


class RepetitionPenalty(OtherAsked, GreedySamplerMutation):
    """A repetition penalty that nobody asked for, in greedy answers too."""

    strength = 1.1

    def instead(self, asked: Asked) -> Asked:
        return {**asked, "repetition_penalty": asked.get("repetition_penalty", 1.0) * self.by}


class ZeroIsUnset(OtherAsked, GreedySamplerMutation):
    """Temperature 0 is falsy, so it is not passed on."""

    def instead(self, asked: Asked) -> Asked:
        return {k: v for k, v in asked.items() if k != "temperature" or v}

    def generate(
        self, prompt: Sequence[int], asked: Asked, max_tokens: int, seed: int | None
    ) -> list[int]:
        # A greedy request brings no seed; the fault must draw the same each time nevertheless.
        return super().generate(
            prompt, asked, max_tokens, self.options.seed if seed is None else seed
        )


class Dropped(OtherAsked):
    """Parameters that do not reach the sampler."""

    names: tuple[str, ...] = ()

    def instead(self, asked: Asked) -> Asked:
        return {k: v for k, v in asked.items() if k not in self.names or (k, v) == _GREEDY}


class TemperatureIgnored(Dropped):
    """Every temperature but 0 is taken for 1."""

    names = ("temperature",)


class BiasIgnored(Dropped):
    """A logit bias has no effect."""

    names = ("logit_bias",)


class PenaltyIgnored(Dropped):
    """Penalties have no effect."""

    names = ("repetition_penalty", "presence_penalty", "frequency_penalty")


class Default(OtherAsked):
    """The engine applies a default of its own where a parameter is left out."""

    name = ""

    def instead(self, asked: Asked) -> Asked:
        return {self.name: type(self)._typed(self.by), **asked}

    @staticmethod
    def _typed(by: float) -> float:
        return by


class DefaultTemperature(Default):
    """Temperature 0.8 where none is asked for."""

    name, strength = "temperature", 0.8


class DefaultTopK(Default):
    """Only the best 40 where no cut is asked for."""

    name, strength = "top_k", 40.0

    @staticmethod
    def _typed(by: float) -> float:
        return int(by)


class DefaultTopP(Default):
    """Only the best 95 % where no cut is asked for."""

    name, strength = "top_p", 0.95


class DefaultMinP(Default):
    """Nothing below 5 % of the best where no cut is asked for."""

    name, strength = "min_p", 0.05


class SeedIgnored(SamplerMutation):
    """Every request takes the next number of one generator, whatever seed it brings."""

    _requests = 0

    def _next(self) -> int:
        self._requests += 1
        return self.options.seed * 100_003 + self._requests

    def draw(self, prompt: Sequence[int], asked: Asked, n: int, seed: int) -> list[int]:
        return self.engine.draw(prompt, asked, n, self._next())

    def generate(
        self, prompt: Sequence[int], asked: Asked, max_tokens: int, seed: int | None
    ) -> list[int]:
        return self.engine.generate(prompt, asked, max_tokens, self._next())


class Slips(GreedySamplerMutation):
    """Now and then (with probability ``by``) a token is taken that the sampler did not choose."""

    needs = ("template", "tokenizer", "vocabulary", "distribution", "sampler")

    @abstractmethod
    def slip(self, row: Logits, chosen: int, rng: np.random.Generator) -> int:
        """Return the token that is taken, from one row of logits [V]."""

    def draw(self, prompt: Sequence[int], asked: Asked, n: int, seed: int) -> list[int]:
        drawn, row = self.engine.draw(prompt, asked, n, seed), self._row(prompt)
        rng = np.random.default_rng([self.options.seed, seed])
        return [self.slip(row, t, rng) if rng.random() < self.by else t for t in drawn]

    def generate(
        self, prompt: Sequence[int], asked: Asked, max_tokens: int, seed: int | None
    ) -> list[int]:
        rng = np.random.default_rng([self.options.seed, len(prompt), *prompt[-8:]])
        ends, found = set(vocabulary_of(self.inner).eos_ids()), list[int]()
        while len(found) < max_tokens and not ends & set(found[-1:]):
            so_far = [*prompt, *found]
            rest = self.engine.generate(so_far, asked, max_tokens - len(found), seed)
            place = next((i for i in range(len(rest)) if rng.random() < self.by), None)
            if place is None:
                return found + rest
            row = self._row([*so_far, *rest[:place]])
            found += [*rest[:place], self.slip(row, rest[place], rng)]
        return found

    def _row(self, ids: Sequence[int]) -> Logits:
        row: Logits = distribution_of(self.inner).prefill(ids)[-1]
        return row


class ArgmaxRemoved(Slips):
    """The most likely token is lost, and the next best is taken."""

    strength = 0.005

    def slip(self, row: Logits, chosen: int, rng: np.random.Generator) -> int:
        best, second = np.argsort(row)[::-1][:2]
        return int(second) if chosen == best else chosen


class SecondBest(ArgmaxRemoved):
    """A draft's token is accepted because it is among the two most likely."""

    strength = 0.02


class StrayToken(Slips):
    """A token that is hardly ever right."""

    strength = 0.001

    def slip(self, row: Logits, chosen: int, rng: np.random.Generator) -> int:
        rare = np.argsort(row)[: len(row) // 2]
        return int(rng.choice(rare))


_GREEDY = ("temperature", 0)

SAMPLING: dict[str, type[AdapterMutation]] = {
    "repetition-penalty": RepetitionPenalty,
    "zero-is-unset": ZeroIsUnset,
    "temperature-ignored": TemperatureIgnored,
    "default-temperature": DefaultTemperature,
    "top-k": DefaultTopK,
    "top-p": DefaultTopP,
    "min-p": DefaultMinP,
    "seed-ignored": SeedIgnored,
    "bias-ignored": BiasIgnored,
    "penalty-ignored": PenaltyIgnored,
    "argmax-removed": ArgmaxRemoved,
    "stray-token": StrayToken,
    "second-best": SecondBest,
}
