"""How an attempt ended, and what the exit code of an engine child says about it."""

import signal
from typing import Literal

from runner.process import ChildProcess
from suites.suite import Frozen

_LONGEST = 500


class Ending(Frozen):
    """How an attempt ended, as stored in ``attempts``."""

    status: Literal["ok", "error", "crashed", "timeout", "oom", "lost"]
    error: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    peak_memory: int | None = None
    """Bytes."""


def error_ending(text: str) -> Ending:
    """Return an ending with an error of limited length."""
    return Ending(status="error", error=text[:_LONGEST])


def ending_of_exit(child: ChildProcess, stage: str | None) -> Ending:
    """Return the ending of a child that has closed its pipe and reported no failure.

    Args:
        child: waited for until it exits, or a few seconds.
        stage: the stage that it worked on.
    """
    code = child.exit_code()
    if code is None:
        return error_ending("the engine child closed its pipe but did not exit")
    if code == -signal.SIGKILL and child.was_killed_for_memory():
        text = "the kernel killed the engine child for lack of memory"
        return Ending(status="oom", error=text, exit_code=code, signal="SIGKILL")
    if code < 0:
        name = signal.Signals(-code).name
        text = f"the engine child died of {name}{f' during {stage}' if stage else ''}"
        return Ending(status="crashed", error=text, exit_code=code, signal=name)
    if code:
        printed = child.last_words().splitlines()
        last = printed[-1] if printed else "it printed nothing"
        text = f"the engine child exited with {code}: {last}"[:_LONGEST]
        return Ending(status="crashed", error=text, exit_code=code)
    return error_ending("the engine child ended before it served this cell")
