"""A small real HTTP server that answers as it is told, and remembers what it was asked."""

import http.client
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

STREAM = "text/event-stream; charset=utf-8"
JSON = "application/json"


@dataclass
class Answer:
    """What one path answers."""

    body: bytes | list[bytes] = b"{}"
    """As a whole, or in pieces that are sent one by one."""
    status: int = 200
    content_type: str = JSON
    headers: list[tuple[str, str]] = field(default_factory=list)
    framing: str = "length"
    """length, chunked, or close."""
    breaks_off: bool = False
    """The connection is closed before the answer is whole."""
    gates: list[threading.Event] = field(default_factory=list)
    """What is waited for before the second piece, the third, …"""
    silent: threading.Event | None = None
    """What is waited for before anything is answered."""


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    def header(self, name: str) -> str | None:
        return next((v for k, v in self.headers if k.lower() == name.lower()), None)


class _Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is part of what is tested."""


class FakeServer:
    """Speaks HTTP/1.1 on a free port."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[Asked] = []
        self._server = _Quiet(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def base_url(self) -> str:
        return f"{self.root}/v1"

    def __enter__(self) -> "FakeServer":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def events(*data: Any) -> list[bytes]:
    """Return the events of a stream, its end mark included, as OpenAI's servers write them."""
    written = [x if isinstance(x, str) else json.dumps(x, ensure_ascii=False) for x in data]
    return [f"data: {text}\n\n".encode() for text in (*written, "[DONE]")]


def read_events(raw: bytes) -> Iterator[Any]:
    """Yield the data of a stream up to its end mark."""
    for block in raw.decode().split("\n\n"):
        if block.startswith("data: ") and block != "data: [DONE]":
            yield json.loads(block.removeprefix("data: "))


def posted(url: str, path: str, body: Any, **headers: str) -> bytes:
    """Return the answer to one POST on a connection of its own."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse().read()
    connection.close()
    return answer


def _handler(fake: FakeServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self._answer
            raise AttributeError(name)

        def log_message(self, *args: Any) -> None:
            """Keep the tests' output clean."""

        def _answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fake.asked.append(Asked(self.command, self.path, list(self.headers.items()), raw))
            answer = fake.answers.get(self.path.partition("?")[0], Answer(status=404))
            if answer.silent is not None:
                answer.silent.wait(10)
            self._send(answer)

        def _send(self, answer: Answer) -> None:
            pieces = [answer.body] if isinstance(answer.body, bytes) else answer.body
            self.send_response_only(answer.status)
            self.send_header("Content-Type", answer.content_type)
            for name, value in answer.headers:
                self.send_header(name, value)
            if answer.framing == "length":
                missing = 10 if answer.breaks_off else 0
                self.send_header("Content-Length", str(sum(map(len, pieces)) + missing))
            elif answer.framing == "chunked":
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Connection", "close")
            self.close_connection = answer.breaks_off or answer.framing == "close"
            self.end_headers()
            if self.command == "HEAD":
                return
            for index, piece in enumerate(pieces):
                if 0 < index <= len(answer.gates):
                    answer.gates[index - 1].wait(10)
                chunked = answer.framing == "chunked"
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            if answer.framing == "chunked" and not answer.breaks_off:
                self.wfile.write(b"0\r\n\r\n")

    return Handler
