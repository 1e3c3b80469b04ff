"""The HTTP client of the engine child: how long it waits, what it believes, and what it repeats."""

import json
import time
from typing import Any

import pytest

from runner.engines.base import EngineGone
from runner.engines.servers import http_call
from runner.engines.servers import http_client as http
from runner.engines.servers.http_client import Client
from runner.engines.servers.server_errors import Refused, ServerFailure
from tests.runner.engines.servers import fake_servers as fakes
from tests.runner.engines.servers.fake_servers import FakeHandler, FakeOpenAI, Misbehaviour, serving

KEY = "sk-do-not-tell-0123456789"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "?"}]}
CHATS = "chat/completions"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_PAUSES_S", (0.01, 0.01))
    monkeypatch.setattr(http, "_LONGEST_PAUSE_S", 0.05)


def _failure(misbehave: Misbehaviour, *, key: str = KEY, timeout_s: float = 5.0) -> str:
    """Return what one chat ends with."""
    with serving(FakeOpenAI(misbehave)) as server:
        client = Client(server.base_url, key, timeout_s)
        with pytest.raises((Refused, ServerFailure, EngineGone)) as failure:
            client.post(CHATS, CHAT)
    return f"{type(failure.value).__name__}: {failure.value}"


def _streamed(misbehave: Misbehaviour, timeout_s: float = 5.0) -> str:
    with serving(FakeOpenAI(misbehave)) as server:
        client = Client(server.base_url, KEY, timeout_s)
        with pytest.raises((Refused, ServerFailure, EngineGone)) as failure:
            list(client.stream(CHATS, {**CHAT, "stream": True}))
    return f"{type(failure.value).__name__}: {failure.value}"


def test_a_busy_server_is_asked_again_as_often_as_it_takes_within_reason() -> None:
    def busy(handler: FakeHandler, number: int) -> bool:
        if number < 2:
            handler.answer({"error": "slow down"}, 429, Retry_After="0")
        return number < 2

    with serving(FakeOpenAI(busy)) as server:
        answer = Client(server.base_url).post(CHATS, CHAT)
    assert answer["choices"][0]["message"]["content"] == fakes.TEXT


@pytest.mark.parametrize(
    "asked", ["3600", "inf", "nan", "-5", "soon", "Wed, 21 Oct 2065 07:28 GMT"]
)
def test_no_pause_that_a_server_asks_for_is_longer_than_ours(asked: str) -> None:
    started = time.monotonic()
    failure = _failure(fakes.answering({"error": "later"}, 503, Retry_After=asked))
    assert failure == "ServerFailure: HTTP 503: later"
    assert time.monotonic() - started < 2


def test_a_redirect_is_not_followed_so_that_no_other_server_sees_the_key() -> None:
    with serving(FakeOpenAI()) as other:
        location = f"{other.base_url}/{CHATS}"
        for status in (301, 302, 307, 308):
            failure = _failure(fakes.answering({}, status, Location=location))
            assert f"HTTP {status} leads to {location}, which is not followed" in failure
        assert other.asked == []


def test_what_one_request_is_refused_for_says_nothing_of_the_next() -> None:
    with serving(FakeOpenAI(fakes.answering({"error": {"message": "too long"}}, 400))) as server:
        client = Client(server.base_url)
        for _ in range(20):
            with pytest.raises(Refused, match="HTTP 400: too long"):
                client.post(CHATS, CHAT)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_endpoint_that_lets_nobody_in_ends_the_attempt(status: int) -> None:
    with serving(FakeOpenAI(fakes.answering({"error": "go away"}, status))) as server:
        client = Client(server.base_url)
        for _ in range(2):
            with pytest.raises(Refused, match="go away"):
                client.post(CHATS, CHAT)
        with pytest.raises(EngineGone, match=f"3 times in a row at {CHATS}: HTTP {status}"):
            client.post(CHATS, CHAT)


def test_endpoints_that_only_some_servers_have_may_be_missing() -> None:
    with serving(FakeOpenAI()) as server:
        client = Client(server.base_url)
        for _ in range(5):
            with pytest.raises(Refused):
                client.post("/tokenize", {})
        assert client.post(CHATS, CHAT)["choices"]


