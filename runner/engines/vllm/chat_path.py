"""The chat path of vLLM: ``LLM.chat`` and ``LLM.generate`` run unmodified.

Small spies stand between the parts of its renderer: the prompt that goes to the tokenizer, the ids
that go to the engine. Scripted output is forced by a logits processor in the engine's own loop.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from runner.engines.base import Reply, Request, Unseen
from runner.engines.shared.clock import frozen_clock
from runner.engines.shared.spies import Seen, until_seen
from runner.engines.vllm.facts import end_ids
from runner.engines.vllm.parsers import Delta, Parsers
from runner.engines.vllm.watch import SCRIPT


class ChatPath:
    """Template, tokenizer, vocabulary and chat of one ``vllm.LLM``.

    ``forces`` says whether its logits processor is there. ``content_format`` is that of the option
    ``chat_template_content_format``. Without parsers nothing is parsed.
    """

    def __init__(
        self, lib: Any, llm: Any, parsers: Parsers | None, content_format: str, *, forces: bool
    ) -> None:
        self._lib, self._llm, self._parsers = lib, llm, parsers
        self._format, self._forces = content_format, forces
        self._engine = llm.llm_engine
        self._renderer = self._engine.renderer

    def eos_ids(self) -> list[int]:
        return end_ids(self._engine)

    def render(self, request: Request) -> str:
        def tokenize(prompts: Sequence[Any], *_: Any) -> Any:
            raise Seen(prompts[0].get("prompt"))

        with self._spy(self._renderer, "tokenize_prompts", tokenize):
            text = until_seen(lambda: self._chat(request, self._lib.SamplingParams()))
        if text is None:
            raise Unseen("hidden", "this renderer makes ids at once, and no text")
        return str(text)

    def encode_chat(self, prompt_text: str) -> list[int]:
        opening = [{"role": "user", "content": "x"}]
        request = Request(messages=opening, prompt_text=prompt_text)
        with self._swapped(request), self._ids_seen():
            asked = self._lib.SamplingParams()
            return list(until_seen(lambda: self._chat(request, asked)))

    def encode_text(self, text: str) -> list[int]:
        with self._ids_seen():
            asked = self._lib.SamplingParams(max_tokens=1)
            generate = self._llm.generate
            return list(until_seen(lambda: generate([text], asked, use_tqdm=False)))

    def ids_of(self, text: str) -> list[int]:
        return list(self._llm.get_tokenizer().encode(text, add_special_tokens=False))

    def text_of(self, ids: Sequence[int]) -> str:
        return str(self._llm.get_tokenizer().decode(list(ids), skip_special_tokens=False))

    def chat(self, request: Request) -> Reply:
        if request.script is not None and not self._forces:
            raise Unseen("hidden", "a timed engine has nothing that forces ids")
        params = self._lib.SamplingParams(
            temperature=0.0,
            max_tokens=request.max_tokens,
            stop=list(request.stop),
            extra_args=None if request.script is None else {SCRIPT: list(request.script)},
        )
        started = time.perf_counter()
        with self._swapped(request):
            if request.stream:
                return self._streamed(request, params, started)
            (answer,) = self._chat(request, params)
        total = time.perf_counter() - started
        choice = answer.outputs[0]
        prompt, ids = list(answer.prompt_token_ids), list(choice.token_ids)
        message, called = None, False
        if self._parsers is not None:
            message, called = self._parsers.whole(request, prompt, choice.text, ids)
        return Reply(
            prompt_ids=prompt,
            output_ids=ids,
            text=choice.text,
            message=message,
            finish_reason="tool_calls" if called else choice.finish_reason,
            arrivals_s=[],
            total_s=total,
        )

    def _streamed(self, request: Request, params: Any, started: float) -> Reply:
        """Queue the chat and step the engine as its server does, taking what each step adds."""
        add, kinds = self._engine.add_request, self._lib.sampling_params.RequestOutputKind

        def by_deltas(name: str, prompt: Any, asked: Any, **more: Any) -> str:
            asked.output_kind = kinds.DELTA
            return str(add(name, prompt, asked, **more))

        deltas: list[Delta] = []
        arrivals, prompt, reason = [], list[int](), None
        with self._spy(self._engine, "add_request", by_deltas):
            names = self._chat(request, params, call=self._llm.enqueue_chat)
        try:
            while self._engine.has_unfinished_requests():
                for answer in self._engine.step():
                    choice = answer.outputs[0]
                    if choice.text:
                        arrivals.append(time.perf_counter() - started)
                    prompt, reason = list(answer.prompt_token_ids), choice.finish_reason
                    deltas.append((choice.text, list(choice.token_ids), reason is not None))
        except BaseException:
            self._engine.abort_request(names, internal=True)
            raise
        total = time.perf_counter() - started
        message, called = None, False
        if self._parsers is not None:
            message, called = self._parsers.streamed(request, prompt, deltas)
        return Reply(
            prompt_ids=prompt,
            output_ids=[token for _, ids, _ in deltas for token in ids],
            text="".join(text for text, _, _ in deltas),
            message=message,
            finish_reason="tool_calls" if called and reason == "stop" else reason,
            arrivals_s=arrivals,
            total_s=total,
        )

    def _chat(self, request: Request, params: Any, call: Callable[..., Any] | None = None) -> Any:
        import transformers

        with frozen_clock(transformers.utils.chat_template_utils):
            return (call or self._llm.chat)(
                [dict(m) for m in request.messages],
                params,
                use_tqdm=False,
                tools=[dict(t) for t in request.tools] if request.tools else None,
                chat_template_kwargs=dict(request.template_options) or None,
                chat_template_content_format=self._format,
            )

    @contextmanager
    def _swapped(self, request: Request) -> Iterator[None]:
        """Put the request's prompt in the place of what the template or the tokenizer made."""
        tokenize, ready = self._renderer.tokenize_prompts, self._renderer.process_for_engine

        def other_text(prompts: Sequence[Any], *rest: Any) -> Any:
            if "prompt" not in prompts[0]:
                raise Unseen("hidden", "this renderer makes ids at once, and no text")
            return tokenize([{**prompts[0], "prompt": request.prompt_text}], *rest)

        def other_ids(prompt: Any, *rest: Any, **named: Any) -> Any:
            return ready(
                {**prompt, "prompt_token_ids": list(request.prompt_ids or ())}, *rest, **named
            )

        if request.prompt_ids is not None:
            with self._spy(self._renderer, "process_for_engine", other_ids):
                yield
        elif request.prompt_text is not None:
            with self._spy(self._renderer, "tokenize_prompts", other_text):
                yield
        else:
            yield

    def _ids_seen(self) -> Any:
        def ready(prompt: Any, *_: Any, **__: Any) -> Any:
            raise Seen(prompt["prompt_token_ids"])

        return self._spy(self._renderer, "process_for_engine", ready)

    @contextmanager
    def _spy(self, owner: Any, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
        setattr(owner, name, replacement)
        try:
            yield
        finally:
            delattr(owner, name)
