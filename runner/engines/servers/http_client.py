"""A small HTTP client for JSON and event streams: bounded in time and size, patient only so far.

What a server answers about one request (most of status 4xx) is that request's own error. What shows
that the server itself fails (no connection, 5xx, no JSON, another shape, a stream that breaks off)
is tried again with growing pauses where nothing had come yet. Several such failures in a row at one
endpoint end the attempt, and so does one request that has no end in its time.
"""

import http.client
import json
import ssl
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from runner.engines.base import EngineGone
from runner.engines.redaction import Redaction
from runner.engines.servers.answer_shapes import Misshapen, check_answer
from runner.engines.servers.http_call import HttpCall
from runner.engines.servers.server_errors import Refused, ServerFailure
from runner.engines.servers.untrusted_json import parsed

#: Failures in a row at one endpoint after which a server is not asked again.
_PATIENCE = 3
#: The same where it answered with a status 5xx and had worked before: some answer so to requests
#: that they cannot serve.
_PATIENCE_WITH_ERRORS = 10
#: Pauses between tries of one request, and the longest that a server may ask for.
_PAUSES_S = (0.2, 0.6)
_LONGEST_PAUSE_S = 5.0
_MOST_CHARACTERS = 300
_JSON_HEADER = {"Content-Type": "application/json"}
#: Refusals that mean the whole endpoint, not this request.
_SHUT = (401, 403, 404, 405)

Endpoint = tuple[str, bool]
"""A path, and whether its answer is streamed."""


class _Again(Exception):
    """Nothing had come yet, so the request may be sent again after a pause."""

    def __init__(self, why: str, status: int | None = None, pause_s: float | None = None) -> None:
        super().__init__(why)
        self.status, self.pause_s = status, pause_s


