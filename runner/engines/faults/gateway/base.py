"""What a fault-injecting proxy may change in the traffic of one server: the frame of all mutations.

A mutation touches only JSON objects that go to an endpoint which it names; everything else, and
every answer that reports an error, passes as it came. Requests that only render messages
(``/tokenize`` with messages, ``/apply-template``, ``…/render``) go through the same part of a
proxy as chats do, so that what harms the prompt of a chat harms them too.
"""

import copy
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

Json = dict[str, Any]
Headers = list[tuple[str, str]]

CHAT, COMPLETION, RENDERING = "chat", "completion", "rendering"
_BORDER = re.compile(rb"\r\n\r\n|\n\n|\r\r")


class BrokenOff(Exception):
    """The server ended its answer before it was whole."""


@dataclass(frozen=True)
class ProxyMutationOptions:
    """How a mutation is to act; what is left out is its own choice."""

    by: float | None = None
    seed: int = 0
    second: str | None = None
    """Base URL of another server, or the name of another model of the same."""


@dataclass(frozen=True)
class Event:
    """One event of a stream, with the blank line that ends it."""

    raw: bytes
    data: Json | None
    """None where it is no JSON object: the end mark, a comment."""

    @classmethod
    def of(cls, raw: bytes) -> "Event":
        """Read an event; what cannot be read stays as it is."""
        lines = (line.partition(b":") for line in raw.splitlines())
        return cls(raw, object_of(b"\n".join(x.strip() for name, _, x in lines if name == b"data")))

    @property
    def ends(self) -> bool:
        """Whether this is the mark after which nothing comes."""
        return self.data is None and b"[DONE]" in self.raw

    def with_data(self, data: Json, *, ascii_only: bool = True) -> "Event":
        """Return the event with other data; its name and its border stay."""
        if data == self.data and ascii_only:
            return self
        found = _BORDER.search(self.raw)
        border = found.group() if found else b"\n\n"
        others = [x for x in self.raw.splitlines() if x and not x.startswith(b"data")]
        text = json.dumps(data, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        line_end = border[: len(border) // 2]
        return Event(line_end.join([*others, b"data: " + text]) + border, data)


class ProxyMutation:
    """One fault of a proxy; this one has none and passes everything on unchanged."""

    endpoints: ClassVar[frozenset[str]] = frozenset({CHAT, COMPLETION})
    """Kinds of endpoint that the harmed part of the proxy serves."""
    strength: ClassVar[float] = 1.0
    """``by`` where none is given."""
    rewrites: ClassVar[bool] = False
    """Whether answers may be changed: only then are they read as a whole."""

    def __init__(self, options: ProxyMutationOptions) -> None:
        self.options = options
        self.by = self.strength if options.by is None else options.by

    def asked(self, kind: str, body: Json) -> Json:
        """Return what the server is asked instead; ``body`` is the mutation's own copy."""
        return body

    def route(self, kind: str, body: Json) -> tuple[Json, str | None]:
        """Return what is asked, and the base URL of another server where that one is asked."""
        return self.asked(kind, copy.deepcopy(body)), None

    def key(self, kind: str, body: Json) -> str | None:
        """Return under which key the answer is kept for later requests; None where it is not."""
        return None

    def request(self, asked: Json, body: Json, raw: bytes) -> bytes:
        """Return the bytes that are sent for ``asked``, where ``body`` came as ``raw``."""
        return raw if asked == body else json.dumps(asked).encode()

    def answer(self, raw: bytes) -> bytes:
        """Return the answer to a request that was not streamed."""
        return raw

    def stream(self, pieces: Iterable[bytes]) -> Iterable[bytes]:
        """Return a streamed answer; each piece is sent on as soon as it is there."""
        return pieces

    def headers(self, headers: Headers) -> Headers:
        """Return the headers of an answer."""
        return headers


class OfAnswers(ProxyMutation):
    """A mutation of what the server answers, streamed or not."""

    rewrites = True

    def changed(self, answer: Json, streamed: bool) -> Json:
        """Return an answer, or the data of one event, changed; it is the mutation's own copy."""
        for choice in choices_of(answer):
            self.choice(choice, streamed)
        return answer

    def choice(self, choice: Json, streamed: bool) -> None:
        """Change one choice where it is."""

    def events(self, events: Iterator[Event]) -> Iterator[Event]:
        """Return the events of a stream."""
        for event in events:
            if event.data is None:
                yield event
            else:
                yield event.with_data(self.changed(copy.deepcopy(event.data), True))

    def answer(self, raw: bytes) -> bytes:
        body = object_of(raw)
        if body is None:
            return raw
        changed = self.changed(copy.deepcopy(body), False)
        return raw if changed == body else json.dumps(changed).encode()

    def stream(self, pieces: Iterable[bytes]) -> Iterable[bytes]:
        return (event.raw for event in self.events(events_of(pieces)))


class Draws:
    """Which requests are hit: a share of them, by their content and how often it came before.

    So the same requests are hit in every run, in whatever order they arrive. The model's name does
    not count: it may hold a path of the machine.
    """

    def __init__(self, share: float, seed: int) -> None:
        self._share, self._seed = share, seed
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def hits(self, kind: str, body: Json) -> bool:
        """Say whether this request is hit; each repetition of it draws again."""
        said = json.dumps([kind, {k: v for k, v in body.items() if k != "model"}], sort_keys=True)
        with self._lock:
            self._seen[said] += 1
            text = f"{self._seed}:{self._seen[said]}:{said}"
        drawn = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(drawn[:8], "big") / 2**64 < self._share


def endpoint_of(path: str, body: Json) -> str | None:
    """Return what a path does with a request: chat, completion, rendering; None for all else."""
    name = path.partition("?")[0].rstrip("/")
    if name.endswith(("/render", "/apply-template", "/tokenize")):
        return RENDERING if "messages" in body else None
    if name.endswith("/chat/completions"):
        return CHAT
    return COMPLETION if name.endswith(("/completions", "/completion")) else None


def events_of(pieces: Iterable[bytes]) -> Iterator[Event]:
    """Cut a stream into its events, each as soon as it is whole; a rest without border comes last.

    Raises:
        BrokenOff: what ``pieces`` raised, after the rest was handed out.
    """
    waiting, source, broken = b"", iter(pieces), None
    while True:
        try:
            waiting += next(source)
        except StopIteration:
            break
        except BrokenOff as error:
            broken = error
            break
        while border := _BORDER.search(waiting):
            yield Event.of(waiting[: border.end()])
            waiting = waiting[border.end() :]
    if waiting:
        yield Event(waiting, None)
    if broken is not None:
        raise broken


def object_of(raw: bytes) -> Json | None:
    """Return bytes as a JSON object; None where they are none."""
    try:
        found = json.loads(raw)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def choices_of(answer: Json) -> list[Json]:
    """Return the choices of an answer or an event."""
    found = answer.get("choices")
    return [c for c in found if isinstance(c, dict)] if isinstance(found, list) else []


def message_of(choice: Json) -> Json:
    """Return the message of a choice, or the piece of one that an event brings."""
    found = choice.get("message") or choice.get("delta")
    return found if isinstance(found, dict) else {}


def text_of(choice: Json) -> str:
    """Return the text that the user reads; of an event, its piece."""
    found = choice.get("text") if "text" in choice else message_of(choice).get("content")
    return found if isinstance(found, str) else ""


def set_text(choice: Json, text: str) -> None:
    """Put another text where ``text_of`` found one."""
    if "text" in choice:
        choice["text"] = text
    else:
        message_of(choice)["content"] = text
