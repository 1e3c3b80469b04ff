"""llama-server, llama.cpp's own: beside OpenAI's API it shows its prompts, ids and distributions.

Field names are those of its README and sources (llama.cpp of August 2026): ``/apply-template``,
``/tokenize``, ``/detokenize``, ``/props`` and ``/completion`` with an array of ids as prompt.

- A script is forced through its chat path by a grammar of token ids (``<[7]>``), so that its stop
  handling, detokenizer and parser run unmodified. It takes no grammar beside tools, so scripted
  cases with tools stay hidden.
- It returns the distribution of ids that it generates, and of no others. So a sequence is forced
  by such a grammar, piece by piece where an EOS is in it; cold, each position is a prompt of its
  own. Probabilities below float32 come as its lowest number and stored as ``_LEAST``.
"""

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

from runner.engines.abilities import Adapter, Scenarios
from runner.engines.base import Load, Logits, Reply, Request, Unseen
from runner.engines.servers.http_client import Client
from runner.engines.servers.llama_server_completion import (
    GREEDY,
    Completion,
    as_object,
)
from runner.engines.servers.llama_server_facts import file_type, meta_of, stated_facts
from runner.engines.servers.plain import (
    Plain,
    answers,
    as_message,
    first_choice,
    listed_ids,
    numbered,
)
from runner.engines.servers.server_errors import ServerFailure
from runner.engines.shown import Shown

_OWNER = "llamacpp"
#: Sampling parameters, and what the server calls them.
_SAMPLERS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "logit_bias": "logit_bias",
}
#: Unasked, this server switches thinking on, which templates do not: left so, every script would be
#: taken for thoughts, and a fault of the prompt would show as one of the parser.
_AS_TEMPLATES_DO = {"enable_thinking": False}
#: What a bias needs to beat every logit.
_SURELY = 1e4


