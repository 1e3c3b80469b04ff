"""The chat path of llama-cpp-python, with small spies on what passes between its parts.

``create_chat_completion`` runs unmodified. Spies note the text given to ``tokenize``, the ids given
to ``generate`` and the ids that come out. A spy may also replace the text with the truth's, so that
a stage can be asked alone. Scripted output is forced by a logits processor in the engine's sampler.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from runner.engines.base import Reply, Request
from runner.engines.shared.clock import frozen_clock
from runner.engines.shared.spies import Seen, until_seen
from runner.engines.shared.streamed import StreamedMessage

_GREEDY = {"temperature": 0.0, "top_k": 1, "repeat_penalty": 1.0}


class ChatPath:
    """Template, tokenizer, vocabulary and chat of one ``llama_cpp.Llama``."""

    def __init__(self, lib: Any, llama: Any) -> None:
        self._lib, self._llama = lib, llama
        handlers, name = llama._chat_handlers, llama.chat_format
        self._handler = handlers.get(name) or (
            lib.llama_chat_format.get_chat_completion_handler(name)
        )

    def eos_ids(self) -> list[int]:
        vocab = self._llama._model.vocab
        return [i for i in range(self._llama.n_vocab()) if self._lib.llama_vocab_is_eog(vocab, i)]

    def render(self, request: Request) -> str:
        def tokenize(text: bytes, **_: Any) -> list[int]:
            raise Seen(text.decode("utf-8"))

        with self._spy("tokenize", tokenize):
            return str(until_seen(lambda: self._complete(request)))

    def encode_chat(self, prompt_text: str) -> list[int]:
        real = self._llama.tokenize

        def tokenize(text: bytes, **flags: Any) -> list[int]:
            raise Seen(real(prompt_text.encode("utf-8"), **flags))

        with self._spy("tokenize", tokenize):
            request = Request(messages=[{"role": "user", "content": "x"}])
            return list(until_seen(lambda: self._complete(request)))

    def encode_text(self, text: str) -> list[int]:
        def generate(tokens: Sequence[int], **_: Any) -> Iterator[int]:
            raise Seen(list(tokens))

        with self._spy("generate", generate):
            return list(until_seen(lambda: self._llama.create_completion(text, max_tokens=1)))

    def ids_of(self, text: str) -> list[int]:
        return list(self._llama.tokenize(text.encode("utf-8"), add_bos=False, special=True))

    def text_of(self, ids: Sequence[int]) -> str:
        return str(self._llama.detokenize(list(ids), special=True).decode("utf-8", "replace"))

    def chat(self, request: Request) -> Reply:
        seen: dict[str, list[int]] = {"prompt": [], "output": []}
        real = self._llama.generate

        def generate(tokens: Sequence[int], **kwargs: Any) -> Iterator[int]:
            seen["prompt"] = list(tokens)
            for token in real(tokens, **kwargs):
                seen["output"].append(int(token))
                yield token

        arrivals: list[float] = []
        with self._spy("generate", generate), self._swapped(request):
            started = time.perf_counter()
            answer = self._complete(request)
            if request.stream:
                streamed, finish_reason = StreamedMessage(), None
                for chunk in answer:
                    choice = chunk["choices"][0]
                    finish_reason = choice.get("finish_reason") or finish_reason
                    if streamed.add(choice["delta"]):
                        arrivals.append(time.perf_counter() - started)
                message = streamed.message()
            else:
                message = answer["choices"][0]["message"]
                finish_reason = answer["choices"][0]["finish_reason"]
            total = time.perf_counter() - started
        return Reply(
            prompt_ids=seen["prompt"],
            output_ids=seen["output"],
            text=message.get("content") or "",
            message=message,
            finish_reason=finish_reason,
            arrivals_s=arrivals,
            total_s=total,
        )

    def _complete(self, request: Request) -> Any:
        """Call the public chat API; template switches are bound to the handler that it calls."""
        if request.template_options:
            self._llama.chat_handler = functools.partial(self._handler, **request.template_options)
        try:
            with frozen_clock(self._lib.llama_chat_format):
                return self._llama.create_chat_completion(
                    messages=[dict(m) for m in request.messages],
                    tools=[dict(t) for t in request.tools] if request.tools else None,
                    max_tokens=request.max_tokens,
                    stop=list(request.stop),
                    stream=request.stream,
                    **_GREEDY,
                    **self._forcing(request.script),
                )
        finally:
            self._llama.chat_handler = None

    def _forcing(self, script: Sequence[int] | None) -> dict[str, Any]:
        """Return the arguments that make the sampler's own loop produce ``script``.

        The sampler calls its logits processor once per generated token, so the place in the script
        is counted from the first call of this request.
        """
        if script is None:
            return {}
        remaining = iter(script)

        def force(_ids: Any, scores: Any) -> Any:
            token = next(remaining, None)
            if token is None:
                return scores
            forced = np.full_like(scores, -1e30)
            forced[token] = 0.0
            return forced

        return {"logits_processor": self._lib.LogitsProcessorList([force])}

    @contextmanager
    def _swapped(self, request: Request) -> Iterator[None]:
        """Put the request's prompt in the place of what the template or the tokenizer made."""
        if request.prompt_text is None and request.prompt_ids is None:
            yield
            return
        real = self._llama.tokenize

        def tokenize(text: bytes, **flags: Any) -> list[int]:
            if request.prompt_ids is not None:
                return list(request.prompt_ids)
            return list(real((request.prompt_text or "").encode("utf-8"), **flags))

        with self._spy("tokenize", tokenize):
            yield

    @contextmanager
    def _spy(self, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
        setattr(self._llama, name, replacement)
        try:
            yield
        finally:
            delattr(self._llama, name)
