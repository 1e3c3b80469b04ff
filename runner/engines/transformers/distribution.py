"""Logits of forced ids: one forward pass of the model, or one for each id."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from runner.engines.base import Logits


class ForwardPasses:
    """The model's own forward pass, with the options of the cell.

    ``padding``: tokens on the left of each sequence. ``chunk``: ids of a prompt in a pass; 0: all.
    Both may be changed between two passes.
    """

    def __init__(self, torch: Any, model: Any, *, padding: int, chunk: int) -> None:
        self._torch, self._model = torch, model
        self.padding, self.chunk = padding, chunk

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        step = self.chunk or len(ids)
        return np.concatenate([self._numpy(p) for p in self.pieces(ids, step, cold=cold)])

    def pieces(self, ids: Sequence[int], step: int, *, cold: bool = False) -> Iterator[Any]:
        """Yield the logits [1, m, V] of each ``step`` ids, as tensors."""
        cache = None
        for start in range(0, len(ids), step):
            # Chunks see each other through the cache alone: cold means that it begins empty.
            use_cache = not cold or step < len(ids)
            out = self.forward(list(ids[start : start + step]), cache, use_cache=use_cache)
            cache = None if cold and step >= len(ids) else out.past_key_values
            yield out.logits

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        out = self.forward(list(prompt), None, use_cache=True)
        rows = [out.logits[:, -1:]]
        for token in output[:-1]:
            out = self.forward([token], out.past_key_values, use_cache=True)
            rows.append(out.logits)
        return np.concatenate([self._numpy(r) for r in rows])

    def forward(self, ids: list[int], cache: Any, *, use_cache: bool = True) -> Any:
        """Run the model once; left padding is masked here and in every later step on its cache."""
        torch, pad = self._torch, self.padding
        past = 0 if cache is None else cache.get_seq_length()
        fresh = pad if cache is None else 0
        tokens = torch.tensor([[0] * fresh + ids], device=self._model.device)
        arguments: dict[str, Any] = {"past_key_values": cache, "use_cache": use_cache}
        if pad:
            total = past + tokens.shape[1]
            mask = torch.ones((1, total), dtype=torch.long, device=self._model.device)
            mask[:, :pad] = 0
            places = (mask.cumsum(-1) - 1).clamp(min=0)[:, past:]
            arguments.update(attention_mask=mask, position_ids=places)
        with torch.no_grad():
            out = self._model(tokens, **arguments)
        out.logits = out.logits[:, fresh:]
        return out

    def _numpy(self, logits: Any) -> Logits:
        found: Logits = logits[0].to(self._torch.float32).cpu().numpy()
        return found
