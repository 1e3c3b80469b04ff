"""Numbers for references and floors, computed in torch: no row over the vocabulary leaves it.

float64 is used for a few rows at a time, so a vocabulary of 260,000 tokens needs a few megabytes.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runner.engines.abilities import Answer, Forced, Summary, TopIds
from runner.engines.probes.distribution import OWN_TOP_K, REFERENCE_TOP_K
from runner.engines.probes.positions import informative
from runner.engines.protocol import Arrays
from runner.engines.transformers.distribution import ForwardPasses
from runner.engines.transformers.state import padded, until_end

#: Rows that are held in float64 at a time, and ids in one forward pass of a long prompt.
_ROWS, _PIECE = 16, 512


class TorchSummaries:
    """Prefill, decode and greedy answers of one loaded model."""

    def __init__(
        self, torch: Any, model: Any, passes: ForwardPasses, eos_ids: Callable[[], list[int]]
    ) -> None:
        self._torch, self._model, self._passes = torch, model, passes
        self._eos_ids = eos_ids
        keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._last_row: dict[str, int] = {"logits_to_keep": 1} if keeps else {}

    def prefill(
        self, ids: Sequence[int], top_ids: TopIds | None = None, at: Sequence[int] | None = None
    ) -> Summary:
        rows, place, last, step = _Rows(self._torch), 0, len(ids) - 1, self._passes.chunk
        for piece in self._passes.pieces(ids, step or min(_PIECE, len(ids)), cold=True):
            end = min(place + piece.shape[1], last)
            logits, wanted = piece[0, : end - place], list(range(place, end))
            rows.check(logits)
            if at is not None:
                wanted = [p for p in at if place <= p < end]
                logits = logits[[p - place for p in wanted]]
            top = None if top_ids is None else top_ids[rows.count : rows.count + len(wanted)]
            rows.add(logits, [ids[p + 1] for p in wanted], top)
            place += piece.shape[1]
        if at is None and top_ids is None:
            at = informative(rows.entropy())
            return rows.summary(at, np.arange(last) if at is None else np.array(at))
        return rows.summary(None if at is None else list(at), np.arange(rows.count))

    def decode(
        self, sequences: Sequence[Forced], top_ids: Sequence[TopIds | None]
    ) -> list[Summary]:
        torch = self._torch
        prompts = [prompt for prompt, _ in sequences]
        tokens, mask = padded(torch, self._model, prompts, self._passes.padding)
        rows, cache, following = _Rows(torch), None, list[int]()
        for step in range(max(len(output) for _, output in sequences)):
            if step:
                tokens = torch.tensor(following, device=mask.device)[:, None]
                mask = torch.cat([mask, torch.ones_like(tokens)], dim=1)
            places = (mask.cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
            with torch.no_grad():
                out = self._model(
                    tokens,
                    attention_mask=mask,
                    position_ids=places,
                    past_key_values=cache,
                    use_cache=True,
                    **self._last_row,
                )
            cache = out.past_key_values
            following = [output[step] if step < len(output) else 0 for _, output in sequences]
            rows.check(out.logits[:, -1])
            rows.add(out.logits[:, -1], following, _row_of(top_ids, step))
        lengths = [len(output) for _, output in sequences]
        return [rows.summary(None, at) for at in _own_rows(lengths)]

    def answers(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[Answer]:
        torch, steps = self._torch, _Steps(self._torch)
        tokens, mask = padded(torch, self._model, prompts, 0)
        watch = self._model.register_forward_hook(steps.see, with_kwargs=True)
        try:
            with torch.no_grad():
                out = self._model.generate(
                    tokens, attention_mask=mask, max_new_tokens=max_tokens, do_sample=False
                )
        finally:
            watch.remove()
        made = out[:, tokens.shape[1] :]
        steps.end(made)
        answers = [until_end(row, self._eos_ids()) for row in made.tolist()]
        return [
            Answer(ids, steps.rows.summary(None, at))
            for ids, at in zip(answers, _own_rows([len(ids) for ids in answers]), strict=True)
        ]


def _row_of(top_ids: Sequence[TopIds | None], step: int) -> TopIds | None:
    """Return [sequences, k] the ids of one step; a sequence that has ended gets those of before."""
    if any(top is None for top in top_ids):
        return None
    return np.stack([top[min(step, len(top) - 1)] for top in top_ids if top is not None])


def _own_rows(lengths: Sequence[int]) -> list[Any]:
    """Return where each sequence's rows are: each step added one row of all of them."""
    return [np.arange(n) * len(lengths) + row for row, n in enumerate(lengths)]


