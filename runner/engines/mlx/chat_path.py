"""The chat path of mlx-lm: the tokenizer's ``apply_chat_template``, then ``generate`` on its ids.

The tokenizer is spied on where it receives the rendered text.
"""

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from runner.engines.base import Reply, Request, Unseen
from runner.engines.mlx.loop import Loop
from runner.engines.shared.clock import frozen_clock
from runner.engines.shared.spies import Seen, until_seen


class ChatPath:
    """Template, tokenizer, vocabulary and chat of one model of mlx-lm with its tokenizer."""

    def __init__(self, loop: Loop, tokenizer: Any) -> None:
        self._loop, self._tokenizer = loop, tokenizer
        self._templates = importlib.import_module("transformers.utils.chat_template_utils")
        self._seen_text: Any = None
        self._watch_tokenizer()

    def eos_ids(self) -> list[int]:
        return sorted(self._tokenizer.eos_token_ids)

    def render(self, request: Request) -> str:
        def instead(_call: Any, text: str, **_flags: Any) -> Any:
            raise Seen(text)

        return str(self._watched(request, instead))

    def encode_chat(self, prompt_text: str) -> list[int]:
        def instead(call: Any, _text: str, **flags: Any) -> Any:
            found = call(prompt_text, **flags)
            raise Seen(found if isinstance(found, list) else found["input_ids"])

        return list(self._watched(Request([{"role": "user", "content": "x"}]), instead))

    def encode_text(self, text: str) -> list[int]:
        def generate_step(prompt: Any, *_: Any, **__: Any) -> Any:
            raise Seen(prompt.tolist())

        stream = self._loop.module.stream_generate
        with self._spy("generate_step", generate_step):
            return list(until_seen(lambda: next(stream(self._loop.model, self._tokenizer, text))))

    def ids_of(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def text_of(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids)))

    def chat(self, request: Request) -> Reply:
        if request.stop:
            raise Unseen("absent", "mlx_lm in process knows no stop strings; its server does")
        prompt = self._prompt_ids(request)
        arguments: dict[str, Any] = {"max_tokens": request.max_tokens, **self._loop.options}
        if request.script is not None:
            arguments["logits_processors"] = [self._forcing(request.script)]
        seen: list[Any] = []
        arrivals: list[float] = []
        stream = self._loop.module.stream_generate

        def watched(*positional: Any, **named: Any) -> Iterator[Any]:
            for response in stream(*positional, **named):
                seen.append(response)
                yield response

        started = time.perf_counter()
        if request.stream:
            pieces = []
            for response in watched(self._loop.model, self._tokenizer, prompt, **arguments):
                pieces.append(response.text)
                if response.text:
                    arrivals.append(time.perf_counter() - started)
            text = "".join(pieces)
        else:
            with self._spy("stream_generate", watched):
                generate, model = self._loop.module.generate, self._loop.model
                text = generate(model, self._tokenizer, prompt, **arguments)
        return Reply(
            prompt_ids=prompt,
            output_ids=[int(response.token) for response in seen],
            text=text,
            message=None,
            finish_reason=seen[-1].finish_reason,
            arrivals_s=arrivals,
            total_s=time.perf_counter() - started,
            prompt_count=seen[-1].prompt_tokens,
            output_count=seen[-1].generation_tokens,
        )

    def _apply_template(self, request: Request) -> list[int]:
        with frozen_clock(self._templates):
            return list(
                self._tokenizer.apply_chat_template(
                    [dict(m) for m in request.messages],
                    tools=[dict(t) for t in request.tools] if request.tools else None,
                    add_generation_prompt=True,
                    **request.template_options,
                )
            )

    def _prompt_ids(self, request: Request) -> list[int]:
        """Return the ids of the prompt, with what the request puts in its place."""

        def instead(call: Any, _text: str, **flags: Any) -> Any:
            return call(request.prompt_text, **flags)

        if request.prompt_text is not None:
            self._seen_text = instead
        try:
            made = self._apply_template(request)
        finally:
            self._seen_text = None
        return made if request.prompt_ids is None else list(request.prompt_ids)

    def _forcing(self, script: Sequence[int]) -> Callable[[Any, Any], Any]:
        """Return a logits processor under which ``script`` comes out.

        The loop asks for each token once, so the place in the script is counted.
        """
        mx, remaining = self._loop.mx, iter(script)

        def force(_tokens: Any, logits: Any) -> Any:
            token = next(remaining, None)
            if token is None:
                return logits
            return mx.where(mx.arange(logits.shape[-1]) == token, 0.0, -1e30)[None]

        return force

    def _watched(self, request: Request, instead: Callable[..., Any]) -> Any:
        self._seen_text = instead
        try:
            return until_seen(lambda: self._apply_template(request))
        finally:
            self._seen_text = None

    @contextmanager
    def _spy(self, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
        """Put ``replacement`` in the place of a function that mlx-lm's generation calls."""
        real = getattr(self._loop.module, name)
        setattr(self._loop.module, name, replacement)
        try:
            yield
        finally:
            setattr(self._loop.module, name, real)

    def _watch_tokenizer(self) -> None:
        """Let ``_seen_text`` stand between the template and what turns its text into ids.

        A template of the tokenizer's ends in its ``__call__``; one that mlx-lm has in Python, in
        its ``encode``.
        """
        outer, inner = self, self._tokenizer._tokenizer
        base = type(inner)

        class Watched(base):  # type: ignore[misc,valid-type]  # the class is known only now
            def __call__(self, text: Any, *positional: Any, **flags: Any) -> Any:
                if outer._seen_text is not None:
                    return outer._seen_text(super().__call__, text, **flags)
                return super().__call__(text, *positional, **flags)

            def encode(self, text: Any, *positional: Any, **flags: Any) -> Any:
                if outer._seen_text is not None:
                    return outer._seen_text(super().encode, text, **flags)
                return super().encode(text, *positional, **flags)

        Watched.__name__ = base.__name__
        inner.__class__ = Watched
