"""Proxies that return something else than the server answered."""

import copy
import html
import json
from collections.abc import Iterable, Iterator
from typing import Any

from runner.engines.faults.gateway.base import (
    CHAT,
    BrokenOff,
    Event,
    Headers,
    Json,
    OfAnswers,
    ProxyMutation,
    choices_of,
    events_of,
    message_of,
    object_of,
    set_text,
    text_of,
)

_RENAMED = {"id": "gateway-1", "model": "gateway", "created": 1, "system_fingerprint": "gateway"}


class Utf8Broken(ProxyMutation):
    """Each event is sent in pieces of ``by`` bytes, and each piece is decoded alone.

    What the server escapes in its JSON is written out first, as a proxy does that parses events.
    """

    rewrites = True
    strength = 3.0

    def stream(self, pieces: Iterable[bytes]) -> Iterable[bytes]:
        for event in events_of(pieces):
            written = event if event.data is None else event.with_data(event.data, ascii_only=False)
            yield decoded_in_pieces(written.raw, max(1, int(self.by)))


class LastPieceLost(OfAnswers):
    """The last piece of text of a stream is never handed out."""

    def events(self, events: Iterator[Event]) -> Iterator[Event]:
        held = list[Event]()
        for event in events:
            if event.data is not None and any(map(text_of, choices_of(event.data))):
                yield from held
                held = [event]
            elif held and not event.ends:
                held.append(event)
            else:
                yield from _without_text(held)
                held = []
                yield event
        yield from _without_text(held)


class BlankPiecesDropped(OfAnswers):
    """Pieces of a stream that are nothing but white space are taken for empty."""

    def events(self, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            found = [] if event.data is None else choices_of(event.data)
            if not found or not all(
                text_of(c).isspace() and not c.get("finish_reason") for c in found
            ):
                yield event


class FinishLost(OfAnswers):
    """Why an answer ended is left out."""

    def choice(self, choice: Json, streamed: bool) -> None:
        if "finish_reason" in choice:
            choice["finish_reason"] = None


class CallsFinishAsStop(OfAnswers):
    """An answer that ends with calls is reported as finished."""

    endpoints = frozenset({CHAT})

    def choice(self, choice: Json, streamed: bool) -> None:
        if choice.get("finish_reason") == "tool_calls":
            choice["finish_reason"] = "stop"


class CallIndexZero(OfAnswers):
    """In a stream all calls bear the index of the first, so that clients join them into one."""

    endpoints = frozenset({CHAT})

    def choice(self, choice: Json, streamed: bool) -> None:
        for call in _calls(choice) if streamed else []:
            call["index"] = 0


class ReasoningStripped(OfAnswers):
    """Fields that the proxy does not know, reasoning among them, are left out."""

    endpoints = frozenset({CHAT})

    def choice(self, choice: Json, streamed: bool) -> None:
        for name in ("reasoning_content", "reasoning"):
            message_of(choice).pop(name, None)


class OfArguments(OfAnswers):
    """The arguments of calls are parsed and written again.

    In streams only those that come whole in one event can be.
    """

    endpoints = frozenset({CHAT})

    def choice(self, choice: Json, streamed: bool) -> None:
        for call in _calls(choice):
            function = call.get("function")
            text = function.get("arguments") if isinstance(function, dict) else None
            if (
                isinstance(text, str)
                and object_of(text.encode("utf-8", "surrogatepass")) is not None
            ):
                call["function"] = {**call["function"], "arguments": self.written(text)}

    def written(self, arguments: str) -> str:
        """Return arguments, a JSON object, in the proxy's way."""
        raise NotImplementedError


class ArgumentsTwiceEncoded(OfArguments):
    """Arguments, which are JSON text already, are encoded as JSON text."""

    def written(self, arguments: str) -> str:
        return json.dumps(arguments, ensure_ascii=False)


class ArgumentsSorted(OfArguments):
    """The keys of arguments are sorted."""

    def written(self, arguments: str) -> str:
        return json.dumps(json.loads(arguments), sort_keys=True, ensure_ascii=False)


class ArgumentsEscaped(OfArguments):
    """All that is not ASCII is escaped in arguments: other text, the same JSON."""

    def written(self, arguments: str) -> str:
        return json.dumps(json.loads(arguments))


class HtmlEscaped(OfAnswers):
    """Text is made fit for a web page."""

    def choice(self, choice: Json, streamed: bool) -> None:
        if text := text_of(choice):
            set_text(choice, html.escape(text))


class Stripped(OfAnswers):
    """White space around an answer is removed; in a stream, around each piece."""

    def choice(self, choice: Json, streamed: bool) -> None:
        if text := text_of(choice):
            set_text(choice, text.strip())


class UsageWrong(OfAnswers):
    """The proxy counts ``by`` tokens of the prompt too many."""

    strength = 7.0

    def changed(self, answer: Json, streamed: bool) -> Json:
        usage: Any = answer.get("usage")
        for name in ("prompt_tokens", "total_tokens") if isinstance(usage, dict) else ():
            if isinstance(usage.get(name), int):
                usage[name] += int(self.by)
        return answer


class LogprobsDropped(OfAnswers):
    """Log-probs are left out."""

    def changed(self, answer: Json, streamed: bool) -> Json:
        for holder in (answer, *choices_of(answer)):
            for name in ("logprobs", "prompt_logprobs"):
                if holder.get(name) is not None:
                    holder[name] = None
        return answer


class LogprobsShifted(OfAnswers):
    """Each log-prob is that of the position before; the first keeps its own. Streams are spared."""

    def changed(self, answer: Json, streamed: bool) -> Json:
        for holder in () if streamed else (answer, *choices_of(answer)):
            rows = holder.get("prompt_logprobs")
            if isinstance(rows, list):
                holder["prompt_logprobs"] = _shifted(rows)
            logprobs: Any = holder.get("logprobs")
            for name in ("token_logprobs", "top_logprobs") if isinstance(logprobs, dict) else ():
                if isinstance(logprobs.get(name), list):
                    logprobs[name] = _shifted(logprobs[name])
            entries = _entries(holder)
            values = [{k: e[k] for k in ("logprob", "top_logprobs") if k in e} for e in entries]
            for entry, value in zip(entries, _shifted(values), strict=True):
                entry.update(value)
        return answer


class LogprobsZero(OfAnswers):
    """Every token is reported as certain: its log-prob is 0."""

    def choice(self, choice: Json, streamed: bool) -> None:
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("token_logprobs"), list):
            logprobs["token_logprobs"] = [
                None if x is None else 0.0 for x in logprobs["token_logprobs"]
            ]
            tops = logprobs.get("top_logprobs")
            if isinstance(tops, list):
                logprobs["top_logprobs"] = [row and dict.fromkeys(row, 0.0) for row in tops]
        for entry in _entries(choice):
            for one in (entry, *(entry.get("top_logprobs") or [])):
                one["logprob"] = 0.0


