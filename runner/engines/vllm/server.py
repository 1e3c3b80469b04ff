"""vLLM's own server: OpenAI's API, and beside it ids, prompt texts and log-probabilities."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runner.engines.abilities import Adapter, Ask, Scenarios
from runner.engines.base import Load, Logits, Reply, Request, Unseen
from runner.engines.servers.http_client import Client
from runner.engines.servers.plain import (
    HIDDEN_STAGES,
    answers,
)
from runner.engines.servers.server_errors import Refused
from runner.engines.shown import Shown
from runner.engines.vllm.server_chat import VllmChats
from runner.engines.vllm.server_facts import ServerStatements
from runner.engines.vllm.server_numbers import Numbers

_OWNER = "vllm"
_TOOL = {"type": "function", "function": {"name": "x", "parameters": {"type": "object"}}}
_CALLS = {
    "instrument": "POST /inference/v1/generate or completions, with prompt_logprobs and cache_salt",
    "config": "GET models, /server_info, /tokenizer_info; what ends a forced answer",
    "template": "POST chat/completions with return_prompt_text",
    "tokenize": "POST chat/completions with return_token_ids; /tokenize, /detokenize",
    "logits": "POST /inference/v1/generate or completions, with prompt_logprobs; ids forced",
    "state": "the same, several at once while the server is held; cache_salt",
    "sampling": "POST completions with return_token_ids",
    "stop": "POST chat/completions, forced by a logits processor or a grammar",
    "detokenize": "POST chat/completions, forced; completions where a parser cut the text",
    "parse": "POST chat/completions, forced by a logits processor or a grammar",
    "chain": "POST chat/completions with return_token_ids",
}
_NUMERIC = ("instrument", "logits", "sampling")
#: Without a repetition penalty: it works on logits, and only their differences are returned.
_SAMPLERS = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
)
#: Prompt tokens and answers of one request for draws. A seeded prompt that is cut between two steps
#: ends vLLM 0.32 on a CPU.
_DRAWN_TOKENS, _DRAWN_MOST = 1024, 64


class VllmServer(VllmChats):
    """``python -m vllm.entrypoints.openai.api_server`` or ``vllm serve``."""

    name = "vllm"
    parameters = _SAMPLERS
    shown = Shown(
        stages={**dict.fromkeys(_CALLS, "endpoint"), "weights": HIDDEN_STAGES["weights"]},
        calls=_CALLS,
        scenarios=("batched", "prefix", "concurrent"),
    )

    def __init__(self, load: Load, client: Client, model: str) -> None:
        super().__init__(load, client, model)
        self.timed = load.pass_ == "timed"
        self.numbers = Numbers(client, model)
        self._stated = ServerStatements(client)
        self._stated.refuse_other(load.backend)
        self._ends: list[int] | None = None
        some = self.tokenized("x", special=True)
        self.numbers.find_out(some)
        # A server that is not ours is never held up.
        ours = load.engine.serving == "managed" and not self.timed
        self.numbers.pauses = ours and answers(client, "/is_paused") is not None
        self.replaces = self._takes("/tokenize", chat_template="x")
        self.takes_tools = self._takes("chat/completions", tools=[_TOOL], max_tokens=1)
        self.shown = self._seen_here()
        self.loaded = replace(
            self.loaded,
            engine_build=self._stated.build(),
            compute_dtype=self._stated.compute_dtype() or "unknown",
            kv_dtype=self._stated.kv_dtype() or "unknown",
        )

    def adapter(self) -> Adapter:
        by_ids = bool(self.numbers.vocabulary)
        scenarios = Scenarios(batched=self.batch, prefix=self.warm, concurrent=self.serve)
        return replace(
            super().adapter(),
            template=self,
            tokenizer=self,
            vocabulary=self,
            # Without a whole vocabulary it says in ``Unseen`` with which option it would show one.
            distribution=self,
            sampler=self if by_ids else None,
            scenarios=scenarios if by_ids else Scenarios(chats=self.together),
        )

    @classmethod
    def recognises(cls, client: Client, models: list[dict[str, Any]]) -> bool:
        if not models or any(m.get("owned_by") != _OWNER for m in models):
            return False
        return isinstance(answers(client, "/version"), dict)

    def version(self) -> str | None:
        answer = answers(self.client, "/version")
        return str(answer["version"]) if isinstance(answer, dict) and "version" in answer else None

    def facts(self) -> dict[str, Any]:
        found = self._stated.facts()
        plain, special = self.tokenized("x"), self.tokenized("x", special=True)
        found["add_bos"] = special[1:] == plain
        if found["add_bos"]:
            found["bos_id"] = special[0]
        elif bos := self._stated.tokenizer.get("bos_token"):
            found["bos_id"] = self.tokenized(bos)[0]
        if self.numbers.vocabulary:
            found["vocab_size"] = self.numbers.vocabulary
        if self.numbers.forces and self._stated.added_ids():
            found["eos_ids"] = self.eos_ids()
        return found

    def eos_ids(self) -> list[int]:
        """Return the added tokens at which an answer ends; found out by forcing each one."""
        if self._ends is None:
            added = self._stated.added_ids()
            if not self.numbers.forces or not added:
                raise Unseen("hidden", "this server does not show its EOS ids")
            some = self.tokenized("x", special=True)
            self._ends = [token for token in added if self.numbers.ends(some, token)]
        return self._ends

    def encode_text(self, text: str) -> list[int]:
        return self.tokenized(text, special=True)

    def ids_of(self, text: str) -> list[int]:
        return self.tokenized(text)

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        return self.numbers.prefill(ids, cold=cold)

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        return self.numbers.decode(prompt, output)

    def batch(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Logits]:
        return self.numbers.batch(sequences)

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        return self.numbers.warm(earlier, ids)

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        return self.numbers.serve(prompts, slots, max_tokens)

    def together(self, ask: Ask, requests: Sequence[Request], slots: int) -> list[Reply]:
        return self.numbers.together(ask, requests, slots)

    def draw(self, prompt: Sequence[int], asked: dict[str, Any], n: int, seed: int) -> list[int]:
        """Draw as the answers of several requests; vLLM seeds the answers of one apart."""
        limit = min(self._stated.batched_tokens() or _DRAWN_TOKENS, _DRAWN_TOKENS)
        most = max(1, min(_DRAWN_MOST, limit // len(prompt)))
        found: list[int] = []
        while len(found) < n:
            some = min(most, n - len(found))
            drawn = self.numbers.sampled(prompt, asked, 1, seed + len(found), some)
            found += [ids[0] for ids in drawn]
        return found

    def generate(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        return self.numbers.sampled(prompt, asked, max_tokens, seed, 1)[0]

    def _takes(self, path: str, **more: Any) -> bool:
        opening = {"model": self.model, "messages": [{"role": "user", "content": "x"}]}
        try:
            self.client.post(path, {**opening, **more})
        except Refused:
            return False
        return True

    def _seen_here(self) -> Shown:
        """Return what this server shows, as it was started."""
        seen = VllmServer.shown
        stages = dict(seen.stages)
        if not self.replaces:
            stages["tokenize"] = "reenacted"
        if self.numbers.vocabulary:
            return replace(seen, stages=stages)
        stages.update(dict.fromkeys(_NUMERIC, "hidden"))
        return replace(seen, stages=stages, scenarios=("chats",))
