"""A server as an adapter: started or only addressed, asked what it is, and then asked the cases."""

import atexit
import importlib
import importlib.metadata
from dataclasses import replace
from typing import Any

from runner.engines.base import Adapter, EngineGone, Load, Shown
from runner.engines.faults.gateway.proxy import Proxy
from runner.engines.servers.http_client import Client, Refused, ServerFailure
from runner.engines.servers.managed import Managed
from runner.engines.servers.plain import Plain, answers

#: Dialect → its module, in the order in which an unknown server is tried; ``plain`` fits any.
DIALECTS = {
    "vllm": "runner.engines.vllm.server",
    "sglang": "runner.engines.servers.sglang",
    "llama-server": "runner.engines.servers.llama_server",
    "ollama": "runner.engines.servers.ollama",
    "llama-cpp-python": "runner.engines.llama_cpp.server",
    "mlx": "runner.engines.mlx.server",
    "plain": "runner.engines.servers.plain",
}
_LEAST_S, _MOST_S, _SHARE = 5.0, 120.0, 1 / 3


def open_server(load: Load) -> Adapter:
    """Return the adapter of the server that a cell is asked of.

    Raises:
        EngineGone: no server answers there.
    """
    declared = None
    managed: Managed | None = None
    if load.engine.serving == "managed":
        managed = Managed(load)
        # The import is late: the table of engines names this module.
        adapters = importlib.import_module("runner.engines.registry")
        declared = adapters.DECLARATIONS[load.engine.engine]
        engine = replace(load.engine, base_url=managed.base_url, dialect=declared.dialect)
        load = replace(load, engine=engine)
    engine, url = load.engine, load.engine.base_url
    if url is None:
        raise ValueError("an external server needs a base URL")
    timeout_s = float(engine.options.get("request_timeout_s") or _timeout_s(load.deadline_s))
    if engine.proxy is not None:
        proxy = Proxy(url, **engine.proxy)
        url = proxy.start()
        atexit.register(proxy.close)
    client = Client(url, load.api_key, timeout_s, *([managed.ended] if managed else ()))
    models = _models(client)
    dialect = dialect_type(engine.dialect or "auto", client, models)
    adapter = dialect(load, client, str(engine.options.get("model") or dialect.model_of(models)))
    if managed is not None and declared is not None:
        versions = filter(None, map(_version, declared.packages))
        adapter.shown = _with_weights(adapter.shown)
        adapter.loaded = replace(
            adapter.loaded,
            engine_version=next(versions, adapter.loaded.engine_version),
            overrides={**adapter.loaded.overrides, **managed.overrides},
        )
    return adapter


def dialect_class(name: str) -> type[Plain]:
    """Return the class of a dialect; KeyError for an unknown one."""
    module = importlib.import_module(DIALECTS[name])
    found: type[Plain] = module.DIALECT if name != "plain" else Plain
    return found


def dialect_type(name: str, client: Client, models: list[dict[str, Any]]) -> type[Plain]:
    """Return the named dialect; for ``auto``, the first that recognises the server."""
    if name != "auto":
        return dialect_class(name)
    return next(d for d in map(dialect_class, DIALECTS) if d.recognises(client, models))


def managed_shown(dialect: str) -> Shown:
    """Return what an engine's own server shows, as documented without starting one."""
    return _with_weights(dialect_class(dialect).shown)


def _with_weights(shown: Shown) -> Shown:
    """Add that the artifact which a server was started with is at hand, as in process."""
    return replace(
        shown,
        stages={**shown.stages, "weights": "path"},
        calls={**shown.calls, "weights": "the artifact it was started with, tensor by tensor"},
    )


def _timeout_s(deadline_s: float) -> float:
    return min(max(_LEAST_S, deadline_s * _SHARE), _MOST_S)


def _models(client: Client) -> list[dict[str, Any]]:
    """Return the models that the server lists; none where it lists none."""
    try:
        answer = client.get("models")
    except Refused as refused:
        if refused.status in (401, 403):
            why = f"{refused}; is `api_key_env:` right, and its key?"
            raise EngineGone(why) from refused
        return []
    except ServerFailure as failure:
        # mlx_lm's server lists no models, and sends nothing, where there is no cache of a hub.
        if answers(client, "/health") is not None:
            return []
        raise EngineGone(f"no server answers at {client.base_url}: {failure}") from failure
    listed = answer.get("data") if isinstance(answer, dict) else None
    return [m for m in listed if isinstance(m, dict)] if isinstance(listed, list) else []


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


ADAPTER = open_server
