"""The engines: one file each, and one line in ``_MODULES``.

An adapter's module may be imported anywhere: it imports its engine only when an adapter is made.
"""

import importlib
from collections.abc import Callable

from runner.engines.base import Adapter, Declaration, Load

_MODULES = {
    "llama_cpp": "runner.engines.llama_cpp.adapter",
    "transformers": "runner.engines.transformers.adapter",
    "vllm": "runner.engines.vllm.adapter",
    "mlx": "runner.engines.mlx.adapter",
    "openai": "runner.engines.servers.declaration",
}

DECLARATIONS: dict[str, Declaration] = {
    name: importlib.import_module(module).DECLARATION for name, module in _MODULES.items()
}


def adapter_maker(engine: str, serving: str) -> Callable[[Load], Adapter]:
    """Return what makes the adapter of an engine as it is served; KeyError for an unknown one."""
    module = _MODULES[engine] if serving == "in_process" else "runner.engines.servers.connect"
    found: Callable[[Load], Adapter] = importlib.import_module(module).ADAPTER
    return found