class _Rows:
    """Numbers of rows, in the order in which they were added."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._parts: list[Arrays] = []
        self._nonfinite = 0
        self.count = 0

    def check(self, logits: Any) -> None:
        """Count what is NaN or infinite in ``logits`` [n, V]."""
        self._nonfinite += int((~self._torch.isfinite(logits)).sum())

    def add(self, logits: Any, following: Sequence[int], top_ids: TopIds | None) -> None:
        """Summarise ``logits`` [n, V], each with the id that follows it."""
        for start in range(0, len(following), _ROWS):
            part = slice(start, start + _ROWS)
            top = None if top_ids is None else top_ids[part]
            self._parts.append(self._summarised(logits[part], following[part], top))
        self.count += len(following)

    def entropy(self) -> Any:
        """Return [count] the entropy of each row in nats."""
        return np.concatenate([part["entropy"] for part in self._parts])

    def summary(self, positions: list[int] | None, at: Any) -> Summary:
        """Return the numbers of the rows ``at``, which stand at these ``positions``."""
        names = ("logprobs", "ref_topk_logprobs", "tail_logprob", "top_ids")
        arrays = {name: np.concatenate([p[name] for p in self._parts])[at] for name in names}
        return Summary(arrays, self._nonfinite, positions)

    def _summarised(self, logits: Any, following: Sequence[int], top_ids: TopIds | None) -> Arrays:
        torch = self._torch
        # Metal has no float64.
        device = "cpu" if logits.device.type == "mps" else logits.device
        z = logits.to(device).to(torch.float64)
        z = z - torch.logsumexp(z, 1, keepdim=True)
        k = min(REFERENCE_TOP_K if top_ids is None else OWN_TOP_K, z.shape[1])
        own = torch.topk(z, k, dim=1).indices
        given = None if top_ids is None else torch.tensor(np.asarray(top_ids), dtype=torch.int64)
        at = own if given is None else given.to(device)
        follows = torch.tensor(list(following), dtype=torch.int64, device=device)
        entropy = torch.special.entr(torch.exp(z)).sum(1)
        logprobs, gathered = z.gather(1, follows[:, None])[:, 0], z.gather(1, at)
        tail = torch.logsumexp(z.scatter(1, at, -torch.inf), 1)
        return {
            "logprobs": logprobs.cpu().numpy().astype(np.float32),
            "ref_topk_logprobs": gathered.cpu().numpy().astype(np.float32),
            "tail_logprob": tail.cpu().numpy().astype(np.float32),
            "top_ids": own.cpu().numpy().astype(np.int32),
            "entropy": entropy.cpu().numpy(),
        }


class _Steps:
    """The last row of each forward pass of ``generate``, with the id that was then fed."""

    def __init__(self, torch: Any) -> None:
        self.rows = _Rows(torch)
        self._steps, self._pending = 0, None

    def see(self, _model: Any, _args: Any, kwargs: dict[str, Any], out: Any) -> None:
        if self._pending is not None:
            self._add(kwargs["input_ids"][:, -1])
        self._pending = out.logits[:, -1].clone()

    def end(self, made: Any) -> None:
        """Add the last step: its id was made but never fed."""
        if self._steps < made.shape[1]:
            self._add(made[:, -1])

    def _add(self, following: Any) -> None:
        self.rows.check(self._pending)
        self.rows.add(self._pending, following.tolist(), None)
        self._steps += 1
