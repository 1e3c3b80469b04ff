"""Hooks in ``generate``: a script that it must produce, and a clock on what it streams."""

import time
from collections.abc import Sequence
from typing import Any


def forcing(torch: Any, lib: Any, start: int, script: Sequence[int]) -> Any:
    """Return a logits processor under which ``script`` comes out after ``start`` prompt ids."""

    class Forced(lib.LogitsProcessor):  # type: ignore[misc]  # the engine's class is known only now
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            place = input_ids.shape[1] - start
            if place >= len(script):
                return scores
            forced = torch.full_like(scores, -1e30)
            forced[:, script[place]] = 0.0
            return forced

    return Forced()


def streamer(lib: Any, tokenizer: Any, started: float, pieces: list[tuple[float, str]]) -> Any:
    """Return a streamer that notes each piece of text, and the seconds since ``started``."""

    class Timed(lib.TextStreamer):  # type: ignore[misc]  # the engine's class is known only now
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            pieces.append((time.perf_counter() - started, text))

    return Timed(tokenizer, skip_prompt=True, skip_special_tokens=True)
