"""An engine small enough to know by heart: 16 tokens, logits that depend on all ids so far."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from runner.engines.abilities import Adapter, Ask, Chunked, Scenarios
from runner.engines.base import Loaded, Logits, Reply, Request
from runner.engines.shown import Shown, all_stages

VOCABULARY = 16
BOS, EOS, HIDDEN = 0, 1, 2
PIECES = ["<|bos|>", "<|end|>", "<|role|>", " a", "b", " c", "d", "é", "\ufffd", "\ufffd", "{", "}"]
PIECES += [":", "1", "x", "y"]


class Simple:
    """Greedy and seeded draws over made-up logits; chat text is the pieces of the answer."""

    parameters = ("temperature", "top_k")

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.message: dict[str, Any] | None = None

    def adapter(self) -> Adapter:
        """Return all its abilities."""
        return Adapter(
            loaded=Loaded("1.0", "", "f32", "f32", [], {}),
            shown=Shown(all_stages("path"), {}),
            facts=self.facts,
            chat=self.chat,
            template=self,
            tokenizer=self,
            vocabulary=self,
            distribution=self,
            sampler=self,
            scenarios=Scenarios(
                batched=self.batch,
                chunked=Chunked(self.chunked),
                prefix=self.warm,
                reused=self.reused,
                concurrent=self.serve,
                chats=self.chats,
            ),
        )

    def facts(self) -> dict[str, Any]:
        return {"bos_id": BOS, "vocab_size": VOCABULARY}

    def render(self, request: Request) -> str:
        tools = json.dumps(list(request.tools)) if request.tools else ""
        turns = "".join(f"<|role|>{m['role']}:{m['content']}" for m in request.messages)
        return f"{tools}{turns}<|role|>assistant:"

    def encode_chat(self, prompt_text: str) -> list[int]:
        return [BOS, *(3 + len(word) % 10 for word in prompt_text.split())]

    def encode_text(self, text: str) -> list[int]:
        return self.encode_chat(text)

    def ids_of(self, text: str) -> list[int]:
        return [3 + ord(c) % 12 for c in text]

    def text_of(self, ids: Sequence[int]) -> str:
        text, places = "", list(ids)
        while places:
            if places[:2] == [8, 9]:
                text, places = text + "😀", places[2:]
            else:
                text, places = text + PIECES[places[0]], places[1:]
        return text

    def eos_ids(self) -> list[int]:
        return [EOS]

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        rows = []
        for place in range(1, len(ids) + 1):
            seed = [int(i) + 1 for i in ids[:place]]
            rows.append(np.random.default_rng(seed).standard_normal(VOCABULARY))
        return np.array(rows, np.float32)

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        return self.prefill([*prompt, *output])[len(prompt) - 1 : -1]

    def batch(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Logits]:
        return [self.prefill([*prompt, *output])[:-1] for prompt, output in sequences]

    def chunked(self, ids: Sequence[int], size: int) -> Logits:
        return self.prefill(ids)

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        start = 0
        for other in earlier:
            same = [a == b for a, b in zip(other, ids[:-1], strict=False)]
            start = max(start, same.index(False) if False in same else len(same))
        return start, self.prefill(ids)[start:]

    def reused(self, earlier: Sequence[int], ids: Sequence[int]) -> Logits:
        return self.prefill(ids)

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        return [self.generate(p, {"temperature": 0.0}, max_tokens, None) for p in prompts]

    def chats(self, ask: Ask, requests: Sequence[Request], slots: int) -> list[Reply]:
        with ThreadPoolExecutor(slots) as pool:
            return list(pool.map(ask, requests))

    def draw(self, prompt: Sequence[int], asked: dict[str, Any], n: int, seed: int) -> list[int]:
        self.asked.append({**asked, "seed": seed})
        return [int(t) for t in np.random.default_rng(seed).integers(3, VOCABULARY, n)]

    def generate(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        self.asked.append({**asked, "seed": seed})
        found: list[int] = []
        while len(found) < max_tokens and EOS not in found:
            found.append(int(np.argmax(self.prefill([*prompt, *found])[-1])))
        return found

    def chat(self, request: Request) -> Reply:
        text = request.prompt_text or self.render(request)
        prompt = list(request.prompt_ids or self.encode_chat(text))
        wanted = list(request.script or self.generate(prompt, {}, request.max_tokens, None))
        wanted = wanted[: request.max_tokens]
        if EOS in wanted:
            wanted = wanted[: wanted.index(EOS) + 1]
        said = self.text_of([i for i in wanted if i > HIDDEN])
        ends = [said.find(stop) for stop in request.stop if stop in said]
        return Reply(
            prompt_ids=prompt,
            output_ids=wanted,
            text=said[: min(ends)] if ends else said,
            message=self.message,
            finish_reason="stop" if ends or wanted[-1:] == [EOS] else "length",
            arrivals_s=[],
            total_s=0.0,
        )
