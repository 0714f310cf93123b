"""A measured process as its parent sees it: ask with a deadline, notice every way of dying.

The parent sleeps in `select` while a worker measures. A worker that dies, hangs, answers rubbish
or is condemned by a watch raises `LostError`, which says what a Failure needs to say; its group
is dead by then.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from ssmprof.devices.jetson.memory import out_of_memory_rule
from ssmprof.measure import wire
from ssmprof.measure.autopsy import last_line, last_words, oom_kills, stack_of
from ssmprof.records import FailureReason, Measurement

if TYPE_CHECKING:
    from ssmprof.measure.pool import Pool

FAREWELL_S = 3.0  # a worker told to end frees its device memory and goes
_LONGEST_LINE = 64 * 2**20  # an answer is a few kilobytes; more is not an answer


class LostError(Exception):
    """A worker that gave no answer, and why."""

    def __init__(self, reason: FailureReason, detail: str) -> None:
        super().__init__(detail)
        self.reason: FailureReason = reason
        self.detail = detail


class Watch(Protocol):
    """Looks at the host every `period_s` while a worker runs; text condemns the worker."""

    period_s: float

    def __call__(self, pid: int) -> str | None: ...


class Worker:
    """One measured process, asked one thing at a time."""

    def __init__(self, pool: Pool, requests: int, answers: int, output: Path) -> None:
        self.pool = pool
        self.pid = 0
        self.output = output
        self.stage = "start"
        self.busy = False
        self.kept: Measurement | None = None
        self._requests = requests
        self._answers = answers
        self._buffer = bytearray()
        self._oom_kills = oom_kills()

    def ask(self, message: wire.Request, timeout_s: float) -> wire.Reply:
        """Send a request and wait for its answer. Raises LostError."""
        self.busy, self.kept = True, None
        with suppress(BrokenPipeError):  # dead already: its exit says why
            os.write(self._requests, wire.line(message))
        answer = self.hear(timeout_s)
        self.busy = False
        return answer

    def hear(self, timeout_s: float) -> wire.Reply:
        """The next answer proper; stages and what is kept are noted.

        Raises LostError, the process group then dead.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            data = self._line(deadline, timeout_s)
            try:
                reply = wire.reply(data)
            except msgspec.DecodeError:
                self.kill()
                text = data[:60].decode(errors="replace").strip()
                raise LostError("crash", self._tell(f"answered rubbish: {text!r}")) from None
            if isinstance(reply, wire.Doing):
                self.stage = reply.stage
            elif isinstance(reply, wire.Kept):
                self.kept = reply.measurement
            else:
                return reply

    def _line(self, deadline: float, timeout_s: float) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            selector.register(self.pool.control, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if len(self._buffer) > _LONGEST_LINE:
                    self.kill()
                    raise LostError("crash", self._tell("answered rubbish without an end"))
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self._overdue(timeout_s)
                watch = self.pool.watch
                ready = selector.select(min(left, watch.period_s) if watch else left)
                if any(key.fileobj == self._answers for key, _ in ready):
                    self._read()
                elif ready:
                    self._note_exit()
                elif watch and (verdict := watch(self.pid)):
                    self.kill()
                    raise LostError("out-of-memory", self._tell(verdict))
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return line

    def _read(self) -> None:
        data = os.read(self._answers, 2**16)
        if not data:
            self._await_exit()
            raise self._death()
        self._buffer += data

    def _note_exit(self) -> None:
        try:
            self.pool.hear()
        except OSError as error:
            raise LostError("crash", self._tell(f"the launcher died: {error}")) from error
        if self.pid in self.pool.exits:
            os.set_blocking(self._answers, False)
            with suppress(BlockingIOError):  # what it said before it died still counts
                while data := os.read(self._answers, 2**16):
                    self._buffer += data
            if b"\n" not in self._buffer:
                raise self._death()

    def _await_exit(self) -> None:
        """Wait for the exit of a worker that closed its pipe; one that lingers is killed."""
        self.pool.control.settimeout(FAREWELL_S)
        patience = 6  # a process stuck inside a driver cannot be killed at once, or at all
        with suppress(OSError):  # where the launcher is gone, its workers are too
            while self.pid not in self.pool.exits and patience:
                if not self._hears():
                    self.pool.kill(self.pid)
                    patience -= 1
        self.pool.control.settimeout(None)
        self.pool.exits.setdefault(self.pid, -signal.SIGKILL)

    def _hears(self) -> bool:
        try:
            self.pool.hear()
        except TimeoutError:
            return False
        return True

    def _death(self) -> LostError:
        status = self.pool.exits.get(self.pid, 0)
        if status >= 0:
            return self._ended(f"ended with exit status {status}")
        name = signal.Signals(-status).name
        before, after = self._oom_kills, oom_kills()
        if name == "SIGKILL" and before is not None and after is not None and after > before:
            text = "killed by the host, which had run out of memory (oom_kill rose)"
            return LostError("out-of-memory", self._tell(text))
        return self._ended(f"killed by {name}")

    def _ended(self, text: str) -> LostError:
        """A death whose cause is in what the process said last, if anywhere."""
        rule = out_of_memory_rule(last_words(self.output))
        if rule is None:
            return LostError("crash", self._tell(text))
        return LostError("out-of-memory", self._tell(f"{text}, out of memory ({rule})"))

    def _overdue(self, timeout_s: float) -> LostError:
        stack = stack_of(self.pid)
        self.kill()
        text = f"no answer within {timeout_s:g} s"
        return LostError("timeout", self._tell(text + (f", at {stack}" if stack else "")))

    def _tell(self, text: str) -> str:
        said = last_line(self.output)
        return f"{text}; in pass {self.stage}" + (f"; last output: {said}" if said else "")

    def kill(self) -> None:
        """Kill the process group and wait until it is gone."""
        self.pool.kill(self.pid)
        self._await_exit()

    def end(self) -> None:
        """Let the worker end by itself, kill it where it does not, close the pipes."""
        with suppress(OSError):
            os.close(self._requests)
        if self.busy:
            self.pool.kill(self.pid)  # nobody waits for its answer any more
        if self.pid not in self.pool.exits:
            self._await_exit()
        with suppress(OSError):
            os.close(self._answers)
