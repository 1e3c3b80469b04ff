"""Mutations that let another answer: another server or model, or what was answered before."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from runner.engines.faults.gateway.base import Draws
from runner.engines.faults.gateway.proxy import Proxy
from tests.runner.engines.faults.gateway.fake_upstream import (
    STREAM,
    Answer,
    FakeServer,
    events,
    posted,
    read_events,
)

CHAT = "/v1/chat/completions"
SYSTEM = {"role": "system", "content": "Be kind."}
TURNS = [{"role": "user", "content": "One two"}, {"role": "assistant", "content": "Three"}]
LAST = {"role": "user", "content": "Four five six"}
ASKED = {"model": "m", "messages": [SYSTEM, *TURNS, LAST]}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


def said(content: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": content}}]}).encode()


def test_the_same_share_is_hit_in_any_order() -> None:
    bodies: list[dict[str, Any]] = [
        {"model": "/a/b", "prompt": f"Tell me of {i}"} for i in range(1000)
    ]
    forth, back = Draws(0.05, 0), Draws(0.05, 0)
    hit = [forth.hits("chat", body) for body in bodies]
    moved = [{**body, "model": "/c/d"} for body in bodies]
    assert hit[::-1] == [back.hits("chat", body) for body in moved[::-1]]
    assert 25 < sum(hit) < 75
    assert hit != [Draws(0.05, 1).hits("chat", body) for body in bodies]
    again = [forth.hits("chat", bodies[0]) for _ in range(1000)]
    assert 25 < sum(again) < 75


def test_many_at_once_are_counted_apart() -> None:
    draws, hits = Draws(0.5, 0), list[bool]()
    threads = [
        threading.Thread(target=lambda: hits.append(draws.hits("chat", {"a": 1})))
        for _ in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = Draws(0.5, 0)
    assert sum(hits) == sum(alone.hits("chat", {"a": 1}) for _ in range(40))


def test_one_user_gets_the_answer_of_another(server: FakeServer) -> None:
    proxy = Proxy(server.base_url, "kept-by-last-message")
    with proxy as url:
        server.answers[CHAT] = Answer(said("Luna"))
        first = posted(url, CHAT, {"messages": [SYSTEM, LAST]})
        server.answers[CHAT] = Answer(said("Nova"))
        assert posted(url, CHAT, {"messages": [*TURNS, LAST], "seed": 4}) == first
        other = posted(url, CHAT, {"messages": [TURNS[0]]})
        assert other == said("Nova")
        server.answers[CHAT] = Answer(events({"piece": "Nova"}), 200, STREAM, [], "chunked")
        stream = posted(url, CHAT, {"messages": [LAST], "stream": True})
        assert list(read_events(stream)) == [{"piece": "Nova"}]
        server.answers[CHAT] = Answer(b"", 500)
        assert posted(url, CHAT, {"messages": [SYSTEM, LAST], "stream": True}) == stream
        assert proxy.changed == 2


def test_an_error_is_not_kept(server: FakeServer) -> None:
    with Proxy(server.base_url, "kept-by-last-message") as url:
        server.answers[CHAT] = Answer(b'{"error": 1}', 500)
        posted(url, CHAT, {"messages": [LAST]})
        server.answers[CHAT] = Answer(b'{"a": 1}')
        assert posted(url, CHAT, {"messages": [LAST]}) == b'{"a": 1}'


def test_a_share_is_answered_elsewhere(server: FakeServer) -> None:
    server.answers[CHAT] = Answer(b'{"by": "first"}')
    with FakeServer() as second:
        second.answers["/other/chat/completions"] = Answer(b'{"by": "second"}')
        with Proxy(server.base_url, "share-elsewhere", 1.0, 0, f"{second.root}/other") as url:
            assert posted(url, CHAT, ASKED, Authorization="Bearer k") == b'{"by": "second"}'
        assert second.asked[0].body == ASKED
        assert second.asked[0].header("Authorization") is None
    with Proxy(server.base_url, "share-elsewhere", 1.0, 0, "small") as url:
        posted(url, CHAT, ASKED, Authorization="Bearer k")
    assert server.asked[-1].body == {**ASKED, "model": "small"}
    assert server.asked[-1].header("Authorization") == "Bearer k"
    with Proxy(server.base_url, "share-elsewhere", 0.0, 0, "small") as url:
        posted(url, CHAT, ASKED)
    assert server.asked[-1].body == ASKED
    with Proxy(server.base_url, "share-elsewhere", 1.0) as url:
        posted(url, CHAT, ASKED)
    worse = {**LAST, "content": "Four five"}
    assert server.asked[-1].body == {**ASKED, "messages": [SYSTEM, *TURNS, worse]}
