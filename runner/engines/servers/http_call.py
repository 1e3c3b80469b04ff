"""One request to a server and its answer, limited in time and size."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from socket import SHUT_RDWR, socket

from runner.engines.servers.server_errors import ServerFailure

_LARGEST_REPLY = 256 << 20
#: A stream is joined in memory, piece by piece.
_LARGEST_STREAM = 32 << 20
_PIECE = 1 << 16


class HttpCall:
    """One request and its answer on a connection of its own, which is cut when its time is over.

    A socket's own limit holds for each read alone: a server that sends a byte now and then would
    never reach it.
    """

    def __init__(self, connection: http.client.HTTPConnection, ends: float) -> None:
        self._connection, self._ends = connection, ends
        self._response: http.client.HTTPResponse | None = None
        self._cut: threading.Timer | None = None
        self._sock: socket | None = None

    def ask(
        self, method: str, target: str, data: bytes | None, headers: dict[str, str]
    ) -> tuple[int, str, float | None]:
        """Send the request; return status, Location and the pause that is asked for, in seconds."""
        self._connection.connect()
        # The connection forgets it as soon as the answer begins, where it is the last one.
        self._sock = self._connection.sock
        self._cut = threading.Timer(max(0.0, self._ends - time.monotonic()), self._shut)
        self._cut.daemon = True
        self._cut.start()
        self._connection.request(method, target, data, headers)
        self._response = self._connection.getresponse()
        answered = self._response.headers
        try:
            pause = float(answered.get("Retry-After", ""))
        except ValueError:
            pause = None
        return self._response.status, answered.get("Location", ""), pause

    def rest(self) -> bytes:
        """Return all of the body.

        Raises:
            ServerFailure: it is too large.
        """
        return b"".join(self._pieces(_LARGEST_REPLY))

    def lines(self) -> Iterator[bytes]:
        """Yield the body's lines as they come; raises as ``rest`` does."""
        begun = list[bytes]()
        for piece in self._pieces(_LARGEST_STREAM):
            *whole, last = piece.split(b"\n")
            for line in whole:
                yield b"".join([*begun, line])
                begun = []
            begun.append(last)
        yield b"".join(begun)

    def check_time(self, error: BaseException | None = None) -> None:
        """Raise TimeoutError if the time is over: then that is why the connection broke."""
        if isinstance(error, TimeoutError) or time.monotonic() >= self._ends:
            raise TimeoutError from error

    def close(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
        if self._response is not None:
            self._response.close()
        self._connection.close()

    def _pieces(self, largest: int) -> Iterator[bytes]:
        if self._response is None:
            raise RuntimeError("nothing was asked")
        size = self._response.length or 0
        while size <= largest:
            self.check_time()
            piece = self._response.read1(_PIECE)
            if not piece:
                self.check_time()
                self._whole()
                return
            size = size + len(piece) if self._response.length is None else size
            yield piece
        raise ServerFailure(f"the answer is over {largest >> 20} MiB")

    def _whole(self) -> None:
        """Raise if a body of known length ended early, which ``read1`` does not notice."""
        missing = self._response.length if self._response is not None else None
        if missing:
            raise http.client.IncompleteRead(b"", missing)

    def _shut(self) -> None:
        if self._sock is not None:
            with suppress(OSError):
                self._sock.shutdown(SHUT_RDWR)