class Client:
    """Talks to one server; ``timeout_s`` limits each request as a whole.

    ``ended`` says how a server of our own has ended, and nothing while it runs. Redirects are not
    followed: the key is for one server only.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        ended: Callable[[], str | None] = lambda: None,
    ) -> None:
        parts = urllib.parse.urlsplit(base_url)
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Accept": "application/json, text/event-stream"}
        if api_key:
            if not (api_key.isascii() and api_key.isprintable() and api_key == api_key.strip()):
                raise EngineGone(
                    "the API key holds a line break or another sign no header may hold"
                )
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._redaction = Redaction(api_key)
        self.base_url, self._timeout_s, self._ended = base_url, timeout_s, ended
        self._failures, self._worked = Counter[Endpoint](), set[Endpoint]()

    def get(self, path: str) -> Any:
        """Return the JSON of a GET request.

        Args:
            path: beneath the base URL; with a leading ``/`` beneath the server's root.

        Raises:
            Refused, ServerFailure: this request has no answer.
            EngineGone: the server is not asked again.
        """
        return self._json("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Return the JSON of a POST request; raises as ``get`` does.

        An answer of ``chat/completions`` or ``completions`` has OpenAI's shape.
        """
        return self._json("POST", path, body)

    def send(self, path: str, body: dict[str, Any]) -> None:
        """Make a POST request whose answer says nothing; raises as ``get`` does."""
        with self._judged((path, False)), self._opened("POST", path, body) as call:
            call.rest()

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[tuple[float, dict[str, Any]]]:
        """Yield the events of a streamed answer, each with the second at which it came.

        Raises:
            Refused, ServerFailure: the answer is missing or not whole.
            EngineGone: the server is not asked again.
        """
        with self._judged((path, True)):
            started = time.monotonic()
            with self._opened("POST", path, body) as call:
                for event in self._events(call):
                    yield time.monotonic() - started, event

    def _json(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        with self._judged((path, False)):
            with self._opened(method, path, body) as call:
                data = call.rest()
            try:
                answer = parsed(data, self._redaction)
            except (ValueError, RecursionError) as error:
                why = f"no JSON came from {path} ({self._named(error)}): {self._shown(data)}"
                raise ServerFailure(why) from None
            if _is_openai(path) and body is not None:
                self._check(answer, data, streamed=False)
            return answer

    @contextmanager
    def _judged(self, endpoint: Endpoint) -> Iterator[None]:
        """Count failures in a row, and end the attempt where there are too many."""
        try:
            yield
        except TimeoutError as error:
            # Each further one would cost as much time again.
            why = f"{self._host}: {endpoint[0]} had no end within {self._timeout_s:g} s"
            raise EngineGone(why) from error
        except (ServerFailure, Refused) as failure:
            if how := self._ended():
                raise EngineGone(f"{how}; its log says why") from failure
            # Only beneath the base URL is it known that an endpoint must be there.
            shut = failure.status in _SHUT and not endpoint[0].startswith("/")
            if isinstance(failure, Refused) and not (shut and endpoint not in self._worked):
                raise
            self._failures[endpoint] += 1
            lenient = failure.status is not None and endpoint in self._worked
            if self._failures[endpoint] >= (_PATIENCE_WITH_ERRORS if lenient else _PATIENCE):
                times = f"{self._failures[endpoint]} times in a row at {endpoint[0]}"
                hint = "; is `api_key_env:` right, and its key?" if failure.status == 401 else ""
                raise EngineGone(f"{self._host} failed {times}: {failure}{hint}") from failure
            raise
        else:
            self._failures.pop(endpoint, None)
            self._worked.add(endpoint)

    @contextmanager
    def _opened(self, method: str, path: str, body: dict[str, Any] | None) -> Iterator[HttpCall]:
        """Send a request until it is answered, refused, or has failed once too often."""
        call = self._answered(method, path, body, time.monotonic() + self._timeout_s)
        try:
            yield call
        except (OSError, http.client.HTTPException, ValueError) as error:
            call.check_time(error)
            raise ServerFailure(f"the answer broke off: {self._named(error)}") from error
        finally:
            call.close()

    def _answered(
        self, method: str, path: str, body: dict[str, Any] | None, ends: float
    ) -> HttpCall:
        for pause in (*_PAUSES_S, None):
            call = HttpCall(self._connection(ends - time.monotonic()), ends)
            try:
                self._asked(call, method, path, body)
                return call
            except _Again as again:
                call.close()
                if pause is None:
                    raise ServerFailure(str(again), again.status) from again
                wanted = pause if again.pause_s is None else again.pause_s
                time.sleep(max(0.0, min(wanted, _LONGEST_PAUSE_S, ends - time.monotonic())))
            except BaseException:
                call.close()
                raise
        raise AssertionError("unreachable")

    def _asked(self, call: HttpCall, method: str, path: str, body: dict[str, Any] | None) -> None:
        target = path if path.startswith("/") else f"{self._prefix}/{path}"
        data = None if body is None else json.dumps(body).encode("utf-8", "surrogatepass")
        headers = {**self._headers, **({} if data is None else _JSON_HEADER)}
        try:
            status, location, pause = call.ask(method, target, data, headers)
            if status < 300:
                return
            text = call.rest()
        except ssl.SSLCertVerificationError as error:
            raise EngineGone(f"{self._host}: its certificate is not trusted: {error}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            call.check_time(error)
            raise _Again(f"no answer: {self._named(error)}") from error
        if status < 400:
            where = self._shown(location.encode("latin-1", "replace"))
            raise ServerFailure(f"HTTP {status} leads to {where}, which is not followed")
        if status < 500 and status not in (408, 429):
            raise Refused(status, self._message(text))
        raise _Again(f"HTTP {status}: {self._message(text)}", status, pause)

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        if timeout_s <= 0:
            raise TimeoutError
        if self._secure:
            trusted = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout_s, context=trusted
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)

    def _events(self, call: HttpCall) -> Iterator[dict[str, Any]]:
        finished = False
        for line in call.lines():
            field, _, data = line.strip().partition(b":")
            if field != b"data":
                continue  # a comment that keeps the connection open, a name, or an empty line
            if data.strip() == b"[DONE]":
                return
            try:
                event = parsed(data, self._redaction)
            except (ValueError, RecursionError):
                raise ServerFailure(f"no JSON in the stream: {self._shown(data)}") from None
            if isinstance(event, dict) and event.get("error"):
                raise ServerFailure(f"an error in the stream: {self._message(data)}")
            self._check(event, data, streamed=True)
            finished |= any(c.get("finish_reason") for c in event.get("choices") or ())
            yield event
        if not finished:
            raise ServerFailure("the stream was closed before its end")

    def _check(self, answer: Any, data: bytes, *, streamed: bool) -> None:
        try:
            check_answer(answer, streamed=streamed)
        except Misshapen as error:
            what = "the stream" if streamed else "the answer"
            raise ServerFailure(f"{error} in {what}: {self._shown(data)}") from None

    def _message(self, text: bytes) -> str:
        """Return what an error says, in OpenAI's form or any other."""
        try:
            found = parsed(text, self._redaction)
        except (ValueError, RecursionError):
            return self._shown(text)
        for key in ("error", "message", "detail"):
            if isinstance(found, dict) and key in found:
                found = found[key]
        return self._shown(str(found).encode("utf-8", "replace"))

    def _shown(self, data: bytes) -> str:
        """Return the beginning of what came, in one line; the key is taken out before it is cut."""
        text = self._redaction.raw(data).decode("utf-8", "replace")
        return " ".join(text[: 4 * _MOST_CHARACTERS].split())[:_MOST_CHARACTERS] or "nothing"

    def _named(self, error: BaseException) -> str:
        text = self._redaction.text(f"{type(error).__name__}: {error}").rstrip(": ")
        return " ".join(text.split())[:_MOST_CHARACTERS]


def _is_openai(path: str) -> bool:
    return path in ("chat/completions", "completions")
