"""A toy engine: an id is a character, and every character is followed by the next one."""

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
from runner.engines.toy.declaration import DECLARATION

from runner.engines.abilities import Adapter, Scenarios
from runner.engines.base import Load, Loaded, Logits, Reply, Request

_SIZE = 1536
_EOS = 0


def make_adapter(load: Load) -> Adapter:
    """Return what the toy can be asked; it reads nothing of the model."""
    toy = Toy(float(load.engine.options.get("temper", 1.0)))
    return Adapter(
        loaded=Loaded(version("numpy"), "toy build", "f32", "f32", [], {}),
        shown=DECLARATION.shown,
        facts=dict,
        chat=toy.chat,
        template=toy,
        tokenizer=toy,
        vocabulary=toy,
        distribution=toy,
        scenarios=Scenarios(concurrent=toy.serve),
    )


class Toy:
    """All of its abilities in one object."""

    def __init__(self, temper: float) -> None:
        self._temper = temper

    def render(self, request: Request) -> str:
        return "".join(f"{m['role']}: {m['content']}\n" for m in request.messages)

    def encode_chat(self, prompt_text: str) -> list[int]:
        return self.ids_of(prompt_text)

    def encode_text(self, text: str) -> list[int]:
        return self.ids_of(text)

    def ids_of(self, text: str) -> list[int]:
        return [1 + ord(character) % (_SIZE - 1) for character in text]

    def text_of(self, ids: Sequence[int]) -> str:
        return "".join(chr(i - 1) for i in ids if i != _EOS)

    def eos_ids(self) -> list[int]:
        return [_EOS]

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        rows = np.zeros((len(ids), _SIZE), np.float32)
        rows[np.arange(len(ids)), (np.array(ids) + 1) % _SIZE] = 5.0 * self._temper
        return rows

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        return self.prefill([*prompt, *output])[len(prompt) - 1 : -1]

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        return [self._answer(prompt, max_tokens) for prompt in prompts]

    def chat(self, request: Request) -> Reply:
        prompt = request.prompt_ids
        if prompt is None:
            text = request.prompt_text
            prompt = self.ids_of(self.render(request) if text is None else text)
        script = request.script
        output = list(script) if script else self._answer(prompt, request.max_tokens)
        output = output[: request.max_tokens]
        text = self.text_of(output)
        return Reply(
            prompt_ids=list(prompt),
            output_ids=output,
            text=text,
            message={"role": "assistant", "content": text},
            finish_reason="length",
            arrivals_s=[0.001] if request.stream else [],
            total_s=0.001,
        )

    def _answer(self, prompt: Sequence[int], max_tokens: int) -> list[int]:
        return [(prompt[-1] + 1 + i) % _SIZE for i in range(max_tokens)]
