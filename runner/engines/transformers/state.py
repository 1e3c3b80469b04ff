"""transformers with more than one request: padded batches, chunks, caches that are kept or reset.

The library has no scheduler around ``generate``: a batch is one padded tensor, and what lives on
between requests is the cache object that the caller hands over.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runner.engines.abilities import Chunked, Forced, Scenarios
from runner.engines.base import Logits


class TorchScenarios:
    """The scenarios of the ``state`` stage on one loaded model.

    ``forward(ids, cache)`` runs the model once on one sequence; its output has ``logits`` [1, n, V]
    and ``past_key_values``.
    """

    def __init__(
        self,
        torch: Any,
        lib: Any,
        model: Any,
        forward: Callable[[list[int], Any], Any],
        eos_ids: Callable[[], list[int]],
        *,
        padding: int,
        chunk: int,
    ) -> None:
        self._torch, self._lib, self._model, self._forward = torch, lib, model, forward
        self._eos_ids, self._padding, self._chunk = eos_ids, padding, chunk

    def scenarios(self) -> Scenarios:
        """Return all of them: chats, too, are asked by ids."""
        return Scenarios(
            batched=self.batch,
            chunked=Chunked(self.chunked, lambda asked: asked or self._chunk or None),
            prefix=self.warm,
            reused=self.reused,
            concurrent=self.serve,
        )

    def batch(self, sequences: Sequence[Forced]) -> list[Logits]:
        """Pad on the left and mask, as ``generate`` requires; a finished row goes on with padding.

        The option ``padding`` adds columns that no sequence needs.
        """
        torch = self._torch
        tokens, mask = self._padded([prompt for prompt, _ in sequences], self._padding)
        width, cache = tokens.shape[1], None
        parts: list[list[Logits]] = [[] for _ in sequences]
        for step in range(max(1, *(len(output) for _, output in sequences))):
            if step:
                following = [o[step - 1] if step < len(o) else 0 for _, o in sequences]
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
                )
            cache = out.past_key_values
            logits = out.logits.to(torch.float32).cpu().numpy()
            for row, (prompt, output) in enumerate(sequences):
                if step == 0:
                    parts[row].append(logits[row, width - len(prompt) :])
                elif step < len(output):
                    parts[row].append(logits[row])
        return [
            np.concatenate(rows)[: len(prompt) + len(output) - 1]
            for rows, (prompt, output) in zip(parts, sequences, strict=True)
        ]

    def chunked(self, ids: Sequence[int], size: int) -> Logits:
        rows, cache = [], None
        for start in range(0, len(ids), size):
            out = self._forward(list(ids[start : start + size]), cache)
            rows.append(self._numpy(out.logits))
            cache = out.past_key_values
        return np.concatenate(rows)

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        """Keep one cache for all prompts, cropped to what each shares with the one before it."""
        held: list[int] = []
        common, cache, out = 0, None, None
        for prompt in (*earlier, ids):
            common = min(_common(held, prompt), len(prompt) - 1)
            if cache is not None and common < len(held):
                if not cache.is_croppable:
                    raise NotImplementedError("this model's cache cannot be cropped")
                cache.crop(common - len(held))
            out = self._forward(list(prompt[common:]), cache)
            cache, held = out.past_key_values, list(prompt)
        return common, self._numpy(out.logits)  # type: ignore[union-attr]  # ids are one prompt

    def reused(self, earlier: Sequence[int], ids: Sequence[int]) -> Logits:
        """Fill a static cache, reset it, and fill it again: its memory is that of before."""
        torch = self._torch
        cache = self._lib.StaticCache(
            config=self._model.config, max_cache_len=max(len(earlier), len(ids))
        )
        logits = None
        for prompt in (earlier, ids):
            cache.reset()
            tokens = torch.tensor([list(prompt)], device=self._model.device)
            with torch.no_grad():
                logits = self._model(tokens, past_key_values=cache, use_cache=True).logits
        return self._numpy(logits)

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        """Call ``generate`` for ``slots`` prompts at a time; ended rows wait for the others."""
        answers = []
        for first in range(0, len(prompts), slots):
            tokens, mask = self._padded(prompts[first : first + slots], 0)
            with self._torch.no_grad():
                out = self._model.generate(
                    tokens, attention_mask=mask, max_new_tokens=max_tokens, do_sample=False
                )
            answers += [
                until_end(row, self._eos_ids()) for row in out[:, tokens.shape[1] :].tolist()
            ]
        return answers

    def _padded(self, prompts: Sequence[Sequence[int]], padding: int) -> tuple[Any, Any]:
        return padded(self._torch, self._model, prompts, padding)

    def _numpy(self, logits: Any) -> Logits:
        found: Logits = logits[0].to(self._torch.float32).cpu().numpy()
        return found


def padded(
    torch: Any, model: Any, prompts: Sequence[Sequence[int]], padding: int
) -> tuple[Any, Any]:
    """Return ids and attention mask [prompts, width], with the padding on the left."""
    width = max(map(len, prompts)) + padding
    pad = model.generation_config.pad_token_id or 0
    ids = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=model.device), torch.tensor(mask, device=model.device)


def until_end(ids: list[int], eos: Sequence[int]) -> list[int]:
    """Return the ids up to the first EOS, itself included: what follows is padding."""
    ends = [place for place, token in enumerate(ids) if token in eos]
    return ids[: ends[0] + 1] if ends else ids


def _common(held: Sequence[int], prompt: Sequence[int]) -> int:
    """Return how many ids two sequences share at their beginnings."""
    pairs = zip(held, prompt, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(held), len(prompt)))
