"""MLX in process, through mlx-lm: one model, and the parts that ask it."""

import importlib
import os
from pathlib import Path
from typing import Any

from runner.engines.abilities import Adapter
from runner.engines.base import Load, Loaded
from runner.engines.mlx.chat_path import ChatPath
from runner.engines.mlx.declaration import DECLARATION
from runner.engines.mlx.facts import computed_type, loaded_facts
from runner.engines.mlx.loop import Loop, LoopDistribution
from runner.engines.mlx.sampling import MlxSampler
from runner.engines.mlx.state import MlxScenarios
from runner.engines.shared.names import LONG_DTYPES


def make_adapter(load: Load) -> Adapter:
    """Load a model of mlx-lm with its tokenizer, and return what it can be asked.

    Options: ``dtype`` (f32, f16, bf16) casts the loaded weights; the others are those of
    ``generate_step``, and reach every use of it.
    """
    options, overrides = dict(load.engine.options), dict[str, Any]()
    if load.pass_ == "structure" and load.backend == "metal":
        # Newer GPUs multiply float32 in TF32 unless this is set before the first product.
        overrides["MLX_ENABLE_TF32"] = os.environ["MLX_ENABLE_TF32"] = "0"
    mx = importlib.import_module("mlx.core")
    # Before mlx-lm is imported: it makes its stream on the device of that moment.
    _choose_device(mx, load.backend)
    lib = importlib.import_module("mlx_lm")
    dtype = _dtype_asked(options)
    if load.pass_ == "structure":
        overrides.update(DECLARATION.structure_options)
        dtype = overrides["dtype"]
        if options.pop("kv_bits", None) is not None:
            overrides["kv_bits"] = None
    model, tokenizer = lib.load(load.path)
    if dtype is not None:
        model.set_dtype(getattr(mx, LONG_DTYPES[dtype]))
    loop = Loop(mx, model, options)
    path = ChatPath(loop, tokenizer)
    loaded = Loaded(
        engine_version=lib.__version__,
        engine_build=f"mlx {mx.__version__}, {_device(mx)['device_name']}",
        compute_dtype=computed_type(mx, _leaves(model.parameters())),
        kv_dtype=_kv_type(loop),
        device_uuids=[],
        overrides=overrides,
        device={"device": load.backend, **_device(mx), "runtime": f"mlx {mx.__version__}"},
    )

    def facts() -> dict[str, Any]:
        bos = tokenizer.bos_token_id
        adds = bos is not None and path.encode_text("x")[:1] == [bos]
        folder, ends = Path(load.path), path.eos_ids()
        return loaded_facts(model, tokenizer, folder, loaded, ends, add_bos=adds)

    return Adapter(
        loaded=loaded,
        shown=DECLARATION.shown,
        facts=facts,
        chat=path.chat,
        template=path,
        tokenizer=path,
        vocabulary=path,
        distribution=LoopDistribution(loop),
        sampler=MlxSampler(loop, tokenizer),
        scenarios=MlxScenarios(loop, path.eos_ids()).scenarios(),
    )


def _kv_type(loop: Loop) -> str:
    """Return the type of what one token leaves in a cache, and what becomes of it later."""
    cache = loop.new_cache()
    loop.model(loop.mx.array([[0]]), cache=cache)
    found = computed_type(loop.mx, _leaves([part.state for part in cache]))
    bits = loop.options.get("kv_bits")
    return found if bits is None else f"{found}, later {bits} bits"


def _choose_device(mx: Any, backend: str) -> None:
    """Compute on the backend's device; refuse rather than fall back to the CPU."""
    if backend == "metal" and not mx.metal.is_available():
        raise RuntimeError(f"this build of mlx ({mx.__version__}) finds no metal device")
    mx.set_default_device(mx.gpu if backend == "metal" else mx.cpu)


def _device(mx: Any) -> dict[str, str]:
    """Return what the default device calls itself."""
    info = mx.device_info()
    return {"device_name": str(info.get("device_name", mx.default_device()))}


def _leaves(tree: Any) -> list[Any]:
    found = importlib.import_module("mlx.utils").tree_flatten(tree)
    return [array for _, array in found if hasattr(array, "dtype")]


def _dtype_asked(options: dict[str, Any]) -> str | None:
    asked = options.pop("dtype", None)
    if asked is None or asked in LONG_DTYPES:
        return None if asked is None else str(asked)
    raise ValueError(f"option dtype is {asked!r}; choose one of {', '.join(sorted(LONG_DTYPES))}")