class LlamaServer(Plain):
    """One ``llama-server`` with one model."""

    name = "llama-server"
    parameters = tuple(_SAMPLERS)
    shown = Shown(
        stages={
            "instrument": "endpoint",
            "config": "endpoint",
            "weights": "hidden",
            "template": "endpoint",
            "tokenize": "reenacted",
            "logits": "endpoint",
            "state": "endpoint",
            "sampling": "endpoint",
            "stop": "endpoint",
            "detokenize": "endpoint",
            "parse": "endpoint",
            "chain": "endpoint",
        },
        calls={
            "instrument": "POST /completion with ids, n_probs over the vocabulary",
            "config": "GET /props, GET models",
            "template": "POST /apply-template",
            "tokenize": "POST /tokenize",
            "logits": "POST /completion with ids, n_probs over the vocabulary",
            "state": "POST /completion with ids, in one slot again or several at once",
            "sampling": "POST /completion with ids, return_tokens",
            "stop": "POST chat/completions, forced by a grammar of ids",
            "detokenize": "POST chat/completions, forced by a grammar of ids",
            "parse": "POST chat/completions, forced by a grammar of ids",
            "chain": "POST chat/completions with return_tokens",
        },
        scenarios=("prefix", "reused", "concurrent"),
    )
    takes_template_options = True

    def __init__(self, load: Load, client: Client, model: str) -> None:
        self._props = as_object(client.get("/props"), "/props")
        super().__init__(load, client, model)
        self.loaded = replace(
            self.loaded,
            engine_build=str(self._props.get("build_info") or ""),
            compute_dtype=file_type(self._props.get("model_ftype")),
        )
        listed = as_object(client.get("models"), "models").get("data")
        self._meta = meta_of(listed if isinstance(listed, list) else [], model)
        self._completion = Completion(client, self._meta.get("n_vocab"), self.eos_ids)
        self._eos: list[int] | None = None
        self._bos: str | None = None

    def adapter(self) -> Adapter:
        return replace(
            super().adapter(),
            template=self,
            tokenizer=self,
            vocabulary=self,
            distribution=self,
            sampler=self,
            scenarios=Scenarios(prefix=self.warm, reused=self.reused, concurrent=self.serve),
        )

    @classmethod
    def recognises(cls, client: Client, models: list[dict[str, Any]]) -> bool:
        owned = bool(models) and all(m.get("owned_by") == _OWNER for m in models)
        props = answers(client, "/props") if owned else None
        return isinstance(props, dict) and "build_info" in props

    def version(self) -> str | None:
        return str(self._props.get("build_info") or "") or None

    def facts(self) -> dict[str, Any]:
        """Return what it states; layers, rotary base and the cache's type it keeps to itself."""
        found = stated_facts(self._props, self._meta)
        found["compute_dtype"] = self.loaded.compute_dtype
        with suppress(Unseen):
            found["eos_ids"] = self.eos_ids()
        found["add_bos"] = bool(self._added_bos())
        bos = self._tokenized(str(self._props.get("bos_token") or ""), add_special=False)
        if len(bos) == 1:
            found["bos_id"] = bos[0]
        return found

    def eos_ids(self) -> list[int]:
        """Return the ids at which generation ends: those that ``ignore_eos`` says it forbids."""
        if self._eos is None:
            body = {"prompt": "a", "n_predict": 1, "ignore_eos": True, "cache_prompt": False}
            settings = self._completion.completed(body).get("generation_settings")
            biases = settings.get("logit_bias") if isinstance(settings, dict) else None
            if not isinstance(biases, list) or not all(isinstance(b, dict) for b in biases):
                raise Unseen("hidden", "this version does not say which ids end an answer")
            self._eos = sorted(numbered(b.get("token") for b in biases))
        return self._eos

    def render(self, request: Request) -> str:
        body = self.chat_body(replace(request, script=None, stream=False))
        text = as_object(self.client.post("/apply-template", body), "/apply-template").get("prompt")
        if not isinstance(text, str):
            raise ServerFailure("/apply-template did not return a prompt")
        return self._added_bos() + text

    def encode_chat(self, prompt_text: str) -> list[int]:
        # The chat path takes a BOS away from the template's text, for the tokenizer to add it.
        return self._tokenized(prompt_text.removeprefix(self._added_bos()), add_special=True)

    def encode_text(self, text: str) -> list[int]:
        return self._tokenized(text, add_special=True)

    def ids_of(self, text: str) -> list[int]:
        return self._tokenized(text, add_special=False)

    def text_of(self, ids: Sequence[int]) -> str:
        return self._completion.text(ids)

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        return self._completion.rows(ids, 0, cold=cold)

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        return self._completion.rows([*prompt, *output[:-1]], len(prompt) - 1)

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        """Serve ``earlier``, then ``ids`` from where the last one parts from them.

        The answer for the first position states how many the server took from its cache.
        """
        for prompt in earlier:
            self._completion.generated(prompt, GREEDY, 1, None, id_slot=0)
        shared = 0
        for a, b in zip(earlier[-1] if earlier else (), ids[:-1], strict=False):
            if a != b:
                break
            shared += 1
        timings = self._completion.forced_on(ids[: shared + 1], ()).get("timings")
        cached = timings.get("cache_n") if isinstance(timings, dict) else None
        if not isinstance(cached, int):
            raise Unseen("hidden", "this version does not say what came from its cache")
        first = min(cached, shared)
        return first, self._completion.rows(ids, first)

    def reused(self, earlier: Sequence[int], ids: Sequence[int]) -> Logits:
        self._completion.generated(earlier, GREEDY, 1, None, id_slot=0)
        return self._completion.rows(ids, 0, cold=True)

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        def ask(prompt: Sequence[int]) -> list[int]:
            return self._completion.generated(prompt, GREEDY, max_tokens, None)

        with ThreadPoolExecutor(slots) as pool:
            return list(pool.map(ask, prompts))

    def draw(self, prompt: Sequence[int], asked: dict[str, Any], n: int, seed: int) -> list[int]:
        seeds = random.Random(seed)
        drawn = [self.generate(prompt, asked, 1, seeds.getrandbits(31)) for _ in range(n)]
        return [ids[0] for ids in drawn]

    def generate(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        named = {_SAMPLERS[name]: value for name, value in asked.items()}
        if bias := named.get("logit_bias"):
            named["logit_bias"] = [[int(token), float(value)] for token, value in bias.items()]
        return self._completion.generated(prompt, named, max_tokens, seed)

    def chat(self, request: Request) -> Reply:
        if request.prompt_text is not None or request.prompt_ids is not None:
            return self._swapped(request)
        if request.stream:
            return self.ask("chat/completions", self._forced(request), stream=True)
        prompt = self.encode_chat(self.render(request))
        body = {**self._forced(request), "return_tokens": True, "verbose": True}
        started = time.perf_counter()
        answer = self.client.post("chat/completions", body)
        seconds = time.perf_counter() - started
        choice = first_choice(answer)
        message, usage = as_message(choice), answer.get("usage")
        count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        verbose = answer.get("__verbose")
        tokens = verbose.get("tokens") if isinstance(verbose, dict) else None
        return Reply(
            # What /tokenize says is what the chat path took if there is as much of it.
            prompt_ids=prompt if len(prompt) == count else None,
            output_ids=numbered(iter(tokens)) if isinstance(tokens, list) else None,
            text=message.get("content") or "",
            message=message,
            finish_reason=choice.get("finish_reason"),
            arrivals_s=[],
            total_s=seconds,
            prompt_count=count,
            output_count=usage.get("completion_tokens") if isinstance(usage, dict) else None,
        )

    def _forced(self, request: Request) -> dict[str, Any]:
        """Return the chat request, with a grammar that allows its script and nothing else.

        A character in several ids is forced as text, which may come out in other ids.
        An EOS of the script is where the grammar ends: all EOS are allowed there, so the one
        of the script is preferred by a bias, which the grammar overrules until then.
        """
        body = self.chat_body(request)
        if request.script is None:
            return body
        body["chat_template_kwargs"] = {**_AS_TEMPLATES_DO, **request.template_options}
        if request.tools:
            raise Unseen("hidden", "beside tools this server takes no grammar to force a script")
        ends, script = set(self.eos_ids()), list(request.script)
        stop = next((i for i, token in enumerate(script) if token in ends), len(script))
        body["grammar"], by_ids = self._completion.script(script[:stop])
        if stop < len(script):
            body["logit_bias"] = [[script[stop], _SURELY]]
        if not by_ids:
            if request.max_tokens <= stop:
                raise Unseen("hidden", "a character in several ids is forced as text, in any ids")
            # As text it may take more ids than the script has: its EOS ends it, not a limit.
            body["max_tokens"] = 4 * len(script) + 4
        return body

    def _swapped(self, request: Request) -> Reply:
        """Ask with another prompt: past the template, and so past the parser of its messages."""
        if request.tools or request.script is not None or request.stream:
            raise Unseen("hidden", "this server parses answers to messages only")
        prompt: Any = (
            request.prompt_text if request.prompt_ids is None else list(request.prompt_ids)
        )
        started = time.perf_counter()
        body = {"prompt": prompt, "n_predict": request.max_tokens, "stop": list(request.stop)}
        answer = self._completion.completed({**body, **GREEDY, "return_tokens": True})
        text, tokens = answer.get("content"), answer.get("tokens")
        if not isinstance(text, str) or not isinstance(tokens, list):
            raise ServerFailure("/completion did not return a text and its ids")
        return Reply(
            prompt_ids=None if request.prompt_ids is None else list(request.prompt_ids),
            output_ids=numbered(iter(tokens)),
            text=text,
            message=None,
            finish_reason="length" if answer.get("stop_type") == "limit" else "stop",
            arrivals_s=[],
            total_s=time.perf_counter() - started,
        )

    def _added_bos(self) -> str:
        """Return the text of the BOS that the tokenizer puts before every prompt, if it does."""
        if self._bos is None:
            bare, whole = (self._tokenized("a", add_special=special) for special in (False, True))
            self._bos = str(self._props.get("bos_token") or "") if whole[1:] == bare else ""
        return self._bos

    def _tokenized(self, text: str, *, add_special: bool) -> list[int]:
        body = {"content": text, "add_special": add_special, "parse_special": True}
        return listed_ids(self.client.post("/tokenize", body), "tokens")


DIALECT = LlamaServer
