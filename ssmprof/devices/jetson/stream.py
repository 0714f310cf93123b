"""The lines of a running `tegrastats`, the second source of a board's readings.

It block-buffers into a pipe, so it runs behind `stdbuf -oL`; it leads a process group of its own,
so that the whole chain ends with one signal; a thread stamps each line with the monotonic clock,
since its own time stamps have seconds only. A stream that falls silent gives None, never its last
value.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple, Protocol

from ssmprof.devices.tegrastats import TegrastatsSample, parse_line

INTERVAL_MS = 100
COMMAND = ("stdbuf", "-oL", "tegrastats", "--interval", str(INTERVAL_MS))
_FIRST_LINE_S = 2.0
_STALE_S = 2.0
_FAREWELL_S = 2.0


class Stamped(NamedTuple):
    """One line as values; `at_s` is the monotonic clock when it arrived."""

    at_s: float
    sample: TegrastatsSample


class Process(Protocol):
    """The part of a child process that a stream needs."""

    def lines(self) -> Iterator[str]: ...

    def end(self) -> None: ...


class Child:
    """A command in a process group of its own. Raises OSError where it cannot be started."""

    def __init__(self, command: tuple[str, ...] = COMMAND) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def lines(self) -> Iterator[str]:
        """Lines as they come; ends when the process does."""
        assert self._process.stdout is not None
        return iter(self._process.stdout)

    def end(self) -> None:
        """End the group, by force where it does not listen."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_FAREWELL_S)
                break


class TegrastatsStream:
    """Follows tegrastats on a thread. Close it, or use it as a context manager.

    `start` and `clock` are parameters for tests. Raises OSError where tegrastats is not there.
    """

    def __init__(
        self,
        start: Callable[[], Process] = Child,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._latest: Stamped | None = None
        self._first = threading.Event()
        self._process = start()
        self._thread = threading.Thread(target=self._follow, name="tegrastats", daemon=True)
        self._thread.start()

    def __enter__(self) -> TegrastatsStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _follow(self) -> None:
        with suppress(ValueError, OSError):  # the pipe is closed under the reader at the end
            for line in self._process.lines():
                if line.strip():
                    self._latest = Stamped(self._clock(), parse_line(line))
                    self._first.set()
        self._first.set()

    def latest(self) -> Stamped | None:
        """The newest line, None if there is none younger than two seconds; waits for the first."""
        self._first.wait(_FIRST_LINE_S)
        found = self._latest
        if found is None or self._clock() - found.at_s > _STALE_S:
            return None
        return found

    def close(self) -> None:
        """End tegrastats and its thread."""
        self._process.end()
        self._thread.join(_FAREWELL_S)
