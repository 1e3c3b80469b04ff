"""The proxy on the wire: what passes, in which pieces, how it ends, and what is left of it."""

import http.client
import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from runner.engines.faults.gateway.proxy import Proxy
from runner.engines.faults.gateway.registry import PROXY_MUTATIONS
from tests.runner.engines.faults.gateway.fake_upstream import (
    JSON,
    STREAM,
    Answer,
    FakeServer,
    events,
)

CHAT = "/v1/chat/completions"
QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


def opened(url: str, timeout_s: float = 5.0) -> http.client.HTTPConnection:
    parts = urllib.parse.urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)


def asked(
    url: str,
    path: str = CHAT,
    body: Any = QUESTION,
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return status, headers and body of one exchange on a connection of its own.

    ``Connection`` is left out: each side of a proxy has its own.
    """
    connection = opened(url)
    raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.request(method, path, raw, headers or {})
    response = connection.getresponse()
    kept = [(k, v) for k, v in response.getheaders() if k != "Connection"]
    answer = response.status, kept, response.read()
    connection.close()
    return answer


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_without_a_fault_everything_passes_byte_for_byte(
    server: FakeServer, method: str, framing: str
) -> None:
    body = bytes(range(256)) + '{"text": "für 😀"}'.encode()
    own = [("X-Trace", "a"), ("X-Trace", "b"), ("Server", "theirs")]
    server.answers["/some/path"] = Answer(body, 201, "text/odd", own, framing)
    sent = b"\x00\xff no JSON" if method in ("POST", "PUT", "PATCH") else None
    with Proxy(server.base_url, "none") as url:
        direct = asked(server.base_url, "/some/path?a=%20b&c", sent, method)
        through = asked(url, "/some/path?a=%20b&c", sent, method)
    assert through == direct
    first, second = server.asked
    assert (second.method, second.path, second.raw) == (first.method, first.path, first.raw)


@pytest.mark.parametrize("how", sorted(PROXY_MUTATIONS))
def test_no_mutation_touches_what_is_not_its_own(server: FakeServer, how: str) -> None:
    odd = b' {"prompt" : "a  b", "stop": ["x"], "seed": 3 , "tools": [] } '
    tokens = Answer(b'{ "tokens": [1, 2], "usage": {"prompt_tokens": 2} }')
    server.answers |= {"/tokenize": tokens, "/v1/embeddings": tokens, "/extras/tokenize": tokens}
    server.answers[CHAT] = Answer(b'{ "error": "too long", "choices": [] }', 400)
    with Proxy(server.base_url, how) as url:
        for path in ("/tokenize", "/v1/embeddings", "/extras/tokenize"):
            assert asked(url, path, odd)[2] == tokens.body
            assert server.asked[-1].raw == odd
        assert asked(url, CHAT, QUESTION)[2] == server.answers[CHAT].body
        assert asked(url, CHAT, b"no JSON")[2] == server.answers[CHAT].body
    assert server.asked[-1].raw == b"no JSON"


@pytest.mark.parametrize("how", ["none", "stop-dropped", "html-escaped", "utf8-broken", "renamed"])
def test_a_stream_arrives_piece_by_piece(server: FakeServer, how: str) -> None:
    pieces = events(*({"choices": [{"delta": {"content": c}}]} for c in ("one", "two")))
    gates = [threading.Event(), threading.Event()]
    server.answers[CHAT] = Answer(pieces, 200, STREAM, [], "chunked", gates=gates)
    with Proxy(server.base_url, how) as url:
        connection = opened(url)
        connection.request("POST", CHAT, json.dumps(QUESTION))
        response = connection.getresponse()
        first = response.read1(1 << 16)
        assert b"one" in first
        assert b"two" not in first
        gates[0].set()
        assert b"two" in response.read1(1 << 16)
        gates[1].set()
        assert b"[DONE]" in response.read()
        connection.close()


def test_names_and_keys_pass_and_are_not_printed(
    server: FakeServer, capfd: pytest.CaptureFixture[str]
) -> None:
    server.answers[CHAT] = Answer(b"{}")
    headers = {"Authorization": "Bearer key-0123", "X-Own": "1", "Host": "api.example.org"}
    with Proxy(server.base_url, "stop-dropped") as url:
        asked(url, headers=headers)
        asked(url, headers={"Authorization": "Bearer key-0123"})
        connection = opened(url)
        connection.sock = socket.create_connection((connection.host, connection.port))
        connection.sock.sendall(b"POST / HTTP/1.1\r\nAuthorization: key-0123\r\n broken\r\n\r\n")
        connection.sock.recv(1000)
        connection.close()
    named, plain = server.asked[:2]
    assert named.header("Authorization") == "Bearer key-0123"
    assert (named.header("Host"), named.header("X-Own")) == ("api.example.org", "1")
    assert plain.header("Host") == urllib.parse.urlsplit(server.root).netloc
    assert capfd.readouterr() == ("", "")


def test_an_error_of_the_server_arrives_as_it_is(server: FakeServer) -> None:
    server.answers[CHAT] = Answer(
        b'{"error": {"message": "<no>"}}', 500, JSON, [("Retry-After", "7")]
    )
    with Proxy(server.base_url, "html-escaped") as url:
        assert asked(url) == asked(server.base_url)


@pytest.mark.parametrize("how", ["none", "html-escaped", "regrouped"])
@pytest.mark.parametrize("kind", [JSON, STREAM])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_answer_that_breaks_off_breaks_off(
    server: FakeServer, how: str, kind: str, framing: str
) -> None:
    body = b'data: {"choices": []}\n\ndata: {"cho' if kind == STREAM else b'{"choices": [{"te'
    server.answers[CHAT] = Answer(body, 200, kind, [], framing, breaks_off=True)
    with Proxy(server.base_url, how) as url, pytest.raises(http.client.IncompleteRead) as raised:
        asked(url)
    assert raised.value.partial == body


def test_where_nobody_answers_the_connection_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Proxy(f"http://127.0.0.1:{port}/v1", "none") as url, pytest.raises(ConnectionError):
        asked(url)


def test_closing_leaves_no_thread_and_no_port(server: FakeServer) -> None:
    before = set(threading.enumerate())
    silent = threading.Event()
    server.answers[CHAT] = Answer(silent=silent)
    server.answers["/v1/models"] = Answer()
    proxy = Proxy(server.base_url, "none")
    url = proxy.start()
    waiting = opened(url)
    waiting.request("POST", CHAT, json.dumps(QUESTION))
    idle = opened(url)
    idle.request("GET", "/v1/models")
    idle.getresponse().read()
    while len(server.asked) < 2:
        time.sleep(0.01)
    started = time.monotonic()
    proxy.close()
    proxy.close()
    assert time.monotonic() - started < 2
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        waiting.getresponse()
    with pytest.raises(ConnectionError):
        asked(url)
    silent.set()
    fakes = {t for t in threading.enumerate() if "process_request_thread" in t.name}
    left = {t.name for t in set(threading.enumerate()) - before - fakes}
    assert left == set()
    waiting.close()
    idle.close()


def test_a_client_that_goes_takes_its_request_with_it() -> None:
    """A server that computes for nobody would keep the next request waiting."""
    listening = socket.create_server(("127.0.0.1", 0))
    with listening, Proxy(f"http://127.0.0.1:{listening.getsockname()[1]}", "none") as url:
        connection = opened(url)
        connection.request("POST", CHAT, json.dumps(QUESTION))
        there, _ = listening.accept()
        with there:
            there.settimeout(5)
            assert there.recv(1 << 16)
            connection.close()
            while there.recv(1 << 16):
                pass  # the request's body; the end of the connection is what is waited for


def test_one_connection_carries_many_requests(server: FakeServer) -> None:
    server.answers[CHAT] = Answer(b'{"a": 1}')
    server.answers["/v1/models"] = Answer([b'{"b"', b": 2}"], framing="chunked")
    with Proxy(server.base_url, "pretty") as url:
        connection = opened(url)
        for _ in range(3):
            connection.request("POST", CHAT, json.dumps(QUESTION))
            assert json.loads(connection.getresponse().read()) == {"a": 1}
            held = connection.sock
            connection.request("GET", "/v1/models")
            assert connection.getresponse().read() == b'{"b": 2}'
            assert connection.sock is held
        connection.close()


def test_a_request_in_chunks_arrives_whole(server: FakeServer) -> None:
    server.answers[CHAT] = Answer()
    with Proxy(server.base_url, "seed-dropped") as url:
        connection = opened(url)
        parts = iter([b'{"messages": [], ', b'"seed": 3}'])
        connection.request("POST", CHAT, parts, encode_chunked=True)
        connection.getresponse().read()
        connection.close()
    assert server.asked[0].body == {"messages": []}


def test_requests_at_once_do_not_wait_for_each_other(server: FakeServer) -> None:
    silent = threading.Event()
    server.answers[CHAT] = Answer(silent=silent)
    server.answers["/v1/models"] = Answer()
    with Proxy(server.base_url, "none") as url:
        waiting = opened(url)
        waiting.request("POST", CHAT, json.dumps(QUESTION))
        assert asked(url, "/v1/models", None, "GET")[0] == 200
        silent.set()
        assert waiting.getresponse().read() == b"{}"
        waiting.close()


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(KeyError, match="tools-droped"):
        Proxy("http://127.0.0.1:1/v1", "tools-droped")
