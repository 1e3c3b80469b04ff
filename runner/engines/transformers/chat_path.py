"""The chat path of transformers: ``apply_chat_template``, ``generate``, ``decode``.

The tokenizer is spied on where it receives the rendered text, so that tokenization can be asked
alone.
"""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from runner.engines.base import Message, Reply, Request
from runner.engines.shared.clock import frozen_clock
from runner.engines.shared.spies import Seen, until_seen
from runner.engines.transformers.hooks import forcing, streamer, without_forward


class ChatPath:
    """Template, tokenizer, vocabulary and chat of one model with its tokenizer."""

    def __init__(self, torch: Any, lib: Any, model: Any, tokenizer: Any) -> None:
        self._torch, self._lib = torch, lib
        self._model, self._tokenizer = model, tokenizer
        self._seen_text: Any = None
        self._watch_tokenizer()

    def eos_ids(self) -> list[int]:
        ids = self._model.generation_config.eos_token_id
        return sorted(ids) if isinstance(ids, list) else [] if ids is None else [ids]

    def render(self, request: Request) -> str:
        return str(self._apply_template(request, tokenize=False))

    def encode_chat(self, prompt_text: str) -> list[int]:
        def instead(call: Any, _text: str, **flags: Any) -> Any:
            raise Seen(list(call(prompt_text, **flags)["input_ids"]))

        opening = Request([{"role": "user", "content": "x"}])
        self._seen_text = instead
        try:
            return list(until_seen(lambda: self._apply_template(opening, tokenize=True)))
        finally:
            self._seen_text = None

    def encode_text(self, text: str) -> list[int]:
        return list(self._tokenizer(text)["input_ids"])

    def ids_of(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def text_of(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def chat(self, request: Request) -> Reply:
        torch, lib = self._torch, self._lib
        prompt = self._prompt_ids(request)
        ids = torch.tensor([prompt], device=self._model.device)
        arguments: dict[str, Any] = {"max_new_tokens": request.max_tokens, "do_sample": False}
        if request.stop:
            arguments.update(stop_strings=list(request.stop), tokenizer=self._tokenizer)
        if request.script is not None:
            force = forcing(torch, lib, len(prompt), request.script)
            arguments["logits_processor"] = lib.LogitsProcessorList([force])
        pieces: list[tuple[float, str]] = []
        started = time.perf_counter()
        if request.stream:
            arguments["streamer"] = streamer(lib, self._tokenizer, started, pieces)
        whole = request.script is not None and len(request.script) >= request.max_tokens
        with torch.no_grad(), without_forward(torch, lib, self._model) if whole else nullcontext():
            out = self._model.generate(ids, attention_mask=torch.ones_like(ids), **arguments)
        total = time.perf_counter() - started
        output = out[0, len(prompt) :].tolist()
        if request.stream:
            text = "".join(piece for _, piece in pieces)
        else:
            text = self._tokenizer.decode(output, skip_special_tokens=True)
        stopped = (
            len(output) < request.max_tokens
            or output[-1] in self.eos_ids()
            or any(stop in text for stop in request.stop)
        )
        return Reply(
            prompt_ids=prompt,
            output_ids=output,
            text=text,
            # What was streamed is all that a client has: it lacks special tokens.
            message=self._parsed(prompt, text if request.stream else self.text_of(output)),
            finish_reason="stop" if stopped else "length",
            arrivals_s=[at for at, piece in pieces if piece],
            total_s=total,
        )

    def _apply_template(self, request: Request, *, tokenize: bool) -> Any:
        with frozen_clock(self._lib.utils.chat_template_utils):
            return self._tokenizer.apply_chat_template(
                [dict(m) for m in request.messages],
                tools=[dict(t) for t in request.tools] if request.tools else None,
                add_generation_prompt=True,
                tokenize=tokenize,
                return_dict=False,
                **request.template_options,
            )

    def _prompt_ids(self, request: Request) -> list[int]:
        """Return the ids of the prompt, with what the request puts in its place."""

        def instead(call: Any, _text: str, **flags: Any) -> Any:
            return call(request.prompt_text, **flags)

        if request.prompt_text is not None:
            self._seen_text = instead
        try:
            made = list(self._apply_template(request, tokenize=True))
        finally:
            self._seen_text = None
        return made if request.prompt_ids is None else list(request.prompt_ids)

    def _parsed(self, prompt: list[int], text: str) -> Message | None:
        """Return a text's message as the library's pipelines parse it, if the model says how."""
        if getattr(self._tokenizer, "response_template", None) is None:
            return None
        message: Message = self._tokenizer.parse_response(text, prefix=self.text_of(prompt))
        return message

    def _watch_tokenizer(self) -> None:
        """Let ``_seen_text`` stand between apply_chat_template and the tokenizer's own call."""
        outer, base = self, type(self._tokenizer)

        class Watched(base):  # type: ignore[misc,valid-type]  # the class is known only now
            def __call__(self, text: Any, *positional: Any, **flags: Any) -> Any:
                if outer._seen_text is not None:
                    return outer._seen_text(super().__call__, text, **flags)
                return super().__call__(text, *positional, **flags)

        Watched.__name__ = base.__name__
        self._tokenizer.__class__ = Watched
