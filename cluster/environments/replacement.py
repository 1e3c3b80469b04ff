"""Replace an environment: the old one comes back unless the new one is complete."""

import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from cluster.environments.record import is_unfinished, read_record


def _aside(folder: Path) -> Path:
    """Return where an environment is kept while it is replaced."""
    return folder.with_name(f".{folder.name}.replaced")


def restore_interrupted(folder: Path) -> None:
    """Remove what an interrupted installation left, and move back what it wanted to replace."""
    if is_unfinished(folder):
        shutil.rmtree(folder)
    if not _aside(folder).exists():
        return
    if read_record(folder) is not None:
        shutil.rmtree(_aside(folder))
    else:
        shutil.rmtree(folder, ignore_errors=True)
        _aside(folder).rename(folder)


@contextmanager
def replacing(folder: Path) -> Iterator[None]:
    """Keep the old environment until the new one is complete; move it back if that fails.

    The old one is moved, not the new one: an environment works only in the folder in which it was
    created.
    """
    if folder.exists():
        folder.rename(_aside(folder))
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if _aside(folder).exists():
            _aside(folder).rename(folder)
        raise
    shutil.rmtree(_aside(folder), ignore_errors=True)


@contextmanager
def ended_by_signal() -> Iterator[None]:
    """Let SIGTERM end an installation like Ctrl-C, so that nothing is left behind."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
