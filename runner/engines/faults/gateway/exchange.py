"""One exchange through the proxy: a request to the server, and its answer to the client."""

import hashlib
import http.client
import http.server
import selectors
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from runner.engines.faults.gateway.base import (
    BrokenOff,
    Headers,
    ProxyMutation,
    ProxyMutationOptions,
    endpoint_of,
    object_of,
)

_PIECE = 1 << 16
#: Headers of one connection, which a proxy does not pass on.
_OWN = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "expect"),
    }
)


@dataclass(frozen=True)
class Kept:
    """An answer that is given again."""

    status: int
    reason: str
    headers: Headers
    body: bytes


class Upstream(Protocol):
    """What an exchange needs of the proxy that it passes."""

    mutation: ProxyMutation
    changed: int
    kept: dict[str, Kept]
    lock: threading.Lock

    def connection(self, other: str | None) -> http.client.HTTPConnection:
        """Return a connection, not yet opened, to the server or to another one."""

    def target(self, path: str, other: str | None) -> str:
        """Return a path as the server that is asked calls it."""


class Watching(Protocol):
    """The HTTP server that an exchange belongs to."""

    proxy: Upstream

    def watch(self, connection: socket.socket) -> None:
        """Note a connection that is to be ended with the server."""

    def forget(self, connection: socket.socket) -> None:
        """Drop a connection that has ended."""


