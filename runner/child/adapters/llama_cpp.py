"""llama.cpp in process, through llama-cpp-python.

Stages are seen on the engine's own chat path: ``create_chat_completion`` runs unmodified, and
small spies note what passes between its parts (the text given to ``tokenize``, the ids given to
``generate``, the ids that come out). A spy may also replace the text with the truth's, so that a
stage can be asked alone. Scripted output is forced by a logits processor in the engine's sampler.
"""

import functools
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from runner.child.adapters.base import Adapter, Declaration, Load, Loaded, Logits, Reply, Request
from runner.child.adapters.tokenizer_json import canonical_pre

DECLARATION = Declaration(
    engine="llama_cpp",
    module="llama_cpp",
    package="llama-cpp-python",
    formats=("gguf",),
    backends=("cuda", "rocm", "metal", "vulkan", "cpu"),
    servings=("in_process",),
    structure_types=("f32",),
    stages={
        "instrument": "path",
        "config": "path",
        "weights": "path",
        "template": "path",
        "tokenize": "path",
        "logits": "path",
        "state": "not_probed",
        "sampling": "not_probed",
        "stop": "path",
        "detokenize": "path",
        "parse": "path",
        "chain": "path",
    },
    option_names=(
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
        "swa_full",
        "use_mmap",
        "offload_kqv",
        "chat_format",
        "seed",
    ),
)
_GGML_F32 = 0
#: ggml's types of a KV cache.
_KV_NAMES = {
    _GGML_F32: "f32",
    1: "f16",
    2: "q4_0",
    3: "q4_1",
    6: "q5_0",
    7: "q5_1",
    8: "q8_0",
    20: "iq4_nl",
    30: "bf16",
}
#: Ends of llama.cpp's names of file types, as the quantisations are written elsewhere.
_SIZES = {" - small": "_s", " - medium": "_m", " - large": "_l", "all ": "", "(guessed)": ""}
_GREEDY = {"temperature": 0.0, "top_k": 1, "repeat_penalty": 1.0}


class _Seen(Exception):
    """Ends a request once a spy has seen what was asked for; carries it."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class LlamaCpp(Adapter):
    """One ``llama_cpp.Llama``."""

    def __init__(self, load: Load) -> None:
        import llama_cpp

        self._lib = llama_cpp
        options = dict(load.options)
        overrides: dict[str, Any] = {}
        if load.backend == "cpu":
            options.setdefault("n_gpu_layers", 0)
        else:
            if not llama_cpp.llama_supports_gpu_offload():
                raise RuntimeError(
                    f"this build of llama-cpp-python computes on the CPU, not on {load.backend}"
                )
            options.setdefault("n_gpu_layers", -1)
        if load.pass_ != "timed":
            overrides["logits_all"] = True
        if load.pass_ == "structure":
            overrides.update(type_k=_GGML_F32, type_v=_GGML_F32, flash_attn=False)
        self._llama = llama_cpp.Llama(load.path, verbose=False, **{**options, **overrides})
        handlers = self._llama._chat_handlers
        self._handler = handlers.get(
            self._llama.chat_format
        ) or llama_cpp.llama_chat_format.get_chat_completion_handler(self._llama.chat_format)
        self._options = options
        self.loaded = Loaded(
            engine_version=llama_cpp.__version__,
            engine_build=llama_cpp.llama_print_system_info().decode(),
            compute_dtype=_stored_type(llama_cpp, self._llama),
            kv_dtype=_kv_type(self._llama),
            device_uuids=[],
            overrides=overrides,
        )

    def facts(self) -> dict[str, Any]:
        lib, model, vocab = self._lib, self._llama._model.model, self._llama._model.vocab
        meta = self._llama.metadata
        arch = meta.get("general.architecture", "")
        pieces = [lib.llama_vocab_get_text(vocab, i) for i in range(self._llama.n_vocab())]
        facts: dict[str, Any] = {
            "architecture": arch,
            "vocab_size": self._llama.n_vocab(),
            "bos_id": lib.llama_vocab_bos(vocab),
            "eos_ids": self.eos_ids(),
            "add_bos": bool(lib.llama_vocab_get_add_bos(vocab)),
            "context_length": self._llama.n_ctx(),
            "sliding_window": lib.llama_model_n_swa(model) or None,
            "layers": lib.llama_model_n_layer(model),
            "heads": lib.llama_model_n_head(model),
            "kv_heads": lib.llama_model_n_head_kv(model),
            "compute_dtype": self.loaded.compute_dtype,
            "kv_dtype": self.loaded.kv_dtype,
            "tokenizer_digest": hashlib.sha256(b"\0".join(pieces)).hexdigest(),
            "model_name": meta.get("general.name"),
        }
        if meta.get("tokenizer.ggml.model") == "gpt2":
            # Byte-level BPE: llama.cpp splits by a compiled-in rule of this name, after no
            # normalisation. Its other tokenizers have rules of their own, which it does not state.
            facts["pre_tokenizer"] = canonical_pre(meta.get("tokenizer.ggml.pre", "default"))
            facts["normalizer"] = "none"
        if "tokenizer.chat_template" in meta:
            template = meta["tokenizer.chat_template"].encode()
            facts["template_digest"] = hashlib.sha256(template).hexdigest()
        # Without the key llama.cpp computes with 10000.
        base = self._options.get("rope_freq_base") or meta.get(f"{arch}.rope.freq_base") or 10000
        facts["rope_theta"] = float(base)
        eps = meta.get(f"{arch}.attention.layer_norm_rms_epsilon")
        if eps is not None:
            # The file keeps eps as float32; seven digits are all that it can say.
            facts["rms_eps"] = float(f"{float(eps):.6g}")
        return facts

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

    def chat(self, request: Request) -> Reply:
        seen: dict[str, list[int]] = {"prompt": [], "output": []}
        real = self._llama.generate

        def generate(tokens: Sequence[int], **kwargs: Any) -> Iterator[int]:
            seen["prompt"] = list(tokens)
            for token in real(tokens, **kwargs):
                seen["output"].append(int(token))
                yield token

        arrivals: list[float] = []
        with self._spy("generate", generate):
            started = time.perf_counter()
            answer = self._complete(request)
            if request.stream:
                pieces, finish_reason = [], None
                for chunk in answer:
                    choice = chunk["choices"][0]
                    finish_reason = choice.get("finish_reason") or finish_reason
                    if piece := choice["delta"].get("content"):
                        arrivals.append(time.perf_counter() - started)
                        pieces.append(piece)
                message = {"role": "assistant", "content": "".join(pieces)}
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


def _stored_type(lib: Any, llama: Any) -> str:
    """Return the type that most of the loaded tensors have, as the engine states it.

    ggml chooses its arithmetic by the stored type and states nothing nearer to what it computes in.
    """
    if not hasattr(lib, "llama_model_ftype"):
        return "unknown"
    name = lib.llama_ftype_name(lib.llama_model_ftype(llama._model.model)).decode().lower()
    for long, short in _SIZES.items():
        name = name.replace(long, short)
    return str(name.strip())


def _kv_type(llama: Any) -> str:
    """Return the cache's type from the parameters that the context was made with."""
    types = {llama.context_params.type_k: None, llama.context_params.type_v: None}
    return "/".join(_KV_NAMES.get(kind, f"ggml type {kind}") for kind in types)


ADAPTER = LlamaCpp
