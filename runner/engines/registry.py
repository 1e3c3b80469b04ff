"""All engines and all dialects of servers: one line each.

An engine is a folder beside this file. Its ``declaration.py`` says what is special to it and may be
imported anywhere; its adapter is imported in the engine's own environment only.
"""

import importlib
from pathlib import Path

from runner.engines.abilities import Adapter
from runner.engines.base import Load
from runner.engines.declaration import Declaration
from runner.engines.servers.connect import managed_shown, open_server
from runner.engines.servers.plain import Plain
from runner.engines.shown import Shown

#: The folders of engines; ``servers`` is whatever answers at a URL.
_FOLDERS = (
    "llama_cpp",
    "transformers",
    "vllm",
    "mlx",
    "servers",
)
#: Files of dialects that no engine here brings. ``plain`` fits any server, so it is tried last.
_SERVERS = (
    "sglang",
    "llama_server",
    "ollama",
    "plain",
)
#: The engine that freezes references where a matrix names none.
REFERENCE_ENGINE = "transformers"


def _declaration(folder: str) -> Declaration:
    found: Declaration = importlib.import_module(f"runner.engines.{folder}.declaration").DECLARATION
    return found


def _dialect(file: str) -> type[Plain]:
    found: type[Plain] = importlib.import_module(f"runner.engines.servers.{file}").DIALECT
    return found


#: Folder of an engine → its declaration.
FOLDERS: dict[str, Declaration] = {folder: _declaration(folder) for folder in _FOLDERS}
#: Engine → its declaration.
DECLARATIONS: dict[str, Declaration] = {own.engine: own for own in FOLDERS.values()}
#: Name of a dialect → its class, in the order in which an unknown server is tried.
DIALECTS: dict[str, type[Plain]] = {
    dialect.name: dialect
    for dialect in (
        *(own.own_server.dialect for own in DECLARATIONS.values() if own.own_server),
        *map(_dialect, _SERVERS),
    )
}


def folder_of(engine: str) -> Path:
    """Return the folder with all that is special to an engine; KeyError for an unknown one."""
    folder = next((name for name, own in FOLDERS.items() if own.engine == engine), None)
    if folder is None:
        raise KeyError(engine)
    return Path(__file__).resolve().parent / folder


def load_adapter(load: Load) -> Adapter:
    """Load an engine as it is served, and return what it can be asked.

    Raises:
        KeyError: the engine is unknown.
    """
    declaration = DECLARATIONS[load.engine.engine]
    if load.engine.serving != "in_process":
        return open_server(load, declaration, DIALECTS)
    adapter: Adapter = importlib.import_module(declaration.adapter).make_adapter(load)
    return adapter


def shown_as(engine: str, serving: str, dialect: str | None = None) -> Shown | None:
    """Return what an engine shows as it is served; None where only the server itself says so."""
    declaration = DECLARATIONS[engine]
    if serving == "in_process":
        return declaration.shown
    if serving == "managed":
        return managed_shown(declaration)
    return DIALECTS[dialect].shown if dialect in DIALECTS else None
