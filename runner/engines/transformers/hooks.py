"""Hooks in ``generate``: a script that it must produce, and a clock on what it streams."""

import functools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


@contextmanager
def without_forward(torch: Any, lib: Any, model: Any) -> Iterator[None]:
    """Let ``generate`` run without the model's forward pass, whose logits a script replaces anyway.

    Its loop, stop handling, streamer and tokenizer stay what they are.
    """
    output, own = lib.modeling_outputs.CausalLMOutputWithPast, model.forward
    words = model.config.get_text_config().vocab_size

    @functools.wraps(own)
    def forward(input_ids: Any, **arguments: Any) -> Any:
        logits = torch.zeros((len(input_ids), 1, words), device=input_ids.device)
        return output(logits=logits, past_key_values=arguments.get("past_key_values"))

    model.forward = forward
    try:
        yield
    finally:
        del model.forward


def streamer(lib: Any, tokenizer: Any, started: float, pieces: list[tuple[float, str]]) -> Any:
    """Return a streamer that notes each piece of text, and the seconds since ``started``."""

    class Timed(lib.TextStreamer):  # type: ignore[misc]  # the engine's class is known only now
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            pieces.append((time.perf_counter() - started, text))

    return Timed(tokenizer, skip_prompt=True, skip_special_tokens=True)
