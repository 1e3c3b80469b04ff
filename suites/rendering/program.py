"""The process that renders: requests in, prompts out, one JSON object per line.

A chat template is a program written by a stranger. This file runs as a process of its own, with no
secrets in its environment and with limits of memory, processor time and output. It imports jinja2
and the standard library only.

A request is ``{"source": …, "variables": {…}}``. An answer is ``{"text": …}``; ``{"refused": …}``
where the template itself ends with an error, ``raised`` if it did so with ``raise_exception``; or
``{"exceeded": …}`` where it reached a limit.
``{"source": …}`` alone asks for ``{"names": […]}``, the variables that the template reads.
"""

import contextlib
import datetime
import functools
import json
import resource
import signal
import sys
from typing import Any

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_MEMORY_BYTES = 1 << 30
#: Characters of one prompt.
_LONGEST = 4 << 20
#: Seconds of processor time of one rendering.
_SECONDS = 5.0
#: The time that every template gets: that of the engines' frozen clock.
_FROZEN_AT = datetime.datetime(2025, 1, 2, 3, 4, 5)


class _Exceeded(BaseException):
    """A limit was reached. Templates catch no exception, and jinja2 only those of ``Exception``."""


class _Raised(jinja2.exceptions.TemplateError):
    """The template called ``raise_exception``."""


class _Generation(jinja2.ext.Extension):
    """``{% generation %}`` marks what the model itself wrote; it changes nothing in the prompt."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 declares it so

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        # A call block has a scope of its own, as in transformers: what is set inside stays inside.
        call = self.call_method("_unchanged")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _unchanged(self, caller: Any) -> Any:
        return caller()


def _raise_exception(message: str) -> None:
    raise _Raised(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = _tojson
    made.globals["raise_exception"] = _raise_exception
    made.globals["strftime_now"] = _FROZEN_AT.strftime
    return made


@functools.lru_cache(maxsize=64)
def _compiled(source: str) -> jinja2.Template:
    return _environment().from_string(source)


def _rendered(source: str, variables: dict[str, Any]) -> str:
    pieces, length = [], 0
    for piece in _compiled(source).generate(**variables):
        length += len(piece)
        if length > _LONGEST:
            raise _Exceeded(f"made a prompt of more than {_LONGEST} characters")
        pieces.append(piece)
    return "".join(pieces)


def _names(source: str) -> list[str]:
    found = jinja2.meta.find_undeclared_variables(_environment().parse(source))
    return sorted(found)


def _too_slow(_signal: int, _frame: Any) -> None:
    raise _Exceeded(f"did not end within {_SECONDS:.0f} s of processor time")


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    try:
        if "variables" not in request:
            return {"names": _names(request["source"])}
        return {"text": _rendered(request["source"], request["variables"])}
    except (_Exceeded, MemoryError) as error:
        return {"exceeded": str(error) or "needed too much memory"}
    except Exception as error:  # templates fail in every way that Python code fails
        kind = "" if isinstance(error, jinja2.exceptions.TemplateError) else type(error).__name__
        raised = isinstance(error, _Raised)
        return {"refused": ": ".join(filter(None, (kind, str(error)))), "raised": raised}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    # macOS knows no limit of a process's memory: there the other limits must do.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (most, most))


def main() -> None:
    """Answer requests until the input ends."""
    _limit(resource.RLIMIT_AS, _MEMORY_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    signal.signal(signal.SIGPROF, _too_slow)
    for line in sys.stdin:
        try:
            written = json.dumps(_answer(json.loads(line)))
        except (_Exceeded, MemoryError) as error:
            written = json.dumps({"exceeded": str(error) or "needed too much memory"})
        sys.stdout.write(written + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
