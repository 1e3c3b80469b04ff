"""One engine child as a process group: started, read, limited in time, and always killed."""

import contextlib
import os
import queue
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from runner.engines.events import Event, event_of
from runner.engines.orders import ChildOrder, write_order
from runner.engines.protocol import ProtocolError, read_frame

CHILD = Path(__file__).parent / "engines"
#: Variables that may hold a secret, by name or by a value such as ``http://user:password@host``.
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|AUTH|CRED|(^|_)PAT($|_)", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"://[^/@\s]+:[^/@\s]+@")
#: Seconds that a child has to exit after it closed its end of the pipe.
_EXIT_GRACE_S = 10.0
_LAST_WORDS = 4096
_POLL_S = 0.1
_MEASURE_S = 0.5


class DeadlinePassed(Exception):
    """The child did not end before its deadline."""


#: Threads of OpenMP that wait must not spin: on a busy machine that takes several times longer.
_POLITE = {"OMP_WAIT_POLICY": "passive"}


class ChildProcess:
    """The engine child of one order. Leaving the context kills all processes of its group."""

    def __init__(
        self,
        python: str,
        deadline_s: float,
        secret: str | None = None,
        *,
        timed: bool = False,
    ) -> None:
        """``secret`` names a variable that the child must not have, whatever it is called.

        ``timed``: only its numbers count, so its threads wait as its libraries like it.
        """
        self._ends_at = time.monotonic() + deadline_s
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the context is left
        self.peak_memory = 0
        self._measured_at = 0.0
        self._memory_kills = _kernel_memory_kills()
        self._process = subprocess.Popen(
            [python, "-u", str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**({} if timed else _POLITE), **_environment(secret)},
            start_new_session=True,
        )
        self._events: queue.Queue[Event | ProtocolError | None] = queue.Queue(maxsize=256)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, order: ChildOrder) -> None:
        """Send the order. A child that has died already is noticed when its events are read."""
        threading.Thread(target=self._write, args=(order,), daemon=True).start()

    def events(self) -> Iterator[Event]:
        """Yield the child's events until it closes its end of the pipe.

        Raises:
            DeadlinePassed: its time is over.
            ProtocolError: it wrote something that is not a valid event.
        """
        idle_since_its_end = 0
        while True:
            self._measure()
            try:
                frame = self._events.get(timeout=_POLL_S)
            except queue.Empty:
                if time.monotonic() > self._ends_at:
                    raise DeadlinePassed from None
                # A worker that outlives the child may keep the pipe open.
                idle_since_its_end += self._process.poll() is not None
                if idle_since_its_end > 2:
                    return
                continue
            if frame is None:
                return
            if isinstance(frame, ProtocolError):
                raise frame
            yield frame
            if time.monotonic() > self._ends_at:
                raise DeadlinePassed

    @property
    def time_left_s(self) -> float:
        """Seconds until the deadline; 0 when it has passed."""
        return max(0.0, self._ends_at - time.monotonic())

    def exit_code(self) -> int | None:
        """Return its exit code, negative for a signal; None if it does not end."""
        try:
            return self._process.wait(_EXIT_GRACE_S)
        except subprocess.TimeoutExpired:
            return None

    def was_killed_for_memory(self) -> bool:
        """Whether the kernel killed any process for lack of memory since this one started."""
        return _kernel_memory_kills() > self._memory_kills

    def last_words(self, limit: int = _LAST_WORDS) -> str:
        """Return the end of what the child and its engine printed, ``limit`` bytes at most."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - limit))
        return self._log.read().decode("utf-8", "replace").strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The group outlives its leader when an engine leaves workers behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()
        # The reader waits while the queue is full: empty it, so that the thread and its events are
        # freed. If a worker that left the group keeps the pipe open, the reader is left waiting.
        with contextlib.suppress(queue.Empty):
            while self._reader.is_alive():
                self._events.get(timeout=2 * _POLL_S)

    def _read(self) -> None:
        stream = self._process.stdout
        if stream is None:
            raise RuntimeError("the child was started without a pipe")
        try:
            while (frame := read_frame(stream)) is not None:
                self._events.put(event_of(*frame))
            self._events.put(None)
        except ProtocolError as error:
            self._events.put(error)
        except (OSError, ValueError):
            # The pipe was closed on our side.
            self._events.put(None)

    def _write(self, order: ChildOrder) -> None:
        stream = self._process.stdin
        if stream is None:
            raise RuntimeError("the child was started without a pipe")
        try:
            write_order(stream, order)
            stream.close()
        except OSError:
            pass  # The child has died; its exit code says how.

    def _measure(self) -> None:
        # It reads every process of the machine: too slow for every event.
        if time.monotonic() - self._measured_at < _MEASURE_S:
            return
        self._measured_at = time.monotonic()
        try:
            leader = psutil.Process(self._process.pid)
            group = [leader, *leader.children(recursive=True)]
            used = sum(p.memory_info().rss for p in group)
        except psutil.Error:
            return
        self.peak_memory = max(self.peak_memory, used)


def _kernel_memory_kills() -> int:
    """Return how many processes the kernel killed for lack of memory since boot; 0 if unknown."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _environment(secret: str | None) -> dict[str, str]:
    """Return the child's environment: offline, free of our import path and of secrets."""
    value_of_secret = os.environ.get(secret or "")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONPATH"
        and not _SECRET_NAME.search(name)
        and not _SECRET_VALUE.search(value)
        and not (value_of_secret and value_of_secret in value)
    }
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    return {**kept, **offline, "TOKENIZERS_PARALLELISM": "false", "PYTHONDONTWRITEBYTECODE": "1"}
