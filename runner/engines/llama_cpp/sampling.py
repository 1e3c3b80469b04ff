"""llama.cpp's sampler, through ``create_completion``, with what is asked and nothing more.

What nobody asks for is left to the defaults of llama-cpp-python: temperature 0.8, top_k 40,
top_p 0.95 and min_p 0.05 change the distribution of every request that names none of them.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

#: Sampling parameters, and what llama-cpp-python calls them.
NAMES = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "logit_bias": "logit_bias",
}
#: Sampling defaults that a GGUF file may state, and what they are called elsewhere.
_STATED = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}


class LlamaSampler:
    """The sampling loop of one ``Llama``."""

    parameters = tuple(NAMES)

    def __init__(self, llama: Any) -> None:
        self._llama = llama

    def draw(self, prompt: Sequence[int], asked: dict[str, Any], n: int, seed: int) -> list[int]:
        """Send ``n`` requests for one token; the prompt is evaluated for the first of them only.

        Their seeds come from one generator: each request seeds llama.cpp's own, and neighbouring
        seeds could give draws that are not independent.
        """
        seeds = random.Random(seed)
        return [self.generate(prompt, asked, 1, seeds.getrandbits(31))[0] for _ in range(n)]

    def generate(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        """Return the ids that the generation loop of one request produces, an EOS included."""
        arguments = {NAMES[name]: value for name, value in asked.items()}
        if bias := arguments.get("logit_bias"):
            arguments["logit_bias"] = {int(token): float(value) for token, value in bias.items()}
        seen: list[int] = []
        llama, real = self._llama, self._llama.generate

        def watched(tokens: Sequence[int], **flags: Any) -> Iterator[int]:
            for token in real(tokens, **flags):
                seen.append(int(token))
                yield token
                # While it holds back a character the library does not look at its own limit.
                if len(seen) == max_tokens:
                    return

        llama.generate = watched
        try:
            llama.create_completion(list(prompt), max_tokens=max_tokens, seed=seed, **arguments)
        finally:
            del llama.generate
        return seen


def stated_defaults(metadata: dict[str, str]) -> dict[str, Any] | None:
    """Return the sampling defaults that a GGUF file states; None if it states none.

    A file that states them asks for sampling, which other formats write as ``do_sample``.
    """
    found: dict[str, Any] = {}
    for key, name in _STATED.items():
        value = metadata.get(f"general.sampling.{key}")
        if value is not None:
            # Stored as float32: seven digits are all that it can say.
            found[name] = int(value) if name == "top_k" else float(f"{float(value):.6g}")
    return {"do_sample": True, **found} if found else None