def test_failures_count_in_a_row_and_streams_by_themselves() -> None:
    def every_second(handler: FakeHandler, number: int) -> bool:
        if number % 2:
            handler.answer(b"<html>oops</html>")
        return bool(number % 2)

    with serving(FakeOpenAI(every_second)) as server:
        client = Client(server.base_url)
        for _ in range(6):
            client.post(CHATS, CHAT)
            with pytest.raises(ServerFailure, match="no JSON came"):
                client.post(CHATS, CHAT)
    with serving(FakeOpenAI(fakes.closing_mid_stream)) as server:
        client = Client(server.base_url)
        for _ in range(2):
            client.post(CHATS, CHAT)
            with pytest.raises(ServerFailure, match="closed before its end"):
                list(client.stream(CHATS, {**CHAT, "stream": True}))
        client.post(CHATS, CHAT)
        with pytest.raises(EngineGone, match="3 times in a row"):
            list(client.stream(CHATS, {**CHAT, "stream": True}))


def test_a_server_that_worked_may_fail_at_more_requests_than_one_that_never_did() -> None:
    def after_one(handler: FakeHandler, number: int) -> bool:
        if number:
            handler.answer({"error": "template: no tools"}, 500)
        return bool(number)

    with serving(FakeOpenAI(after_one)) as server:
        client = Client(server.base_url)
        client.post(CHATS, CHAT)
        for _ in range(9):
            with pytest.raises(ServerFailure, match="template: no tools"):
                client.post(CHATS, CHAT)
        with pytest.raises(EngineGone, match="10 times in a row"):
            client.post(CHATS, CHAT)


@pytest.mark.parametrize(
    "misbehave",
    [fakes.hanging, fakes.streaming_for_ever, fakes.without_newline, fakes.slow_headers],
)
def test_whatever_has_no_end_is_cut_off_in_time(misbehave: Misbehaviour) -> None:
    for ask in (_failure, _streamed):
        started = time.monotonic()
        assert ask(misbehave, timeout_s=0.4).startswith("EngineGone: 127.0.0.1: chat/completions")
        assert time.monotonic() - started < 2


def test_too_large_an_answer_is_refused_before_it_is_read() -> None:
    assert _failure(fakes.huge) == "ServerFailure: the answer is over 256 MiB"


def test_a_stream_is_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_call, "_LARGEST_STREAM", 2000)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert "over 0 MiB" in _streamed(fakes.streaming_for_ever)


def test_an_answer_that_breaks_off_is_no_answer() -> None:
    assert "broke off: IncompleteRead" in _failure(fakes.closing_mid_answer)
    assert "closed before its end" in _streamed(fakes.closing_mid_stream)


def test_a_stream_that_told_why_it_ended_is_whole_without_its_mark() -> None:
    def unmarked(handler: FakeHandler, _number: int) -> bool:
        handler.begin()
        handler.event({"content": "x"}, "stop")
        return True

    with serving(FakeOpenAI(unmarked)) as server:
        events = list(Client(server.base_url).stream(CHATS, CHAT))
    assert len(events) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502</html>",
        b"\xff\xfe\x00",
        b'{"choices": NaN}',
        b'{"choices": [1e999]}',
        b'{"choices": [' + b"9" * 40 + b"]}",
        b'{"choices": [' + b"9" * 5000 + b"]}",
        b"[" * 200_000 + b"]" * 200_000,
        b'{"a":' * 200_000,
    ],
    ids=["empty", "html", "bytes", "nan", "inf", "int", "longest", "deep", "cut"],
)
def test_what_is_no_sane_json_is_no_answer(body: bytes) -> None:
    assert _failure(fakes.answering(body)).startswith("ServerFailure: no JSON came")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ([], "the answer is a list"),
        ({}, "choices is null"),
        ({"choices": None}, "choices is null"),
        ({"choices": []}, "choices is empty"),
        ({"choices": [7]}, "a choice is a number (7)"),
        ({"choices": [{}]}, "neither message nor text"),
        ({"choices": [{"message": "x"}]}, "message is a text ('x')"),
        ({"choices": [{"message": {"content": [1]}}]}, "content is a list"),
        ({"choices": [{"message": {"tool_calls": [[]]}}]}, "a tool call is a list"),
        ({"choices": [{"message": {}, "finish_reason": 3}]}, "finish_reason is a number"),
        ({"choices": [{"message": {}}], "usage": [1]}, "usage is a list"),
        (
            {"choices": [{"message": {}}], "usage": {"prompt_tokens": "5"}},
            "prompt_tokens is a text",
        ),
        (
            {"choices": [{"message": {}}], "usage": {"completion_tokens": 2**40}},
            "completion_tokens",
        ),
    ],
)
def test_an_answer_of_another_shape_is_no_answer(answer: Any, why: str) -> None:
    assert why in _failure(fakes.answering(answer))


