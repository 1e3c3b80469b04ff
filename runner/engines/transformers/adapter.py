"""Hugging Face transformers in process: the reference engine, and a candidate like any other."""

import importlib
from pathlib import Path
from typing import Any

from runner.engines.abilities import Adapter
from runner.engines.base import Load, Loaded
from runner.engines.shared.names import LONG_DTYPES, dtype_name
from runner.engines.transformers.benign import ROUNDED_TYPES, Settings
from runner.engines.transformers.chat_path import ChatPath
from runner.engines.transformers.declaration import DECLARATION
from runner.engines.transformers.devices import described, device_of, uuids
from runner.engines.transformers.distribution import ForwardPasses
from runner.engines.transformers.facts import loaded_facts
from runner.engines.transformers.rounded_activations import round_activations
from runner.engines.transformers.sampling import TorchSampler
from runner.engines.transformers.state import TorchScenarios
from runner.engines.transformers.summaries import TorchSummaries


def make_adapter(load: Load) -> Adapter:
    """Load a causal language model with its tokenizer, and return what it can be asked.

    Options: ``dtype`` (f32, f16, bf16), ``attn_implementation`` (sdpa, eager), ``threads``,
    ``padding`` (left padding tokens in each forward), ``prefill_chunk`` (tokens per forward of a
    prompt), ``flush_denormal``, ``mkldnn``, ``activations: q8_0`` (inputs of every linear layer
    rounded as ggml's CPU kernels round them for this quantisation). All except the first are
    benign: they make floors.
    """
    torch, lib = importlib.import_module("torch"), importlib.import_module("transformers")
    options, overrides = dict(load.engine.options), dict[str, Any]()
    if threads := options.get("threads"):
        torch.set_num_threads(int(threads))
    torch.set_flush_denormal(bool(options.get("flush_denormal", False)))
    torch.backends.mkldnn.enabled = bool(options.get("mkldnn", True))
    device = device_of(torch, load.backend)
    dtype = _dtype_asked(options) or load.weights_type
    if load.pass_ == "structure":
        overrides.update(DECLARATION.structure_options)
        dtype = overrides["dtype"]
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        if _caps_attention(lib, load.path) and options.get("attn_implementation") != "eager":
            # The default implementation leaves the soft cap of the attention out.
            options["attn_implementation"] = overrides["attn_implementation"] = "eager"
    model = _model(torch, lib, load.path, dtype, options)
    model.to(device).eval()
    rounded = _activations_asked(options)
    if rounded:
        round_activations(torch, model, Path(load.path), rounded)
    tokenizer = lib.AutoTokenizer.from_pretrained(
        load.path, local_files_only=True, trust_remote_code=False
    )
    padding, chunk = int(options.get("padding", 0)), int(options.get("prefill_chunk", 0))
    passes = ForwardPasses(torch, model, padding=padding, chunk=chunk)
    path = ChatPath(torch, lib, model, tokenizer)
    found = dtype_name(model.dtype)
    loaded = Loaded(
        engine_version=lib.__version__,
        engine_build=f"torch {torch.__version__}",
        compute_dtype=rounded or found,
        kv_dtype=found,
        device_uuids=uuids(torch, load.backend),
        overrides=overrides,
        device=described(torch, load.backend),
    )
    return Adapter(
        loaded=loaded,
        shown=DECLARATION.shown,
        facts=lambda: loaded_facts(model, tokenizer, Path(load.path), loaded, path.eos_ids()),
        chat=path.chat,
        template=path,
        tokenizer=path,
        vocabulary=path,
        distribution=passes,
        sampler=TorchSampler(torch, model),
        scenarios=TorchScenarios(
            torch, lib, model, passes.forward, path.eos_ids, padding=padding, chunk=chunk
        ).scenarios(),
        summaries=TorchSummaries(torch, model, passes, path.eos_ids),
        reconfigure=Settings(torch, model, passes, options).set,
    )


def _model(torch: Any, lib: Any, path: str, dtype: str, options: dict[str, Any]) -> Any:
    """Return the model in ``dtype``.

    What is no dtype of torch's (awq, gptq, fp8) computes in what its checkpoint says.
    """
    arguments: dict[str, Any] = {
        "dtype": getattr(torch, LONG_DTYPES[dtype]) if dtype in LONG_DTYPES else "auto"
    }
    if implementation := options.get("attn_implementation"):
        arguments["attn_implementation"] = implementation
    return lib.AutoModelForCausalLM.from_pretrained(
        path, local_files_only=True, trust_remote_code=False, **arguments
    )


def _caps_attention(lib: Any, path: str) -> bool:
    config = lib.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    return getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None


def _dtype_asked(options: dict[str, Any]) -> str | None:
    asked = options.get("dtype")
    if asked is None or asked in LONG_DTYPES:
        return asked
    raise ValueError(f"option dtype is {asked!r}; choose one of {', '.join(sorted(LONG_DTYPES))}")


def _activations_asked(options: dict[str, Any]) -> str | None:
    asked, known = options.get("activations"), set(ROUNDED_TYPES.values())
    if asked is None or asked in known:
        return asked
    raise ValueError(f"option activations is {asked!r}; choose one of {', '.join(sorted(known))}")
