"""Start Ray or join a cluster, always with an explicit address and authentication mode."""

import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from cluster.planning.node import Node
from suites.errors import UserError

LOCAL = "local"
_CONNECT_S = 5.0
_OBJECT_STORE = 128 << 20
#: Packages that a node imports; their sources are sent with the run.
_SHIPPED_ROOMS = ("cluster", "runner", "suites")
_NOT_SHIPPED = ("**/__pycache__/**", "**/*.md", "**/.cache/**")


@contextmanager
def ray_session(address: str, node: Node | None = None) -> Iterator[None]:
    """Join the cluster at ``address``; for ``local`` start a private one with ``node``'s labels.

    Raises:
        UserError: nothing answers there, or Ray refuses.
    """
    if address != LOCAL:
        _answers(address)
    _authenticate(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray hides accelerators from tasks that reserve none; but ``examine_node`` must see them.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        options |= {
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE,
            "labels": node.labels if node else None,
            "num_cpus": node.cpus if node else None,
            "num_gpus": node.gpus if node else None,
        }
    else:
        options["runtime_env"] = _code()
    try:
        # Ray prints warnings to stdout, which is for tables and JSON.
        with redirect_stdout(sys.stderr):
            ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"Ray does not start or does not answer: {str(error).splitlines()[0]}",
            where=f"--address {address}",
            fix="check `ray status` there; all nodes need the same versions of Ray and Python",
        ) from error
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        ray.shutdown()


def _code() -> dict[str, Any]:
    root = Path(__file__).resolve().parents[2]
    return {
        "py_modules": [str(root / room) for room in _SHIPPED_ROOMS],
        "excludes": list(_NOT_SHIPPED),
    }


def _authenticate(address: str) -> None:
    """Set Ray's authentication mode if the user has not.

    A private cluster gets a new token for this process only. For another cluster, a token is used
    if there is one.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return
    if address == LOCAL:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    given = any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    stored = (Path.home() / ".ray" / "auth_token").is_file()
    os.environ["RAY_AUTH_MODE"] = "token" if given or stored else "disabled"


def _answers(address: str) -> None:
    """Refuse an address at which nothing listens; Ray itself would need minutes to notice."""
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not port.isdigit():
        raise UserError(
            f"{address!r} is not the address of a Ray cluster",
            where="--address",
            known="local, auto, HOST:PORT",
            fix="give the address that `ray start --head` printed, e.g. 10.0.0.1:6379",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"nothing answers at {address}: {error}",
            where="--address",
            fix="start Ray there with `ray start --head --port=6379`, or remove --address to run "
            "on this machine",
        ) from error
