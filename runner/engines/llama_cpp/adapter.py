"""llama.cpp in process, through llama-cpp-python.

Stages are seen on the engine's own chat path: ``create_chat_completion`` runs unmodified, and
small spies note what passes between its parts (the text given to ``tokenize``, the ids given to
``generate``, the ids that come out). A spy may also replace the text with the truth's, so that a
stage can be asked alone. Scripted output is forced by a logits processor in the engine's sampler.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from runner.engines.base import (
    Adapter,
    Declaration,
    Load,
    Loaded,
    Logits,
    Reply,
    Request,
    Shown,
    all_stages,
)
from runner.engines.llama_cpp import sampling
from runner.engines.llama_cpp.devices import chosen
from runner.engines.llama_cpp.facts import GGML_F32, kv_type, loaded_facts, stored_type
from runner.engines.llama_cpp.state import State
from runner.engines.shared.clock import frozen_clock
from runner.engines.shared.streamed import StreamedMessage

_CALLS = {
    "instrument": "Llama.eval, Llama.scores",
    "config": "Llama.metadata, llama_model_*, llama_vocab_*",
    "weights": "the GGUF file, tensor by tensor",
    "template": "Llama.create_chat_completion, up to Llama.tokenize",
    "tokenize": "Llama.create_chat_completion and create_completion, from Llama.tokenize on",
    "logits": "Llama.eval, Llama.scores",
    "state": "llama_decode over several sequences; Llama.generate's own prefix reuse",
    "sampling": "Llama.generate over Llama.sample",
    "stop": "Llama.create_chat_completion, forced by a logits_processor",
    "detokenize": "Llama.create_chat_completion, forced by a logits_processor",
    "parse": "Llama.create_chat_completion, forced by a logits_processor",
    "chain": "Llama.create_chat_completion",
}
#: Options that the library and its server have in common.
_SHARED_OPTIONS = (
    "n_ctx",
    "n_batch",
    "n_ubatch",
    "n_threads",
    "n_threads_batch",
    "n_gpu_layers",
    "flash_attn",
    "type_k",
    "type_v",
    "rope_freq_base",
    "rope_freq_scale",
    "use_mmap",
    "offload_kqv",
    "chat_format",
    "seed",
)
DECLARATION = Declaration(
    engine="llama_cpp",
    module="llama_cpp",
    packages=("llama-cpp-python",),
    formats=("gguf",),
    backends=("cuda", "rocm", "metal", "vulkan", "cpu"),
    servings=("in_process", "managed"),
    structure_types=("f32",),
    dialect="llama-cpp-python",
    option_names=(*_SHARED_OPTIONS, "swa_full"),
    server_option_names=(
        *_SHARED_OPTIONS,
        "cache",
        "cache_size",
        "chat_template_kwargs",
        "draft_model",
        "draft_model_num_pred_tokens",
        "interrupt_requests",
        "last_n_tokens_size",
    ),
    shown=Shown(
        stages=all_stages("path"),
        calls=_CALLS,
        scenarios=("batched", "chunked", "prefix", "reused", "concurrent"),
        samplers=tuple(sampling.NAMES),
    ),
)
_GREEDY = {"temperature": 0.0, "top_k": 1, "repeat_penalty": 1.0}


class _Seen(Exception):
    """Ends a request once a spy has seen what was asked for; carries it."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class LlamaCpp(Adapter):
    """One ``llama_cpp.Llama``."""

    shown = DECLARATION.shown

    def __init__(self, load: Load) -> None:
        import llama_cpp

        self._lib = llama_cpp
        options = dict(load.engine.options)
        overrides: dict[str, Any] = {}
        options.setdefault("n_gpu_layers", 0 if load.backend == "cpu" else -1)
        device = chosen(llama_cpp, load.backend, int(options["n_gpu_layers"]))
        if load.pass_ != "timed":
            overrides["logits_all"] = True
        if load.pass_ == "structure":
            overrides.update(type_k=GGML_F32, type_v=GGML_F32, flash_attn=False)
        self._llama = llama_cpp.Llama(load.path, verbose=False, **{**options, **overrides})
        handlers = self._llama._chat_handlers
        self._handler = handlers.get(
            self._llama.chat_format
        ) or llama_cpp.llama_chat_format.get_chat_completion_handler(self._llama.chat_format)
        self._options = options
        self._state = State(llama_cpp, self._llama, self.eos_ids())
        self.loaded = Loaded(
            engine_version=llama_cpp.__version__,
            engine_build=llama_cpp.llama_print_system_info().decode(),
            compute_dtype=stored_type(llama_cpp, self._llama),
            kv_dtype=kv_type(self._llama),
            device_uuids=[],
            overrides=overrides,
            device=device,
        )

    def facts(self) -> dict[str, Any]:
        return loaded_facts(self._lib, self._llama, self._options, self.loaded, self.eos_ids())

    def eos_ids(self) -> list[int]:
        vocab = self._llama._model.vocab
        return [i for i in range(self._llama.n_vocab()) if self._lib.llama_vocab_is_eog(vocab, i)]

    def render(self, request: Request) -> str:
        def tokenize(text: bytes, **_: Any) -> list[int]:
            raise _Seen(text.decode("utf-8"))

        with self._spy("tokenize", tokenize):
            return str(self._until_seen(lambda: self._complete(request)))

    def encode_chat(self, prompt_text: str) -> list[int]:
        real = self._llama.tokenize

        def tokenize(text: bytes, **flags: Any) -> list[int]:
            raise _Seen(real(prompt_text.encode("utf-8"), **flags))

        with self._spy("tokenize", tokenize):
            request = Request(messages=[{"role": "user", "content": "x"}])
            return list(self._until_seen(lambda: self._complete(request)))

    def encode_text(self, text: str) -> list[int]:
        def generate(tokens: Sequence[int], **_: Any) -> Iterator[int]:
            raise _Seen(list(tokens))

        with self._spy("generate", generate):
            return list(self._until_seen(lambda: self._llama.create_completion(text, max_tokens=1)))

    def encode_output(self, text: str) -> list[int]:
        return list(self._llama.tokenize(text.encode("utf-8"), add_bos=False, special=True))

    def decode_ids(self, ids: Sequence[int]) -> str:
        return str(self._llama.detokenize(list(ids), special=True).decode("utf-8", "replace"))

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        if cold:
            self._llama._ctx.kv_cache_clear()
        self._llama.reset()
        self._llama.eval(list(ids))
        return np.array(self._llama.scores[: len(ids)], np.float32)

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        self._llama.reset()
        self._llama.eval(list(prompt))
        for token in output[:-1]:
            self._llama.eval([token])
        first = len(prompt) - 1
        return np.array(self._llama.scores[first : first + len(output)], np.float32)

    def batch(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Logits]:
        return self._state.batch(sequences)

    def chunked(self, ids: Sequence[int], size: int) -> Logits:
        return self._state.chunked(ids, size)

    def chunk_size(self, asked: int | None) -> int | None:
        largest = int(self._llama.n_batch)
        return largest if asked is None else min(asked, largest)

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        return self._state.warm(earlier, ids)

    def reused(self, earlier: Sequence[int], ids: Sequence[int]) -> Logits:
        return self._state.reused(earlier, ids)

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        return self._state.serve(prompts, slots, max_tokens)

    def draw(self, prompt: Sequence[int], asked: dict[str, Any], n: int, seed: int) -> list[int]:
        return sampling.draw(self._llama, prompt, asked, n, seed)

    def generate(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        return sampling.generate(self._llama, prompt, asked, max_tokens, seed)

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

    def _until_seen(self, call: Callable[[], Any]) -> Any:
        try:
            call()
        except _Seen as seen:
            return seen.value
        raise RuntimeError("the chat path did not pass through the part that was watched")


ADAPTER = LlamaCpp
