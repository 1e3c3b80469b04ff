"""One driver per run: two of them would run its cells twice and write each other's plan."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.stored.store import Store
from suites.errors import UserError

_LOCK = "driver.lock"
_TAKEN = (errno.EAGAIN, errno.EACCES)


@contextmanager
def exclusive_run(store: Store, run_id: str) -> Iterator[None]:
    """Hold a run on this machine while the context lasts; a driver that dies lets go of it.

    An object store and a file system without locks have nothing to hold.

    Raises:
        UserError: another process is running it.
    """
    if not store.local or os.name == "nt":
        yield
        return
    import fcntl

    lock = Path(store.path(f"runs/{run_id}/{_LOCK}"))
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _TAKEN:
                file.seek(0)
                raise UserError(
                    f"run {run_id!r} is being run by process {file.read().strip() or 'unknown'}",
                    where=store.root,
                    fix="wait for it, or end it; then resume",
                ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