class Exchange(http.server.BaseHTTPRequestHandler):
    """One connection of a client; each request on it is one exchange with the server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Watching  # type: ignore[assignment]  # The base class knows less of it.
    _harmless: ClassVar[ProxyMutation] = ProxyMutation(ProxyMutationOptions())

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._exchange
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: a request may hold what is nobody's business."""

    def _exchange(self) -> None:
        proxy, raw = self.server.proxy, self._body()
        body = object_of(raw) if raw else None
        kind = None if body is None else endpoint_of(self.path, body)
        mutation, key, other = self._harmless, None, None
        if body is not None and kind is not None and kind in proxy.mutation.endpoints:
            mutation = proxy.mutation
            asked, other = mutation.route(kind, body)
            sent = mutation.request(asked, body, raw)
            self._count(sent != raw or other is not None)
            key, raw = mutation.key(kind, body), sent
        with proxy.lock:
            kept = proxy.kept.get(key) if key is not None else None
        if kept is not None:
            self._count(True)
            self._send_whole(kept.status, kept.reason, kept.headers, kept.body)
            return
        connection = proxy.connection(other)
        try:
            target = proxy.target(self.path, other)
            response = self._answer(connection, target, raw, mutation, other is not None)
            if response is not None:
                with response:
                    self._hand_on(response, mutation, key)
        except (OSError, http.client.HTTPException, BrokenOff):
            self.close_connection = True
        finally:
            connection.close()

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = list[bytes]()
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _answer(
        self,
        connection: http.client.HTTPConnection,
        target: str,
        raw: bytes,
        mutation: ProxyMutation,
        elsewhere: bool,
    ) -> http.client.HTTPResponse | None:
        """Ask the server, and wait until it answers; None once the client has gone."""
        connection.connect()
        server = connection.sock
        self.server.watch(server)
        server.settimeout(None)
        connection.putrequest(self.command, target, skip_host=True, skip_accept_encoding=True)
        had_body = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        here = "{}:{}".format(*self.connection.getsockname()[:2])
        for name, value in self.headers.items():
            lower = name.lower()
            if lower in _OWN or lower == "content-length":
                continue
            if lower == "authorization" and elsewhere:
                continue  # The key is for the server behind the base URL alone.
            if lower == "accept-encoding" and mutation.rewrites:
                continue  # What comes compressed could not be changed.
            if lower == "host" and value == here:
                value = _authority(connection)  # What the client would have called the server.
            connection.putheader(name, value)
        if had_body:
            connection.putheader("Content-Length", str(len(raw)))
        connection.endheaders(raw if had_body else None)
        return connection.getresponse() if self._client_waits_for(server) else None

    def _client_waits_for(self, server: socket.socket) -> bool:
        """Wait for the server's first byte; False if the client closes its connection before."""
        with selectors.DefaultSelector() as ready:
            ready.register(server, selectors.EVENT_READ)
            ready.register(self.connection, selectors.EVENT_READ)
            while True:
                readable = {key.fileobj for key, _ in ready.select()}
                if server in readable:
                    return True
                if not self.connection.recv(1, socket.MSG_PEEK):
                    return False
                ready.unregister(self.connection)

    def _hand_on(
        self, response: http.client.HTTPResponse, mutation: ProxyMutation, key: str | None
    ) -> None:
        encoded = (response.getheader("Content-Encoding") or "identity") != "identity"
        if response.status >= 300 or encoded:
            mutation, key = self._harmless, None
        headers = [(k, v) for k, v in response.getheaders() if k.lower() not in _OWN]
        changed_headers, pieces = mutation.headers(headers), _pieces(response)
        kind = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
        if mutation.rewrites and kind == "text/event-stream":
            self._send(
                response, changed_headers, self._rewritten(pieces, mutation), key, rewritten=True
            )
        elif mutation.rewrites and kind == "application/json":
            raw, whole = _joined(pieces)
            if not whole:
                self._send(response, headers, _broken(raw), None)
                return
            changed = mutation.answer(raw)
            self._count(changed != raw)
            self._keep(key, response, changed_headers, changed)
            self._send_whole(response.status, response.reason, changed_headers, changed)
        else:
            self._send(response, changed_headers, pieces, key)

    def _send(
        self,
        response: http.client.HTTPResponse,
        headers: Headers,
        pieces: Iterable[bytes],
        key: str | None,
        *,
        rewritten: bool = False,
    ) -> None:
        """Send an answer piece by piece, and let it end as the server lets it end.

        What is kept is kept before the client can see the end: its next request may ask for it.
        """
        sized = response.getheader("Content-Length") is not None and not response.chunked
        bare = self.command == "HEAD" or response.status in (204, 304)
        chunked = bool(response.chunked) and self.request_version == "HTTP/1.1"
        if not bare and (rewritten or not sized):
            headers = [(k, v) for k, v in headers if k.lower() != "content-length"]
            chunked = chunked or (sized and self.request_version == "HTTP/1.1")
            self.close_connection = self.close_connection or not chunked
        self._start(response.status, response.reason, headers, chunked)
        left = None if chunked or rewritten else response.length or None
        sent = list[bytes]()
        for piece in filter(None, pieces):
            sent += [piece] if key is not None else []
            left = None if left is None else left - len(piece)
            if left == 0:
                self._keep(key, response, headers, b"".join(sent))
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if left != 0:
            self._keep(key, response, headers, b"".join(sent))
        if chunked and not bare:
            self.wfile.write(b"0\r\n\r\n")

    def _rewritten(self, pieces: Iterable[bytes], mutation: ProxyMutation) -> Iterator[bytes]:
        """Yield a stream as a mutation leaves it; counted before the client can see its end."""
        before = _Digested(pieces)
        after = _Digested(mutation.stream(before))
        yield from after
        self._count(before.digest != after.digest)

    def _keep(
        self, key: str | None, response: http.client.HTTPResponse, headers: Headers, body: bytes
    ) -> None:
        if key is not None:
            kept = Kept(response.status, response.reason, headers, body)
            with self.server.proxy.lock:
                self.server.proxy.kept.setdefault(key, kept)

    def _send_whole(self, status: int, reason: str, headers: Headers, body: bytes) -> None:
        changed_headers = [(k, v) for k, v in headers if k.lower() != "content-length"]
        self._start(status, reason, [*changed_headers, ("Content-Length", str(len(body)))], False)
        self.wfile.write(body)

    def _start(self, status: int, reason: str, headers: Headers, chunked: bool) -> None:
        self.send_response_only(status, reason)
        for name, value in headers:
            self.send_header(name, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _count(self, changed: bool) -> None:
        with self.server.proxy.lock:
            self.server.proxy.changed += changed


class _Digested:
    """Pieces as they pass, and what all of them were."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self._hash = pieces, hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._hash.update(piece)
            yield piece

    @property
    def digest(self) -> bytes:
        """Digest of what has passed."""
        return self._hash.digest()


def _pieces(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield an answer's body as it comes.

    Raises:
        BrokenOff: it ended before it was whole.
    """
    left = response.length
    while left is None or left > 0:
        try:
            # Never more than is left: not every version of the library counts what it read.
            piece = response.read1(_PIECE if left is None else min(left, _PIECE))
        except (OSError, http.client.HTTPException) as error:
            raise BrokenOff from error
        if not piece:
            if left is not None:
                raise BrokenOff
            return
        left = None if left is None else left - len(piece)
        yield piece


def _joined(pieces: Iterable[bytes]) -> tuple[bytes, bool]:
    """Return a whole body, or what there is of it, and whether it is whole."""
    parts = list[bytes]()
    try:
        for piece in pieces:
            parts.append(piece)
    except BrokenOff:
        return b"".join(parts), False
    return b"".join(parts), True


def _broken(raw: bytes) -> Iterator[bytes]:
    yield raw
    raise BrokenOff


def _authority(connection: http.client.HTTPConnection) -> str:
    """Return the ``Host`` of a server as a client would write it."""
    host = f"[{connection.host}]" if ":" in connection.host else connection.host
    usual = connection.port == connection.default_port
    return host if usual else f"{host}:{connection.port}"
