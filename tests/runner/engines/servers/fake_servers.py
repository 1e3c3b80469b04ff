"""Servers that are not real: one that answers as it should, and what may go wrong with it."""

import http.server
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Misbehaviour = Callable[["FakeHandler", int], bool]
"""Answers a chat itself and returns True; or returns False, and the answer is as it should be."""

TEXT = "7 is the answer"


class FakeHandler(http.server.BaseHTTPRequestHandler):
    """Speaks enough of OpenAI's API for a chat; ``server`` holds how it misbehaves."""

    protocol_version = "HTTP/1.1"
    server: "FakeOpenAI"

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    @property
    def key(self) -> str:
        """What came as the key."""
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def answer(self, value: Any, status: int = 200, **headers: str) -> bool:
        """Send JSON, or bytes as they are; return that this was an answer."""
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        return True

    def begin(self, content_type: str = "text/event-stream") -> None:
        """Begin an answer of unknown length, which ends with the connection."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Connection", "close")
        self.end_headers()

    def event(self, delta: dict[str, Any], finish: str | None = None) -> None:
        """Send one event of a chat's stream."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        self.wfile.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")

    def _serve(self) -> None:
        server = self.server
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked: dict[str, Any] = json.loads(raw) if raw else {}
        with server.lock:
            server.asked.append((self.path, self.key))
        known = server.answers.get(self.path)
        try:
            if known is not None:
                self.answer(known(self) if callable(known) else known)
            elif self.path != "/v1/chat/completions":
                self.answer({"error": {"message": f"no {self.path} here"}}, 404)
            elif not server.misbehave(self, next(server.count)):
                self._chat()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _chat(self) -> None:
        usage = {"prompt_tokens": 5, "completion_tokens": 3}
        text = self.server.text(self)
        if not self.asked.get("stream"):
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self.answer({"choices": [choice], "usage": usage})
            return
        self.begin()
        for piece in (text[i : i + 3] for i in range(0, len(text), 3)):
            self.event({"content": piece})
        self.event({}, "stop")
        self.wfile.write(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")


def _well(_handler: FakeHandler, _number: int) -> bool:
    return False


class FakeOpenAI(http.server.ThreadingHTTPServer):
    """A server on a free port of this machine; beneath ``base_url`` it speaks OpenAI's API."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, misbehave: Misbehaviour = _well, **answers: Any) -> None:
        super().__init__(("127.0.0.1", 0), FakeHandler)
        self.misbehave, self.count, self.lock = misbehave, itertools.count(), threading.Lock()
        self.asked: list[tuple[str, str]] = []
        self.text: Callable[[FakeHandler], str] = lambda _: TEXT
        self.answers: dict[str, Any] = {
            "/v1/models": {"data": [{"id": "fake", "object": "model", "owned_by": "nobody"}]},
            **answers,
        }

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def base_url(self) -> str:
        return f"{self.root}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients leave when they have enough."""


@contextmanager
def serving(server: FakeOpenAI) -> Iterator[FakeOpenAI]:
    """Let a server run while the context is open."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port() -> str:
    """Return a base URL at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def answering(value: Any, status: int = 200, **headers: str) -> Misbehaviour:
    """Answer every chat with the same."""

    def misbehave(handler: FakeHandler, _number: int) -> bool:
        return handler.answer(value, status, **headers)

    return misbehave


def dying(after: int) -> Misbehaviour:
    """Die after so many chats: nothing listens any more."""

    def misbehave(handler: FakeHandler, number: int) -> bool:
        if number < after:
            return False
        handler.close_connection = True
        threading.Thread(target=handler.server.shutdown, daemon=True).start()
        handler.server.socket.close()
        return True

    return misbehave


def hanging(handler: FakeHandler, _number: int) -> bool:
    """Never answer."""
    _wait_for_client(handler)
    return True


def streaming_for_ever(handler: FakeHandler, _number: int) -> bool:
    """Send valid events without end, or one answer that never ends."""
    handler.begin()
    while True:
        handler.event({"content": "and "})
        time.sleep(0.01)


def without_newline(handler: FakeHandler, _number: int) -> bool:
    """Send a byte now and then, and never a line."""
    handler.begin()
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.05)


def slow_headers(handler: FakeHandler, _number: int) -> bool:
    """Send headers without end."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.05)


def closing_mid_stream(handler: FakeHandler, _number: int) -> bool:
    """Answer at once as it should, and break off every stream."""
    if not handler.asked.get("stream"):
        return False
    handler.begin()
    handler.event({"content": TEXT[:5]})
    return True


def closing_mid_answer(handler: FakeHandler, _number: int) -> bool:
    """Promise more than is sent."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b'{"choices": [')
    return True


def huge(handler: FakeHandler, _number: int) -> bool:
    """Promise ten gigabytes."""
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n{")
    _wait_for_client(handler)
    return True


def no_http(handler: FakeHandler, _number: int) -> bool:
    """Answer with the key where the status belongs."""
    handler.close_connection = True
    handler.wfile.write(f"{handler.key} is what you sent\r\n\r\n".encode())
    return True


def _wait_for_client(handler: FakeHandler) -> None:
    handler.connection.settimeout(30)
    try:
        while handler.connection.recv(1 << 16):
            pass
    except OSError:
        return
    finally:
        handler.close_connection = True
