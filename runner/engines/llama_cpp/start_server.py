"""How llama-cpp-python's own server is started."""

import importlib
from typing import Any

from runner.engines.base import Load
from runner.engines.llama_cpp.devices import chosen
from runner.engines.llama_cpp.facts import GGML_F32
from runner.engines.servers.command import HOST, ServerCommand, written

#: What the structure pass asks of llama.cpp: an fp32 cache, and plain attention on it.
STRUCTURE_OPTIONS: dict[str, Any] = {"type_k": GGML_F32, "type_v": GGML_F32, "flash_attn": False}
#: The path that answers as soon as the server is ready.
HEALTH = "/v1/models"


def command(load: Load, port: int) -> ServerCommand:
    """Return how llama-cpp-python's server is started."""
    options = dict(load.engine.options)
    options.setdefault("n_gpu_layers", 0 if load.backend == "cpu" else -1)
    # The server has the same library, and would fall back to the CPU just as silently.
    chosen(importlib.import_module("llama_cpp"), load.backend, int(options["n_gpu_layers"]))
    overrides = STRUCTURE_OPTIONS if load.pass_ == "structure" else {}
    arguments = ["llama_cpp.server", "--model", load.path, "--host", HOST, "--port", str(port)]
    for name, value in {**options, **overrides}.items():
        arguments += [f"--{name}", written(value)]
    return ServerCommand(arguments, overrides=dict(overrides))
