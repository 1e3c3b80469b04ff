"""llama.cpp with several sequences: batches, slots that are used again, continuous batching.

llama-cpp-python's own ``Llama`` knows one sequence only. So the loaded model gets further contexts,
which are made like the ``Llama``'s own, except that they hold several sequences. They are fed
through llama.cpp's batch interface: token, position, sequence, and whether its logits are needed.
What one sequence can show (chunks, a warm prefix) is asked of the ``Llama`` itself.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from runner.engines.abilities import Chunked, Scenarios
from runner.engines.base import Logits

Part = tuple[int, Sequence[int]]
"""A slot, and the ids that come next in it."""


class LlamaScenarios:
    """The scenarios of the ``state`` stage on one loaded ``Llama``."""

    def __init__(self, lib: Any, llama: Any, eos_ids: Sequence[int]) -> None:
        self._lib, self._llama, self._eos = lib, llama, frozenset(eos_ids)
        self._made: dict[bool, Slots] = {}

    def scenarios(self) -> Scenarios:
        """Return all of them: chats, too, are asked by ids."""
        return Scenarios(
            batched=self.batch,
            chunked=Chunked(self.chunked, self.chunk_size),
            prefix=self.warm,
            reused=self.reused,
            concurrent=self.serve,
        )

    def batch(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Logits]:
        slots = self._slots(len(sequences), sum(len(p) + len(o) for p, o in sequences))
        found = [[rows] for rows in slots.rows([(i, p) for i, (p, _) in enumerate(sequences)])]
        for step in range(max(len(output) for _, output in sequences) - 1):
            going = [(i, [o[step]]) for i, (_, o) in enumerate(sequences) if step < len(o) - 1]
            for (i, _), rows in zip(going, slots.rows(going), strict=True):
                found[i].append(rows)
        return [
            np.concatenate(rows)[: len(prompt) + len(output) - 1]
            for rows, (prompt, output) in zip(found, sequences, strict=True)
        ]

    def reused(self, earlier: Sequence[int], ids: Sequence[int]) -> Logits:
        """Serve ``earlier`` in two slots, end it in the first only, and put ``ids`` there."""
        slots = self._slots(2, 2 * len(earlier) + len(ids) + 1)
        _, following = slots.greedy([(0, earlier), (1, earlier)])
        slots.free(0)
        return slots.rows([(0, ids), (1, [following])])[0]

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        longest = sorted((len(prompt) + max_tokens for prompt in prompts), reverse=True)
        context = self._slots(slots, sum(longest[:slots]))
        waiting = deque(enumerate(prompts))
        answers: list[list[int]] = [[] for _ in prompts]
        owner: dict[int, int] = {}
        coming: dict[int, Sequence[int]] = {}
        while waiting or owner:
            for slot in range(slots):
                if slot not in owner and waiting:
                    owner[slot], coming[slot] = waiting.popleft()
            parts = [(slot, coming[slot]) for slot in sorted(owner)]
            for (slot, _), token in zip(parts, context.greedy(parts), strict=True):
                answer = answers[owner[slot]]
                answer.append(token)
                full = context.past(slot) >= self._llama.n_ctx()
                if token in self._eos or len(answer) >= max_tokens or full:
                    context.free(slot)
                    del owner[slot]
                else:
                    coming[slot] = [token]
        return answers

    def chunk_size(self, asked: int | None) -> int | None:
        """Return how many ids are evaluated at once: ``n_batch`` at most."""
        largest = int(self._llama.n_batch)
        return largest if asked is None else min(asked, largest)

    def chunked(self, ids: Sequence[int], size: int) -> Logits:
        """Let ``Llama.eval`` cut the prompt, as it does with the option ``n_batch``."""
        llama = self._llama
        asked = llama.n_batch
        llama.reset()
        llama.n_batch = min(size, asked)
        try:
            llama.eval(list(ids))
        finally:
            llama.n_batch = asked
        return np.array(llama.scores[: len(ids)], np.float32)

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        """Let ``Llama.generate`` find and keep the prefix that it shares with the last prompt.

        It evaluates the rest alone; rows of ``scores`` before that are those of earlier requests.
        """
        llama = self._llama
        llama._ctx.kv_cache_clear()
        llama.reset()
        for prompt in earlier:
            next(llama.generate(list(prompt), temp=0.0))
        evaluate, computed = llama.eval, 0

        def counted(tokens: Sequence[int]) -> None:
            nonlocal computed
            computed += len(tokens)
            evaluate(tokens)

        llama.eval = counted
        try:
            next(llama.generate(list(ids), temp=0.0))
        finally:
            del llama.eval
        cached = len(ids) - computed
        return cached, np.array(llama.scores[cached : len(ids)], np.float32)

    def _slots(self, count: int, tokens: int) -> "Slots":
        """Return empty slots for ``tokens`` in all, those of the last call if they are as many."""
        shared = tokens <= self._llama.n_ctx()
        # Held again only once it is whole: there may be no memory for larger ones.
        made = self._made.pop(shared, None)
        if made is not None and made.count < count:
            made.close()
            made = None
        if made is None:
            made = Slots(self._lib, self._llama, count, shared=shared)
        self._made[shared] = made
        made.clear()
        return made


class _Entry(NamedTuple):
    """One token of a batch."""

    part: int
    slot: int
    token: int
    position: int
    wanted: bool


class Slots:
    """A context with ``count`` sequences on the model of a ``Llama``.

    Each may be as long as one of the ``Llama`` itself: rotary scaling can depend on that length.
    ``shared`` keeps all in one buffer of that size (``kv_unified``, as llama.cpp's server does by
    itself), which they have to fit into together; else each has its own.
    """

    def __init__(self, lib: Any, llama: Any, count: int, *, shared: bool) -> None:
        self._lib = lib
        self.count = count
        params = type(llama.context_params).from_buffer_copy(llama.context_params)
        params.n_seq_max = count
        params.kv_unified = shared
        params.n_ctx = llama.n_ctx() * (1 if shared else count)
        internals = lib._internals
        # Closed by the model, too, which must outlive it.
        self._context = internals.LlamaContext(model=llama._model, params=params, verbose=False)
        self._size = int(params.n_batch)
        self._batch = internals.LlamaBatch(n_tokens=self._size, embd=0, n_seq_max=1, verbose=False)
        self._sampler = internals.LlamaSampler()
        self._sampler.add_greedy()
        self._vocabulary = llama.n_vocab()
        self._past = [0] * count

    def close(self) -> None:
        self._sampler.close()
        self._batch.close()
        self._context.close()

    def clear(self) -> None:
        """Empty all slots."""
        self._context.kv_cache_clear()
        self._past = [0] * self.count

    def free(self, slot: int) -> None:
        """Remove one sequence; the others stay as they are."""
        if not self._context.kv_cache_seq_rm(slot, -1, -1):
            raise RuntimeError(f"llama.cpp did not remove sequence {slot}")
        self._past[slot] = 0

    def past(self, slot: int) -> int:
        """Return how many tokens a slot holds."""
        return self._past[slot]

    def rows(self, parts: Sequence[Part]) -> list[Logits]:
        """Evaluate all parts together; return logits [ids, V] of each."""
        found: list[list[Logits]] = [[] for _ in parts]
        for chunk in self._decode(parts, every=True):
            pointer = self._context.get_logits()
            logits = np.ctypeslib.as_array(pointer, shape=(len(chunk), self._vocabulary))
            owners = np.array([entry.part for entry in chunk])
            for part in np.unique(owners):
                found[part].append(logits[owners == part])
        return [np.concatenate(rows) for rows in found]

    def greedy(self, parts: Sequence[Part]) -> list[int]:
        """Evaluate all parts together; return the token that the sampler takes after each."""
        chosen = [-1] * len(parts)
        for chunk in self._decode(parts, every=False):
            for place, entry in enumerate(chunk):
                if entry.wanted:
                    chosen[entry.part] = int(self._sampler.sample(self._context, place))
        return chosen

    def _decode(self, parts: Sequence[Part], *, every: bool) -> Iterator[list[_Entry]]:
        """Put the parts through in batches of at most ``n_batch`` tokens of any slots."""
        entries = []
        for part, (slot, ids) in enumerate(parts):
            start, last = self._past[slot], len(ids) - 1
            entries += [
                _Entry(part, slot, token, start + i, every or i == last)
                for i, token in enumerate(ids)
            ]
            self._past[slot] += len(ids)
        for at in range(0, len(entries), self._size):
            chunk = entries[at : at + self._size]
            batch = self._batch.batch
            batch.n_tokens = len(chunk)
            for place, entry in enumerate(chunk):
                batch.token[place] = entry.token
                batch.pos[place] = entry.position
                batch.n_seq_id[place] = 1
                batch.seq_id[place][0] = entry.slot
                batch.logits[place] = entry.wanted
            self._context.decode(self._batch)
            yield chunk