class Renamed(OfAnswers):
    """A control: another id, model, time and fingerprint, and other headers."""

    def changed(self, answer: Json, streamed: bool) -> Json:
        return {**answer, **{k: v for k, v in _RENAMED.items() if k in answer}}

    def headers(self, headers: Headers) -> Headers:
        kept = [(k, v) for k, v in headers if k.lower() not in ("server", "x-request-id")]
        return [*kept, ("Via", "1.1 gateway"), ("X-Gateway-Id", "1")]


class Regrouped(ProxyMutation):
    """A control: several events of a stream (``by``) travel in one piece."""

    rewrites = True
    strength = 3.0

    def stream(self, pieces: Iterable[bytes]) -> Iterable[bytes]:
        group = list[bytes]()
        try:
            for event in events_of(pieces):
                group.append(event.raw)
                if len(group) >= self.by or event.ends:
                    yield b"".join(group)
                    group = []
        except BrokenOff:
            yield b"".join(group)
            raise
        if group:
            yield b"".join(group)


class Pretty(ProxyMutation):
    """A control: JSON is written with line breaks, asked and answered; events stay on one line."""

    rewrites = True

    def request(self, asked: Json, body: Json, raw: bytes) -> bytes:
        return _pretty(asked)

    def answer(self, raw: bytes) -> bytes:
        body = object_of(raw)
        return raw if body is None else _pretty(body)


def decoded_in_pieces(raw: bytes, size: int) -> bytes:
    """Return bytes as one gets them who decodes every ``size`` of them alone."""
    pieces = (raw[i : i + size] for i in range(0, len(raw), size))
    return "".join(piece.decode("utf-8", "replace") for piece in pieces).encode()


def _without_text(held: list[Event]) -> Iterator[Event]:
    """Return the events after the last piece of text, and what else that piece carries."""
    for event in held:
        data = copy.deepcopy(event.data)
        texts = [c for c in choices_of(data or {}) if text_of(c)]
        if data is None or not texts:
            yield event
        elif any(c.get("finish_reason") for c in texts) or data.get("usage"):
            for choice in texts:
                set_text(choice, "")
            yield event.with_data(data)


def _calls(choice: Json) -> list[Json]:
    found = message_of(choice).get("tool_calls")
    return [c for c in found if isinstance(c, dict)] if isinstance(found, list) else []


def _entries(holder: Json) -> list[Json]:
    """Return a chat's log-probs, one entry for each token."""
    logprobs = holder.get("logprobs")
    found = logprobs.get("content") if isinstance(logprobs, dict) else None
    return [e for e in found if isinstance(e, dict)] if isinstance(found, list) else []


def _shifted(rows: list[Any]) -> list[Any]:
    return [*rows[:1], *rows[:-1]]


def _pretty(body: Json) -> bytes:
    return json.dumps(body, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass")
