"""Hugging Face transformers in process: the reference engine, and a candidate like any other.

The chat path is the documented one: ``apply_chat_template``, ``generate``, ``decode``. The
tokenizer is spied on where it receives the rendered text, so that tokenization can be asked alone.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runner.engines.base import (
    Adapter,
    Declaration,
    Load,
    Loaded,
    Logits,
    Message,
    Reply,
    Request,
    Shown,
    all_stages,
)
from runner.engines.shared.clock import frozen_clock
from runner.engines.shared.names import LONG_DTYPES, dtype_name
from runner.engines.transformers import sampling
from runner.engines.transformers.facts import loaded_facts
from runner.engines.transformers.hooks import forcing, streamer
from runner.engines.transformers.q8_activations import round_activations
from runner.engines.transformers.state import State

_CALLS = {
    "instrument": "forward of the model",
    "config": "model.config, generation_config, tokenizer",
    "weights": "the safetensors files, tensor by tensor",
    "template": "tokenizer.apply_chat_template",
    "tokenize": "tokenizer.apply_chat_template, from the tokenizer's own call on",
    "logits": "forward of the model, with its KV cache",
    "state": "forward of the model over padded batches, cropped and static caches",
    "sampling": "model.generate(do_sample=True)",
    "stop": "model.generate, forced by a LogitsProcessor",
    "detokenize": "tokenizer.decode, TextStreamer",
    "parse": "tokenizer.parse_response",
    "chain": "apply_chat_template, generate, decode, parse_response",
}
DECLARATION = Declaration(
    engine="transformers",
    module="transformers",
    packages=("transformers",),
    formats=("hf",),
    backends=("cuda", "rocm", "metal", "xpu", "cpu"),
    servings=("in_process",),
    structure_types=("f32", "f16", "bf16"),
    option_names=(
        "dtype",
        "attn_implementation",
        "threads",
        "padding",
        "prefill_chunk",
        "flush_denormal",
        "mkldnn",
        "activations",
    ),
    shown=Shown(
        stages=all_stages("path"),
        calls=_CALLS,
        scenarios=("batched", "chunked", "prefix", "reused", "concurrent"),
        samplers=tuple(sampling.NAMES),
    ),
)
_DEVICES = {"cuda": "cuda", "rocm": "cuda", "metal": "mps", "xpu": "xpu", "cpu": "cpu"}


class _Seen(Exception):
    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class Transformers(Adapter):
    """One causal language model with its tokenizer.

    Options: ``dtype`` (f32, f16, bf16), ``attn_implementation`` (sdpa, eager), ``threads``,
    ``padding`` (left padding tokens in each forward), ``prefill_chunk`` (tokens per forward of a
    prompt), ``flush_denormal``, ``mkldnn``, ``activations: q8_0`` (inputs of every linear layer
    rounded as ggml's CPU kernels round them). All but the first are benign: they make floors.
    """

    shown = DECLARATION.shown

    def __init__(self, load: Load) -> None:
        import torch
        import transformers

        self._torch, self._lib = torch, transformers
        options = dict(load.engine.options)
        if threads := options.get("threads"):
            torch.set_num_threads(int(threads))
        torch.set_flush_denormal(bool(options.get("flush_denormal", False)))
        torch.backends.mkldnn.enabled = bool(options.get("mkldnn", True))
        self._device = _device(torch, load.backend)
        overrides: dict[str, Any] = {}
        dtype = _dtype_asked(options) or load.weights_type
        if load.pass_ == "structure":
            overrides["dtype"] = dtype = "f32"
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
        # What no dtype is called after (awq, gptq, fp8) computes in what its checkpoint says.
        arguments: dict[str, Any] = {
            "dtype": getattr(torch, LONG_DTYPES[dtype]) if dtype in LONG_DTYPES else "auto"
        }
        if implementation := options.get("attn_implementation"):
            arguments["attn_implementation"] = implementation
        self._model = transformers.AutoModelForCausalLM.from_pretrained(
            load.path, local_files_only=True, trust_remote_code=False, **arguments
        )
        self._model.to(self._device).eval()
        rounded = options.get("activations") == "q8_0"
        if rounded:
            round_activations(torch, self._model)
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(
            load.path, local_files_only=True, trust_remote_code=False
        )
        self._seen_text: Any = None
        self._watch_tokenizer()
        self._folder = Path(load.path)
        self._padding = int(options.get("padding", 0))
        self._chunk = int(options.get("prefill_chunk", 0))
        self._state = State(
            torch, transformers, self._model, lambda ids, cache: self._forward(ids, cache)
        )
        found = dtype_name(self._model.dtype)
        self.loaded = Loaded(
            engine_version=transformers.__version__,
            engine_build=f"torch {torch.__version__}",
            compute_dtype="q8_0" if rounded else found,
            kv_dtype=found,
            device_uuids=_uuids(torch, load.backend),
            overrides=overrides,
            device=_described(torch, load.backend),
        )

    def facts(self) -> dict[str, Any]:
        return loaded_facts(self._model, self._tokenizer, self._folder, self.loaded, self.eos_ids())

    def eos_ids(self) -> list[int]:
        ids = self._model.generation_config.eos_token_id
        return sorted(ids) if isinstance(ids, list) else [] if ids is None else [ids]

    def render(self, request: Request) -> str:
        return str(self._apply_template(request, tokenize=False))

    def encode_chat(self, prompt_text: str) -> list[int]:
        def instead(call: Any, _text: str, **flags: Any) -> Any:
            raise _Seen(list(call(prompt_text, **flags)["input_ids"]))

        self._seen_text = instead
        try:
            self._tokenizer.apply_chat_template(
                [{"role": "user", "content": "x"}], add_generation_prompt=True, tokenize=True
            )
        except _Seen as seen:
            return list(seen.value)
        finally:
            self._seen_text = None
        raise RuntimeError("apply_chat_template did not hand its text to the tokenizer")

    def encode_text(self, text: str) -> list[int]:
        return list(self._tokenizer(text)["input_ids"])

    def encode_output(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode_ids(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        step = self._chunk or len(ids)
        parts, cache = [], None
        for start in range(0, len(ids), step):
            # Chunks see each other through the cache alone: cold means that it begins empty.
            use_cache = not cold or step < len(ids)
            out = self._forward(list(ids[start : start + step]), cache, use_cache=use_cache)
            parts.append(out.logits)
            cache = None if cold and step == len(ids) else out.past_key_values
        return np.concatenate([self._numpy(p) for p in parts])

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        out = self._forward(list(prompt), None, use_cache=True)
        rows = [out.logits[:, -1:]]
        for token in output[:-1]:
            out = self._forward([token], out.past_key_values, use_cache=True)
            rows.append(out.logits)
        return np.concatenate([self._numpy(r) for r in rows])

    def batch(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Logits]:
        return self._state.batch(sequences, padding=self._padding)

    def chunked(self, ids: Sequence[int], size: int) -> Logits:
        return self._state.chunked(ids, size)

    def chunk_size(self, asked: int | None) -> int | None:
        return asked or self._chunk or None

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        return self._state.warm(earlier, ids)

    def reused(self, earlier: Sequence[int], ids: Sequence[int]) -> Logits:
        return self._state.reused(earlier, ids)

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        return self._state.serve(prompts, slots, max_tokens, self.eos_ids())

    def draw(self, prompt: Sequence[int], asked: dict[str, Any], n: int, seed: int) -> list[int]:
        return sampling.draw(self._torch, self._model, prompt, asked, n, seed)

    def generate(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        return sampling.generate(self._torch, self._model, prompt, asked, max_tokens, seed)

    def chat(self, request: Request) -> Reply:
        torch, lib = self._torch, self._lib
        prompt = self._prompt_ids(request)
        ids = torch.tensor([prompt], device=self._device)
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
        with torch.no_grad():
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
            message=self._parsed(prompt, text if request.stream else self.decode_ids(output)),
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
        message: Message = self._tokenizer.parse_response(text, prefix=self.decode_ids(prompt))
        return message

    def _forward(self, ids: list[int], cache: Any, *, use_cache: bool = True) -> Any:
        """Run the model once; left padding is masked here and in every later step on its cache."""
        torch, pad = self._torch, self._padding
        past = 0 if cache is None else cache.get_seq_length()
        fresh = pad if cache is None else 0
        tokens = torch.tensor([[0] * fresh + ids], device=self._device)
        arguments: dict[str, Any] = {"past_key_values": cache, "use_cache": use_cache}
        if pad:
            total = past + tokens.shape[1]
            mask = torch.ones((1, total), dtype=torch.long, device=self._device)
            mask[:, :pad] = 0
            places = (mask.cumsum(-1) - 1).clamp(min=0)[:, past:]
            arguments.update(attention_mask=mask, position_ids=places)
        with torch.no_grad():
            out = self._model(tokens, **arguments)
        out.logits = out.logits[:, fresh:]
        return out

    def _numpy(self, logits: Any) -> Logits:
        found: Logits = logits[0].to(self._torch.float32).cpu().numpy()
        return found

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


def _dtype_asked(options: dict[str, Any]) -> str | None:
    asked = options.get("dtype")
    if asked is None or asked in LONG_DTYPES:
        return asked
    raise ValueError(f"option dtype is {asked!r}; choose one of {', '.join(sorted(LONG_DTYPES))}")


def _device(torch: Any, backend: str) -> str:
    """Return the torch device of a backend; refuse rather than fall back to the CPU."""
    device = _DEVICES[backend]
    present = {
        "cuda": torch.cuda.is_available() and bool(torch.version.hip) == (backend == "rocm"),
        "mps": torch.backends.mps.is_available(),
        "xpu": hasattr(torch, "xpu") and torch.xpu.is_available(),
        "cpu": True,
    }
    if not present[device]:
        raise RuntimeError(f"this build of torch ({torch.__version__}) finds no {backend} device")
    return device


def _described(torch: Any, backend: str) -> dict[str, str]:
    """Return what computes, and the runtime that torch was built for."""
    if backend in ("cuda", "rocm"):
        runtime = torch.version.hip if backend == "rocm" else torch.version.cuda
        name = torch.cuda.get_device_name(torch.cuda.current_device())
        return {"device": backend, "device_name": str(name), "runtime": str(runtime)}
    return {"device": _DEVICES[backend]}


def _uuids(torch: Any, backend: str) -> list[str]:
    if backend not in ("cuda", "rocm"):
        return []
    return [str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)]


ADAPTER = Transformers
