"""MLX in process, through mlx-lm: Metal on Macs, and the CPU of any Linux machine.

The chat path is the documented one: the tokenizer's ``apply_chat_template``, then ``generate`` or
``stream_generate`` on the ids that come out. The tokenizer is spied on where it receives the
rendered text. Stop strings and the parsing of answers belong to mlx-lm's server, not to the
library: here they are absent.
"""

import importlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runner.engines.base import (
    Adapter,
    Declaration,
    Load,
    Loaded,
    Logits,
    Reply,
    Request,
    Shown,
    Unseen,
    all_stages,
)
from runner.engines.mlx import sampling
from runner.engines.mlx.facts import computed_type, loaded_facts
from runner.engines.mlx.loop import LOOP_OPTIONS, Loop, as_numpy
from runner.engines.mlx.state import State
from runner.engines.shared.clock import frozen_clock
from runner.engines.shared.names import LONG_DTYPES

DECLARATION = Declaration(
    engine="mlx",
    module="mlx_lm",
    packages=("mlx-lm",),
    formats=("hf",),
    backends=("metal", "cpu"),
    servings=("in_process", "managed"),
    dialect="mlx",
    structure_types=("f32", "f16", "bf16"),
    option_names=("dtype", *LOOP_OPTIONS),
    server_option_names=(
        "chat_template",
        "chat_template_args",
        "use_default_chat_template",
        "decode_concurrency",
        "prompt_concurrency",
        "prefill_step_size",
        "prompt_cache_size",
        "prompt_cache_bytes",
        "kv_bits",
        "kv_group_size",
        "quantized_kv_start",
        "max_tokens",
        "temp",
        "top_p",
        "top_k",
        "min_p",
    ),
    shown=Shown(
        stages=all_stages("path", parse="absent"),
        calls={
            "instrument": "generate_step, over the model",
            "config": "model.args, the layers, TokenizerWrapper",
            "weights": "the safetensors files, tensor by tensor",
            "template": "TokenizerWrapper.apply_chat_template, up to the tokenizer's own call",
            "tokenize": "TokenizerWrapper.apply_chat_template and stream_generate, up to the ids",
            "logits": "generate_step, over the model and its KV cache",
            "state": "PromptProcessingBatch, GenerationBatch, BatchGenerator, LRUPromptCache, "
            "trim_prompt_cache, generate_step(prefill_step_size)",
            "sampling": "make_sampler, make_logits_processors in generate_step",
            "stop": "generate, forced by a logits processor; it knows no stop strings",
            "detokenize": "generate and stream_generate, forced by a logits processor",
            "chain": "apply_chat_template, generate, stream_generate",
        },
        scenarios=("batched", "chunked", "prefix", "reused", "concurrent"),
        samplers=tuple(sampling.NAMES),
    ),
)


