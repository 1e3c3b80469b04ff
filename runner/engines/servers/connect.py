"""A server as an adapter: it is started or only addressed, and asked which dialect it speaks."""

import atexit
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from runner.engines.abilities import Adapter
from runner.engines.base import EngineGone, Load
from runner.engines.declaration import Declaration
from runner.engines.faults.gateway.proxy import Proxy
from runner.engines.servers.http_client import Client
from runner.engines.servers.managed import Managed
from runner.engines.servers.plain import Plain, answers
from runner.engines.servers.server_errors import Refused, ServerFailure
from runner.engines.shown import Shown

_LEAST_S, _MOST_S, _SHARE = 5.0, 120.0, 1 / 3
Dialects = Mapping[str, type[Plain]]
"""Name → dialect, in the order in which an unknown server is tried."""


def open_server(load: Load, declaration: Declaration, dialects: Dialects) -> Adapter:
    """Return the adapter of the server that a cell is asked of; a managed one is started.

    Raises:
        EngineGone: no server answers there.
    """
    if load.engine.serving != "managed":
        return connected(load, dialects).adapter()
    own = declaration.own_server
    if own is None:
        raise ValueError(f"{declaration.engine} brings no server that could be started")
    managed = Managed(load, own)
    address = replace(load.engine, base_url=managed.base_url, dialect=own.dialect.name)
    adapter = connected(replace(load, engine=address), dialects, managed.ended).adapter()
    versions = filter(None, map(_version, declaration.packages))
    loaded = replace(
        adapter.loaded,
        engine_version=next(versions, adapter.loaded.engine_version),
        overrides={**adapter.loaded.overrides, **managed.overrides},
    )
    return replace(adapter, loaded=loaded, shown=with_weights(adapter.shown))


def connected(
    load: Load, dialects: Dialects, ended: Callable[[], str | None] = lambda: None
) -> Plain:
    """Return the server at the engine's address, in the dialect that it speaks.

    ``ended`` says how a server of our own has ended, and returns None while it runs.
    """
    engine, url = load.engine, load.engine.base_url
    if url is None:
        raise ValueError("an external server needs a base URL")
    timeout_s = float(engine.options.get("request_timeout_s") or _timeout_s(load.deadline_s))
    if engine.proxy is not None:
        proxy = Proxy(url, **engine.proxy)
        url = proxy.start()
        atexit.register(proxy.close)
    client = Client(url, load.api_key, timeout_s, ended)
    models = _models(client)
    if engine.dialect in (None, "auto"):
        dialect = next(d for d in dialects.values() if d.recognises(client, models))
    else:
        dialect = dialects[engine.dialect]
    return dialect(load, client, str(engine.options.get("model") or dialect.model_of(models)))


def managed_shown(declaration: Declaration) -> Shown | None:
    """Return what an engine's own server shows, without starting it; None if it brings none."""
    own = declaration.own_server
    return None if own is None else with_weights(own.dialect.shown)


def with_weights(shown: Shown) -> Shown:
    """Add that the artifact of a managed server can be read, as in process."""
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
