"""An engine's own server, started for one child: from its command to its end.

It stays in the child's process group, which the supervisor kills as a whole, so nothing of it
outlives the child, whatever ends that. What it prints goes where the child's own words go.
"""

import atexit
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

from runner.engines.base import EngineGone, Load
from runner.engines.declaration import OwnServer
from runner.engines.servers.command import HOST

#: No proxy stands between a machine and itself, whatever its environment says of others.
_HERE = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_POLL_S = 0.2
_ANSWER_S = 5.0
#: Part of the child's time that a server may take until it is ready.
_START_SHARE = 0.6


class Managed:
    """A running server; ``base_url`` is where it answers."""

    def __init__(self, load: Load, own: OwnServer) -> None:
        port = _free_port()
        command = own.command(load, port)
        self.overrides = command.overrides
        self._host = f"{HOST}:{port}"
        self.base_url = f"http://{self._host}/v1"
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command.arguments],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            stderr=sys.stderr.fileno(),
            env={**os.environ, **command.variables},
        )
        atexit.register(self.close)
        self._wait(own.health, load.deadline_s * _START_SHARE)

    def close(self) -> None:
        """Ask the server to end, and end it."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ended(self) -> str | None:
        """Say how the server ended; None while it runs."""
        code = self._process.poll()
        if code is not None and code < 0:
            return f"the server was ended by {signal.Signals(-code).name}"
        return None if code is None else f"the server ended with code {code}"

    def _wait(self, health: str, limit_s: float) -> None:
        ends = time.monotonic() + limit_s
        while time.monotonic() < ends:
            if how := self.ended():
                raise EngineGone(f"{how} before it was ready; its log says why")
            try:
                # Any whole answer will do: vLLM's is empty, and mlx_lm cannot list its models.
                _HERE.open(f"http://{self._host}{health}", timeout=_ANSWER_S).read()
                return
            except (OSError, http.client.HTTPException):
                time.sleep(_POLL_S)
        self.close()
        raise EngineGone(f"the server was not ready within {limit_s:.0f} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