class _Seen(Exception):
    """Ends a call once a spy has seen what was asked for; carries it."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class Mlx(Adapter):
    """One model of mlx-lm with its tokenizer.

    Options: ``dtype`` (f32, f16, bf16) casts the loaded weights; the others are those of
    ``generate_step``, and reach every use of it.
    """

    shown = DECLARATION.shown

    def __init__(self, load: Load) -> None:
        options, overrides = dict(load.engine.options), dict[str, Any]()
        if load.pass_ == "structure" and load.backend == "metal":
            # Newer GPUs multiply float32 in TF32 unless this is set before the first product.
            overrides["MLX_ENABLE_TF32"] = os.environ["MLX_ENABLE_TF32"] = "0"
        mx = self._mx = importlib.import_module("mlx.core")
        # Before mlx-lm is imported: it makes its stream on the device of that moment.
        _choose_device(mx, load.backend)
        lib = importlib.import_module("mlx_lm")
        dtype = _dtype_asked(options)
        if load.pass_ == "structure":
            overrides["dtype"] = dtype = "f32"
            if options.pop("kv_bits", None) is not None:
                overrides["kv_bits"] = None
        self._model, self._tokenizer = lib.load(load.path)
        if dtype is not None:
            self._model.set_dtype(getattr(mx, LONG_DTYPES[dtype]))
        self._folder = Path(load.path)
        self._templates = importlib.import_module("transformers.utils.chat_template_utils")
        self._seen_text: Any = None
        self._watch_tokenizer()
        self._loop = Loop(mx, self._model, options)
        self._state = State(self._loop, self.eos_ids())
        self.loaded = Loaded(
            engine_version=lib.__version__,
            engine_build=f"mlx {mx.__version__}, {_device(mx)['device_name']}",
            compute_dtype=computed_type(mx, _leaves(self._model.parameters())),
            kv_dtype=self._kv_type(),
            device_uuids=[],
            overrides=overrides,
            device={"device": load.backend, **_device(mx), "runtime": f"mlx {mx.__version__}"},
        )

    def facts(self) -> dict[str, Any]:
        bos = self._tokenizer.bos_token_id
        return loaded_facts(
            self._model,
            self._tokenizer,
            self._folder,
            self.loaded,
            self.eos_ids(),
            add_bos=bos is not None and self.encode_text("x")[:1] == [bos],
        )

    def eos_ids(self) -> list[int]:
        return sorted(self._tokenizer.eos_token_ids)

    def render(self, request: Request) -> str:
        def instead(_call: Any, text: str, **_flags: Any) -> Any:
            raise _Seen(text)

        return str(self._until_seen(request, instead))

    def encode_chat(self, prompt_text: str) -> list[int]:
        def instead(call: Any, _text: str, **flags: Any) -> Any:
            found = call(prompt_text, **flags)
            raise _Seen(found if isinstance(found, list) else found["input_ids"])

        return list(self._until_seen(Request([{"role": "user", "content": "x"}]), instead))

    def encode_text(self, text: str) -> list[int]:
        def generate_step(prompt: Any, *_: Any, **__: Any) -> Any:
            raise _Seen(prompt.tolist())

        try:
            with self._spy("generate_step", generate_step):
                next(self._loop.module.stream_generate(self._model, self._tokenizer, text))
        except _Seen as seen:
            return list(seen.value)
        raise RuntimeError("stream_generate did not hand its ids to generate_step")

    def encode_output(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def decode_ids(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids)))

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        if not cold:
            return self._loop.evaluate(ids)
        logits: Logits = as_numpy(self._mx, self._model(self._mx.array([list(ids)])))[0]
        return logits

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        return self._loop.evaluate(prompt, output)[len(prompt) - 1 :]

    def batch(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Logits]:
        return self._state.batch(sequences)

    def chunked(self, ids: Sequence[int], size: int) -> Logits:
        return self._loop.evaluate(ids, prefill_step_size=size)

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        return self._state.warm(earlier, ids)

    def reused(self, earlier: Sequence[int], ids: Sequence[int]) -> Logits:
        return self._state.reused(earlier, ids)

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        return self._state.serve(prompts, slots, max_tokens)

    def draw(self, prompt: Sequence[int], asked: dict[str, Any], n: int, seed: int) -> list[int]:
        return sampling.draw(self._loop, prompt, asked, n, seed)

    def generate(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        return sampling.generate(self._loop, self._tokenizer, prompt, asked, max_tokens, seed)

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
            for response in watched(self._model, self._tokenizer, prompt, **arguments):
                pieces.append(response.text)
                if response.text:
                    arrivals.append(time.perf_counter() - started)
            text = "".join(pieces)
        else:
            with self._spy("stream_generate", watched):
                text = self._loop.module.generate(self._model, self._tokenizer, prompt, **arguments)
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
        mx, remaining = self._mx, iter(script)

        def force(_tokens: Any, logits: Any) -> Any:
            token = next(remaining, None)
            if token is None:
                return logits
            return mx.where(mx.arange(logits.shape[-1]) == token, 0.0, -1e30)[None]

        return force

    def _until_seen(self, request: Request, instead: Callable[..., Any]) -> Any:
        self._seen_text = instead
        try:
            self._apply_template(request)
        except _Seen as seen:
            return seen.value
        finally:
            self._seen_text = None
        raise RuntimeError("apply_chat_template did not hand its text to the tokenizer")

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

    def _kv_type(self) -> str:
        """Return the type of what one token leaves in a cache, and what becomes of it later."""
        cache = self._loop.new_cache()
        self._model(self._mx.array([[0]]), cache=cache)
        found = computed_type(self._mx, _leaves([part.state for part in cache]))
        bits = self._loop.options.get("kv_bits")
        return found if bits is None else f"{found}, later {bits} bits"


def _choose_device(mx: Any, backend: str) -> None:
    """Compute on the backend's device; refuse rather than fall back to the CPU."""
    if backend == "metal" and not mx.metal.is_available():
        raise RuntimeError(f"this build of mlx ({mx.__version__}) finds no metal device")
    mx.set_default_device(mx.gpu if backend == "metal" else mx.cpu)


def _device(mx: Any) -> dict[str, str]:
    """Return what the default device calls itself."""
    told = mx.device_info()
    return {"device_name": str(told.get("device_name", mx.default_device()))}


def _leaves(tree: Any) -> list[Any]:
    found = importlib.import_module("mlx.utils").tree_flatten(tree)
    return [array for _, array in found if hasattr(array, "dtype")]


def _dtype_asked(options: dict[str, Any]) -> str | None:
    asked = options.pop("dtype", None)
    if asked is None or asked in LONG_DTYPES:
        return None if asked is None else str(asked)
    raise ValueError(f"option dtype is {asked!r}; choose one of {', '.join(sorted(LONG_DTYPES))}")


ADAPTER = Mlx
