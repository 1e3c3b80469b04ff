"""One process that serves many renderings; a template that does not end is stopped."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from suites.errors import UserError

_PROGRAM = Path(__file__).with_name("program.py")
#: Seconds of wall time of one rendering. The program limits its processor time itself; this is for
#: a template that does not let go of the processor at all.
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Rendered:
    """A prompt."""

    text: str


@dataclass(frozen=True)
class Refused:
    """A template that ended with an error of its own: it does not take this conversation."""

    reason: str
    """The message, after the name of Python's exception if it is none of a template."""
    raised: bool = False
    """Whether it is the template's own message to the user (``raise_exception``)."""


class Renderer:
    """Renders templates in a process of its own, which starts with the first request."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> "Renderer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def render(self, source: str, variables: dict[str, Any]) -> Rendered | Refused:
        """Return the prompt that the template ``source`` makes of ``variables``, or its refusal.

        Raises:
            UserError: it reached a limit of time, memory or length.
        """
        answer = self._asked({"source": source, "variables": variables})
        if "refused" in answer:
            return Refused(str(answer["refused"]), bool(answer["raised"]))
        return Rendered(str(answer["text"]))

    def variables(self, source: str) -> frozenset[str]:
        """Return the names that a template reads and does not set; empty if it is not Jinja.

        Raises:
            UserError: it reached a limit.
        """
        return frozenset(self._asked({"source": source}).get("names", ()))

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def _asked(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._process or self._started()
        if process.stdin is None:
            raise ValueError("the process was started with a pipe")
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = self._answers.get(timeout=_PATIENCE_S)
        except (OSError, queue.Empty):
            line = ""
        if not line:
            gone = process.poll() is not None
            self.close()
            raise _over("ended its process" if gone else f"did not end within {_PATIENCE_S:.0f} s")
        answer: dict[str, Any] = json.loads(line)
        if "exceeded" in answer:
            # Its memory may be fragmented, or a half-compiled template may be left.
            self.close()
            raise _over(str(answer["exceeded"]))
        return answer

    def _started(self) -> subprocess.Popen[str]:
        path = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
        # -P keeps the program's own folder out of sys.path: its files would hide others.
        process = subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**path, "PYTHONUTF8": "1"},
            encoding="utf-8",
        )
        self._process, self._answers = process, queue.Queue()
        threading.Thread(target=_collect, args=(process, self._answers), daemon=True).start()
        return process


def _collect(process: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
    """Put each line of the process into ``answers``, and an empty one at its end."""
    with contextlib.suppress(OSError, ValueError):
        if process.stdout is not None:
            for line in process.stdout:
                answers.put(line)
    answers.put("")


def _over(what: str) -> UserError:
    return UserError(
        f"the chat template {what}", fix="check the template; a prompt takes milliseconds"
    )
