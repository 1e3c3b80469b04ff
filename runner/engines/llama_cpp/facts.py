"""What llama.cpp says of a loaded model, in the names in which facts are compared."""

import hashlib
from typing import Any

from runner.engines.base import Loaded
from runner.engines.llama_cpp.sampling import stated_defaults
from runner.engines.shared.tokenizer_json import canonical_pre

GGML_F32 = 0
#: ggml's types of a KV cache.
_KV_NAMES = {
    GGML_F32: "f32",
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


def loaded_facts(
    lib: Any, llama: Any, options: dict[str, Any], loaded: Loaded, eos_ids: list[int]
) -> dict[str, Any]:
    """Return facts by name; those that llama.cpp does not state are left out."""
    model, vocab = llama._model.model, llama._model.vocab
    meta = llama.metadata
    arch = meta.get("general.architecture", "")
    pieces = [lib.llama_vocab_get_text(vocab, i) for i in range(llama.n_vocab())]
    facts: dict[str, Any] = {
        "architecture": arch,
        "vocab_size": llama.n_vocab(),
        "bos_id": lib.llama_vocab_bos(vocab),
        "eos_ids": eos_ids,
        "add_bos": bool(lib.llama_vocab_get_add_bos(vocab)),
        "context_length": llama.n_ctx(),
        "sliding_window": lib.llama_model_n_swa(model) or None,
        "layers": lib.llama_model_n_layer(model),
        "heads": lib.llama_model_n_head(model),
        "kv_heads": lib.llama_model_n_head_kv(model),
        "compute_dtype": loaded.compute_dtype,
        "kv_dtype": loaded.kv_dtype,
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
    defaults = stated_defaults(meta)
    if defaults is not None:
        facts["sampling_defaults"] = defaults
    # Without the key llama.cpp computes with 10000.
    base = options.get("rope_freq_base") or meta.get(f"{arch}.rope.freq_base") or 10000
    facts["rope_theta"] = float(base)
    eps = meta.get(f"{arch}.attention.layer_norm_rms_epsilon")
    if eps is not None:
        # The file keeps eps as float32; seven digits are all that it can say.
        facts["rms_eps"] = float(f"{float(eps):.6g}")
    return facts


def stored_type(lib: Any, llama: Any) -> str:
    """Return the type that most of the loaded tensors have, as the engine states it.

    ggml chooses its arithmetic by the stored type and states nothing nearer to what it computes in.
    """
    if not hasattr(lib, "llama_model_ftype"):
        return "unknown"
    name = lib.llama_ftype_name(lib.llama_model_ftype(llama._model.model)).decode().lower()
    for long, short in _SIZES.items():
        name = name.replace(long, short)
    return str(name.strip())


def kv_type(llama: Any) -> str:
    """Return the cache's type from the parameters that the context was made with."""
    types = {llama.context_params.type_k: None, llama.context_params.type_v: None}
    return "/".join(_KV_NAMES.get(kind, f"ggml type {kind}") for kind in types)