def test_half_a_character_becomes_the_sign_for_what_cannot_be_read() -> None:
    body = b'{"choices": [{"message": {"content": "a\\ud83d b\\ud83d\\ude00"}}]}'
    with serving(FakeOpenAI(fakes.answering(body))) as server:
        answer = Client(server.base_url).post(CHATS, CHAT)
    assert answer["choices"][0]["message"]["content"] == "a\ufffd b\U0001f600"


def _echo(handler: FakeHandler) -> bytes:
    return json.dumps(handler.key).encode()


def _numbered(way: Misbehaviour, number: int) -> Misbehaviour:
    return lambda handler, _number: way(handler, number)


@pytest.mark.parametrize("key", [KEY, 'sk-"quoted"\\and/slashed', "sk-x~!@#$%^&*()"])
def test_the_key_is_in_nothing_that_an_error_says(key: str) -> None:
    def padded(handler: FakeHandler, number: int) -> bool:
        # At each place, so that wherever a message is cut the key is not cut with it.
        handler.answer(b"x" * (250 + 4 * (number % 16)) + _echo(handler), 400)
        return True

    ways: list[Misbehaviour] = [
        *[padded] * 16,
        fakes.no_http,
        lambda h, _: h.answer({"error": {"message": f"bad key {h.key}"}}, 401),
        lambda h, _: h.answer({"detail": json.dumps({"key": h.key})}, 500),
        lambda h, _: h.answer(json.dumps({"no": h.key}).replace("/", "\\/").encode(), 500),
        lambda h, _: h.answer({}, 302, Location=f"http://elsewhere/?key={h.key}"),
        lambda h, _: h.answer({"choices": h.key}),
        lambda h, _: h.answer(b'{"cut": ' + _echo(h)),
        lambda h, _: (
            h.answer('"{}"'.format("".join(f"\\u{ord(c):04x}" for c in h.key)).encode(), 400)
            or True
        ),
    ]
    for number, way in enumerate(ways):
        told = _failure(_numbered(way, number), key=key)
        for size in (len(key), 10):
            assert key[:size] not in told
            assert json.dumps(key)[1:-1][:size] not in told
            assert json.dumps(key)[1:-1].replace("/", "\\/")[:size] not in told


@pytest.mark.parametrize("key", ["sk-1234567\n", " sk-1234567", "sk-12\r\nX: y", "sk-ключ-1234"])
def test_a_key_that_no_header_can_hold_is_never_sent_nor_told(key: str) -> None:
    with pytest.raises(EngineGone) as failure:
        Client("http://127.0.0.1:1/v1", key)
    assert "sk-1" not in str(failure.value)
    assert "line break" in str(failure.value)


def test_a_server_of_our_own_that_has_ended_is_not_asked_again() -> None:
    client = Client(fakes.closed_port(), ended=lambda: "the server was ended by SIGSEGV")
    with pytest.raises(EngineGone, match="ended by SIGSEGV; its log says why"):
        client.get("models")


def test_nobody_listening_is_told_as_such() -> None:
    with pytest.raises(ServerFailure, match="ConnectionRefusedError"):
        Client(fakes.closed_port()).get("models")
