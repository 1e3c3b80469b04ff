"""A fault-injecting HTTP proxy before one server, for the self-test of the way to servers.

It hands every path and method on, with all headers, and streams as they come; one mutation changes
what it is made to change. What fails at the server fails at the client in the same way: errors come
as they are, an answer that breaks off breaks off, and where nobody answers the connection is
closed. Nothing that passes is logged.
"""

import http.client
import http.server
import socket
import socketserver
import ssl
import sys
import threading
import urllib.parse
from types import TracebackType
from typing import Any

from runner.engines.faults.gateway.base import ProxyMutationOptions
from runner.engines.faults.gateway.exchange import Exchange, Kept
from runner.engines.faults.gateway.registry import PROXY_MUTATIONS

_CONNECT_S = 30.0
_JOIN_S = 5.0


class Proxy:
    """A proxy with one fault before one server; ``how`` names it (``PROXY_MUTATIONS``).

    The same requests are harmed in every run; ``changed`` counts the exchanges that were.
    """

    def __init__(
        self,
        upstream: str,
        how: str,
        by: float | None = None,
        seed: int = 0,
        second: str | None = None,
    ) -> None:
        """Take the base URL of the server, such as ``http://127.0.0.1:8000/v1``.

        Raises:
            KeyError: there is no such mutation.
        """
        self.upstream = urllib.parse.urlsplit(upstream)
        self.mutation = PROXY_MUTATIONS[how](ProxyMutationOptions(by, seed, second))
        self.changed = 0
        self.kept: dict[str, Kept] = {}
        self.lock = threading.Lock()
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Start answering on a free port of this machine, and return the base URL to use."""
        self._server = Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        port = self._server.server_address[1]
        return f"http://127.0.0.1:{port}{self.upstream.path}"

    def close(self) -> None:
        """Break off what is under way, and leave neither a port nor a thread."""
        server, self._server = self._server, None
        if server is None or self._thread is None:
            return
        server.shutdown()
        self._thread.join(_JOIN_S)
        server.server_close()
        server.break_off()

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def connection(self, other: str | None) -> http.client.HTTPConnection:
        """Return a connection, not yet opened, to the server or to another one."""
        parts = self.upstream if other is None else urllib.parse.urlsplit(other)
        host = parts.hostname or ""
        if parts.scheme == "https":
            trusted = ssl.create_default_context()
            return http.client.HTTPSConnection(
                host, parts.port, timeout=_CONNECT_S, context=trusted
            )
        return http.client.HTTPConnection(host, parts.port, timeout=_CONNECT_S)

    def target(self, path: str, other: str | None) -> str:
        """Return a path as the server that is asked calls it."""
        if other is None:
            return path
        here, there = self.upstream.path, urllib.parse.urlsplit(other).path
        return there + path.removeprefix(here) if path.startswith(here) else path


class Server(http.server.ThreadingHTTPServer):
    """Knows its connections and threads, so that it can end them."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self._lock = threading.Lock()
        self._sockets = set[socket.socket]()
        self._workers = set[threading.Thread]()
        self._closing = False
        super().__init__(("127.0.0.1", 0), Exchange)

    def server_bind(self) -> None:
        # The base class asks for the machine's name, which may take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        worker = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        self.watch(request)
        with self._lock:
            self._workers = {w for w in self._workers if w.is_alive()} | {worker}
            worker.start()

    def shutdown_request(self, request: Any) -> None:
        self.forget(request)
        super().shutdown_request(request)

    def watch(self, connection: socket.socket) -> None:
        """Note a connection that ``break_off`` is to end."""
        with self._lock:
            self._sockets.add(connection)
            closing = self._closing
        if closing:
            _shut(connection)

    def forget(self, connection: socket.socket) -> None:
        """Drop a connection that has ended."""
        with self._lock:
            self._sockets.discard(connection)

    def break_off(self) -> None:
        """End all connections, and wait for the threads that served them."""
        with self._lock:
            self._closing = True
            for connection in self._sockets:
                _shut(connection)
            workers = list(self._workers)
        for worker in workers:
            worker.join(_JOIN_S)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            # Without the message: it may hold what was asked, or a key.
            print(f"the proxy failed: {type(error).__name__}", file=sys.stderr)


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # It has ended by itself.
