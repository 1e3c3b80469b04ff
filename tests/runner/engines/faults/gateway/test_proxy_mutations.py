"""Each mutation of the proxy, as the server and the client see it on the wire."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from runner.engines.faults.gateway.proxy import Proxy
from tests.runner.engines.faults.gateway.fake_upstream import (
    STREAM,
    Answer,
    FakeServer,
    events,
    posted,
    read_events,
)

Json = dict[str, Any]
CHAT, TEXTS, TOKENIZE = "/v1/chat/completions", "/v1/completions", "/tokenize"
SYSTEM = {"role": "system", "content": "Be kind."}
TURNS = [{"role": "user", "content": "One two"}, {"role": "assistant", "content": "Three"}]
LAST = {"role": "user", "content": "Four five six"}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
EVERYTHING = {
    "model": "m",
    "messages": [SYSTEM, *TURNS, LAST],
    "tools": TOOLS,
    "tool_choice": "required",
    "chat_template_kwargs": {"thinking": True},
    "stop": ["x"],
    "seed": 3,
    "logit_bias": {"7": 1.5},
    "temperature": 0.0,
    "top_p": 0.5,
    "top_k": 4,
    "min_p": 0.1,
    "presence_penalty": 1.0,
    "max_tokens": 64,
}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


def arrived(server: FakeServer, how: str, path: str, body: Json, by: float | None = None) -> Json:
    """Return the request that the server gets."""
    server.answers |= {CHAT: Answer(), TEXTS: Answer(), TOKENIZE: Answer()}
    with Proxy(server.base_url, how, by) as url:
        posted(url, path, body)
    found: Json = server.asked[-1].body
    return found


def answered(
    server: FakeServer, how: str, answer: Json, path: str = CHAT, by: float | None = None
) -> Json:
    """Return the answer that the client gets."""
    server.answers[path] = Answer(json.dumps(answer).encode())
    with Proxy(server.base_url, how, by) as url:
        found: Json = json.loads(posted(url, path, EVERYTHING))
    return found


def streamed(server: FakeServer, how: str, *data: Any, by: float | None = None) -> list[Any]:
    """Return the events that the client gets."""
    server.answers[CHAT] = Answer(events(*data), 200, STREAM, [], "chunked")
    with Proxy(server.base_url, how, by) as url:
        return list(read_events(posted(url, CHAT, {**EVERYTHING, "stream": True})))


def without(*names: str) -> Json:
    return {key: value for key, value in EVERYTHING.items() if key not in names}


def choice(**fields: Any) -> Json:
    return {"choices": [{"index": 0, **fields}]}


def said(content: str | None, **fields: Any) -> Json:
    return choice(message={"role": "assistant", "content": content}, **fields)


def piece(content: str | None = None, finish: str | None = None, **delta: Any) -> Json:
    told = delta if content is None else {"content": content, **delta}
    return choice(delta=told, finish_reason=finish)


def called(arguments: str, index: int = 0) -> Json:
    return {"index": index, "id": f"c{index}", "function": {"name": "f", "arguments": arguments}}


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("none", EVERYTHING),
        ("pretty", EVERYTHING),
        ("tools-dropped", without("tools", "tool_choice")),
        ("tool-choice-dropped", without("tool_choice")),
        ("template-options-dropped", without("chat_template_kwargs")),
        ("stop-dropped", without("stop")),
        ("seed-dropped", without("seed")),
        ("bias-dropped", without("logit_bias")),
        ("sampling-dropped", without("top_p", "top_k", "min_p", "presence_penalty")),
        ("temperature-zero-unset", without("temperature")),
        ("limit-dropped", without("max_tokens")),
        ("limit-capped", {**EVERYTHING, "max_tokens": 16}),
        ("penalty-added", {**EVERYTHING, "repetition_penalty": 1.3, "repeat_penalty": 1.3}),
        ("system-dropped", {**EVERYTHING, "messages": [*TURNS, LAST]}),
        ("messages-truncated", {**EVERYTHING, "messages": [TURNS[1], LAST]}),
        (
            "messages-flattened",
            {
                **EVERYTHING,
                "messages": [
                    {
                        "role": "user",
                        "content": "### System:\nBe kind.\n\n### User:\nOne two\n\n"
                        "### Assistant:\nThree\n\n### User:\nFour five six",
                    }
                ],
            },
        ),
    ],
)
def test_what_the_server_is_asked(server: FakeServer, how: str, expected: Json) -> None:
    assert arrived(server, how, CHAT, EVERYTHING) == expected


@pytest.mark.parametrize(
    "how", ["tools-dropped", "system-dropped", "system-added", "messages-flattened", "prompt-cut"]
)
def test_what_harms_a_chat_harms_its_rendering(server: FakeServer, how: str) -> None:
    long = {**EVERYTHING, "messages": [SYSTEM, *TURNS, {**LAST, "content": "a b " * 500}]}
    chat = arrived(server, how, CHAT, long)
    assert chat != long
    assert arrived(server, how, TOKENIZE, long) == chat


@pytest.mark.parametrize(
    "how", ["stop-dropped", "seed-dropped", "bias-dropped", "temperature-zero-unset"]
)
def test_parameters_are_harmed_in_completions_and_not_in_rendering(
    server: FakeServer, how: str
) -> None:
    assert arrived(server, how, TEXTS, EVERYTHING) != EVERYTHING
    assert arrived(server, how, TOKENIZE, EVERYTHING) == EVERYTHING


def test_a_temperature_that_is_not_zero_is_kept(server: FakeServer) -> None:
    warm = {**EVERYTHING, "temperature": 0.7}
    assert arrived(server, "temperature-zero-unset", CHAT, warm) == warm


def test_a_limit_that_was_not_asked_for_is_set(server: FakeServer) -> None:
    assert arrived(server, "limit-capped", TEXTS, {"prompt": "x"}, 5)["max_tokens"] == 5
    assert (
        arrived(server, "limit-capped", CHAT, {"messages": [], "max_tokens": 4})["max_tokens"] == 4
    )


def test_an_instruction_is_added_to_the_system_prompt_or_before_all(server: FakeServer) -> None:
    first = arrived(server, "system-added", CHAT, EVERYTHING)["messages"][0]["content"]
    assert first.startswith("Be kind.\n\n")
    added = arrived(server, "system-added", CHAT, {"messages": [LAST]})["messages"]
    assert added == [{"role": "system", "content": first.removeprefix("Be kind.\n\n")}, LAST]


def test_contents_are_printed_as_lists_of_parts(server: FakeServer) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [called("{}")]}
    asked = {"messages": [{"role": "user", "content": ""}, call]}
    found = arrived(server, "parts-as-text", CHAT, asked)["messages"]
    assert found == [{"role": "user", "content": "[{'type': 'text', 'text': ''}]"}, call]


def test_a_conversation_of_system_messages_alone_is_kept(server: FakeServer) -> None:
    assert arrived(server, "system-dropped", CHAT, {"messages": [SYSTEM]})["messages"] == [SYSTEM]


def test_long_prompts_lose_their_beginning(server: FakeServer) -> None:
    cut = arrived(server, "prompt-cut", CHAT, EVERYTHING, 15)["messages"]
    assert [m["content"] for m in cut] == ["", "", "ee", "Four five six"]
    assert arrived(server, "prompt-cut", TEXTS, {"prompt": "abcdef"}, 4) == {"prompt": "cdef"}
    ids = {"prompt": [1, 2, 3, 4]}
    assert arrived(server, "prompt-cut", TEXTS, ids, 8) == {"prompt": [3, 4]}
    assert arrived(server, "prompt-cut", CHAT, EVERYTHING) == EVERYTHING


HELLO = " a < b & 'c' 😀 "
LOGPROBS = {"token_logprobs": [None, -1.0, -2.0], "top_logprobs": [None, {"a": -1.0}, {"b": -2.0}]}
ENTRIES = [
    {"token": "a", "logprob": -1.0, "top_logprobs": [{"token": "a", "logprob": -1.0}]},
    {"token": "b", "logprob": -2.0, "top_logprobs": [{"token": "c", "logprob": -0.5}]},
]


@pytest.mark.parametrize(
    ("how", "answer", "expected"),
    [
        ("none", said(HELLO), said(HELLO)),
        ("html-escaped", said(HELLO), said(" a &lt; b &amp; &#x27;c&#x27; 😀 ")),
        ("html-escaped", choice(text="<b>"), choice(text="&lt;b&gt;")),
        ("stripped", said(HELLO), said(HELLO.strip())),
        ("stripped", said(None), said(None)),
        ("finish-lost", said("", finish_reason="stop"), said("", finish_reason=None)),
        (
            "calls-finish-as-stop",
            said("", finish_reason="tool_calls"),
            said("", finish_reason="stop"),
        ),
        (
            "calls-finish-as-stop",
            said("", finish_reason="length"),
            said("", finish_reason="length"),
        ),
        (
            "reasoning-stripped",
            choice(message={"content": "a", "reasoning_content": "b", "reasoning": "c"}),
            choice(message={"content": "a"}),
        ),
        (
            "usage-wrong",
            {"usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}},
            {"usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}},
        ),
        (
            "logprobs-dropped",
            {**choice(logprobs=LOGPROBS), "prompt_logprobs": [None]},
            {**choice(logprobs=None), "prompt_logprobs": None},
        ),
        (
            "logprobs-shifted",
            choice(logprobs=LOGPROBS, prompt_logprobs=[None, {"5": 1}, {"6": 2}]),
            choice(
                logprobs={
                    "token_logprobs": [None, None, -1.0],
                    "top_logprobs": [None, None, {"a": -1.0}],
                },
                prompt_logprobs=[None, None, {"5": 1}],
            ),
        ),
        (
            "logprobs-shifted",
            choice(logprobs={"content": ENTRIES}),
            choice(logprobs={"content": [ENTRIES[0], {**ENTRIES[0], "token": "b"}]}),
        ),
        (
            "logprobs-zero",
            choice(logprobs=LOGPROBS),
            choice(
                logprobs={
                    "token_logprobs": [None, 0.0, 0.0],
                    "top_logprobs": [None, {"a": 0.0}, {"b": 0.0}],
                }
            ),
        ),
        (
            "logprobs-zero",
            choice(logprobs={"content": ENTRIES[1:]}),
            choice(
                logprobs={
                    "content": [
                        {
                            "token": "b",
                            "logprob": 0.0,
                            "top_logprobs": [{"token": "c", "logprob": 0.0}],
                        }
                    ]
                }
            ),
        ),
        (
            "renamed",
            {"id": "x", "model": "m", "created": 9, "usage": {}},
            {"id": "gateway-1", "model": "gateway", "created": 1, "usage": {}},
        ),
        ("pretty", said(HELLO), said(HELLO)),
        ("regrouped", said(HELLO), said(HELLO)),
        ("utf8-broken", said(HELLO), said(HELLO)),
        ("last-piece-lost", said(HELLO), said(HELLO)),
    ],
)
def test_what_the_client_is_answered(
    server: FakeServer, how: str, answer: Json, expected: Json
) -> None:
    assert answered(server, how, answer) == expected


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("arguments-twice-encoded", '"{\\"b\\": \\"ü\\",\\"a\\": 1}"'),
        ("arguments-sorted", '{"a": 1, "b": "ü"}'),
        ("arguments-escaped", '{"b": "\\u00fc", "a": 1}'),
    ],
)
def test_arguments_are_written_again(server: FakeServer, how: str, expected: str) -> None:
    whole, broken = called('{"b": "ü","a": 1}'), called('{"b": ')
    message = {"content": None, "tool_calls": [whole, broken]}
    found = answered(server, how, choice(message=message))["choices"][0]["message"]["tool_calls"]
    assert [c["function"]["arguments"] for c in found] == [expected, '{"b": ']
    (event,) = streamed(server, how, piece(tool_calls=[whole]))
    (call,) = event["choices"][0]["delta"]["tool_calls"]
    assert call["function"]["arguments"] == expected


USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "total_tokens": 5}}


@pytest.mark.parametrize(
    ("how", "sent", "expected"),
    [
        ("none", [piece("a"), USAGE], [piece("a"), USAGE]),
        ("regrouped", [piece("a"), piece("b"), USAGE], [piece("a"), piece("b"), USAGE]),
        (
            "last-piece-lost",
            [piece("a"), piece("b"), piece("c"), piece(None, "stop"), USAGE],
            [piece("a"), piece("b"), piece(None, "stop"), USAGE],
        ),
        ("last-piece-lost", [piece("a"), piece("b", "stop")], [piece("a"), piece("", "stop")]),
        (
            "blank-pieces-dropped",
            [piece("a"), piece("\n\n"), piece(" b"), piece("", "stop"), USAGE],
            [piece("a"), piece(" b"), piece("", "stop"), USAGE],
        ),
        ("finish-lost", [piece("a"), piece(None, "stop")], [piece("a"), piece(None, None)]),
        ("stripped", [piece("a "), piece(" b")], [piece("a"), piece("b")]),
        ("html-escaped", [piece("<"), piece("b")], [piece("&lt;"), piece("b")]),
        (
            "usage-wrong",
            [piece("a"), USAGE],
            [piece("a"), {"choices": [], "usage": {"prompt_tokens": 10, "total_tokens": 12}}],
        ),
        (
            "call-index-zero",
            [piece(tool_calls=[called("{}", 0)]), piece(tool_calls=[called("{}", 1)])],
            [
                piece(tool_calls=[called("{}", 0)]),
                piece(tool_calls=[{**called("{}", 1), "index": 0}]),
            ],
        ),
        ("reasoning-stripped", [piece("a", reasoning_content="b")], [piece("a")]),
        ("renamed", [{"id": "x", **piece("a")}], [{"id": "gateway-1", **piece("a")}]),
    ],
)
def test_what_the_client_reads_of_a_stream(
    server: FakeServer, how: str, sent: list[Json], expected: list[Json]
) -> None:
    assert streamed(server, how, *sent) == expected


def test_characters_break_in_a_stream_whether_the_server_escapes_them_or_not(
    server: FakeServer,
) -> None:
    plain = piece("für 😀 a")
    (written,) = streamed(server, "utf8-broken", plain)
    (escaped,) = streamed(server, "utf8-broken", json.dumps(plain))
    assert written == escaped
    text = written["choices"][0]["delta"]["content"]
    assert "😀" not in text
    assert "\ufffd" in text
    assert text.endswith(" a")
    assert streamed(server, "utf8-broken", plain, by=10_000) == [plain]


def test_json_is_written_with_line_breaks(server: FakeServer) -> None:
    server.answers[CHAT] = Answer(json.dumps(said("a")).encode())
    with Proxy(server.base_url, "pretty") as url:
        assert posted(url, CHAT, EVERYTHING).count(b"\n") > 5
    assert server.asked[-1].raw.count(b"\n") > 5
