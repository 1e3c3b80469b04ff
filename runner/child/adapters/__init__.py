"""The engines: one file each, and one line in ``_MODULES``.

An adapter's module may be imported anywhere: it imports its engine only when an adapter is made.
"""

import importlib

from runner.child.adapters.base import Adapter, Declaration

_MODULES = {
    "llama_cpp": "runner.child.adapters.llama_cpp",
    "transformers": "runner.child.adapters.transformers",
}

DECLARATIONS: dict[str, Declaration] = {
    name: importlib.import_module(module).DECLARATION for name, module in _MODULES.items()
}


def adapter_type(engine: str) -> type[Adapter]:
    """Return the adapter class of an engine; KeyError for one that has none."""
    found: type[Adapter] = importlib.import_module(_MODULES[engine]).ADAPTER
    return found
