"""One driver for each run: two would run its cells twice and overwrite each other's plan."""

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
    """Hold the run's lock while the context lasts; a driver that dies releases it.

    On an object store and on a file system without locks, nothing is held.

    Raises:
        UserError: another process runs it.
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
                    f"process {file.read().strip() or 'unknown'} is running {run_id!r}",
                    where=store.root,
                    fix="wait until it ends, or stop it; then use --resume",
                ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
