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
from typing import Protocol

import msgspec

from ssmprof.devices.jetson.memory import out_of_memory_rule
from ssmprof.measure.workers import wire
from ssmprof.measure.workers.autopsy import last_line, last_words, oom_kills, stack_of
from ssmprof.measure.workers.control import Control
from ssmprof.records import FailureReason, Measurement

FAREWELL_S = 3.0  # a worker told to end frees its device memory and goes
_PATIENCE = 3  # farewells; a process inside a driver cannot be killed at once, or at all
_LONGEST_LINE = 64 * 2**20  # an answer is a few kilobytes; more is not an answer


class LostError(Exception):
    """A worker that gave no answer, and why; `transient` where it was ended from outside."""

    def __init__(self, reason: FailureReason, detail: str, *, transient: bool = False) -> None:
        super().__init__(detail)
        self.reason: FailureReason = reason
        self.detail = detail
        self.transient = transient


class Watch(Protocol):
    """Looks at the host every `period_s` while a worker runs; text condemns the worker."""

    period_s: float

    def __call__(self, pid: int) -> str | None: ...


class Worker:
    """One measured process, asked one thing at a time."""

    def __init__(
        self, control: Control, pid: int, pipes: tuple[int, int], output: Path, watch: Watch | None
    ) -> None:
        """`pipes` are the ends of this process: requests out, answers in."""
        self.control = control
        self.pid = pid
        self.output = output
        self.stage = "start"
        self.busy = False
        self.kept: Measurement | None = None
        self._watch = watch
        self._requests, self._answers = pipes
        self._buffer = bytearray()
        self._oom_kills = oom_kills()
        os.set_blocking(self._requests, False)

    def ask(self, message: wire.Request, timeout_s: float) -> wire.Reply:
        """Send a request and wait for its answer. Raises LostError."""
        self.busy, self.kept = True, None
        deadline = time.monotonic() + timeout_s
        with suppress(BrokenPipeError):  # dead already: its exit says why
            self._send(wire.line(message), deadline, timeout_s)
        answer = self._reply(deadline, timeout_s)
        self.busy = False
        return answer

    def _send(self, data: bytes, deadline: float, timeout_s: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._requests, selectors.EVENT_WRITE)
            while data:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise self._overdue(timeout_s)
                data = data[os.write(self._requests, data) :]

    def hear(self, timeout_s: float) -> wire.Reply:
        """The next answer proper; stages and what is kept are noted.

        Raises LostError, the process group then dead.
        """
        return self._reply(time.monotonic() + timeout_s, timeout_s)

    def _reply(self, deadline: float, timeout_s: float) -> wire.Reply:
        while True:
            data = self._line(deadline, timeout_s)
            try:
                reply = wire.reply(data)
            except msgspec.DecodeError:
                self.kill()
                text = data[:60].decode(errors="replace").strip()
                raise LostError("crash", self._tell(f"gave no valid answer: {text!r}")) from None
            if isinstance(reply, wire.Doing):
                self.stage = reply.stage
            elif isinstance(reply, wire.Kept):
                self.kept = reply.measurement
            else:
                return reply

    def _line(self, deadline: float, timeout_s: float) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            selector.register(self.control, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if len(self._buffer) > _LONGEST_LINE:
                    self.kill()
                    raise LostError("crash", self._tell("gave no valid answer without an end"))
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self._overdue(timeout_s)
                watch = self._watch
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
        """News of the launcher: the exit of this worker, or its own end."""
        try:
            self.control.hear(FAREWELL_S)
        except OSError as error:
            if self._has_answered():
                return
            self.control.give_up()
            text = self._tell(f"the launcher died: {error}")
            raise LostError("crash", text, transient=True) from error
        if self.pid in self.control.exits and not self._has_answered():
            raise self._death()

    def _has_answered(self) -> bool:
        """Whether there is a whole answer: what a process said before it died still counts."""
        os.set_blocking(self._answers, False)
        with suppress(BlockingIOError):
            while data := os.read(self._answers, 2**16):
                self._buffer += data
        os.set_blocking(self._answers, True)
        return b"\n" in self._buffer

    def _await_exit(self) -> None:
        """Wait for the exit of a worker that closed its pipe; one that lingers is killed.

        A launcher that tells nothing of it is stopped or stuck, and is ended with all it started.
        """
        for _ in range(_PATIENCE):
            if self.control.await_exit(self.pid, FAREWELL_S):
                return
            self.control.kill(self.pid)
        self.control.give_up()
        self.control.exits.setdefault(self.pid, -signal.SIGKILL)

    def _death(self) -> LostError:
        status = self.control.exits.get(self.pid, 0)
        if status >= 0:
            return self._ended(f"ended with exit status {status}")
        name = signal_name(-status)
        before, after = self._oom_kills, oom_kills()
        if name == "SIGKILL" and before is not None and after is not None and after > before:
            text = "killed by the host, which had run out of memory (oom_kill rose)"
            return LostError("out-of-memory", self._tell(text))
        return self._ended(f"killed by {name}", transient=True)

    def _ended(self, text: str, *, transient: bool = False) -> LostError:
        """A death whose cause is in what the process said last, if anywhere."""
        rule = out_of_memory_rule(last_words(self.output))
        if rule is None:
            return LostError("crash", self._tell(text), transient=transient)
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
        self.control.kill(self.pid)
        self._await_exit()

    def end(self) -> None:
        """Let the worker end by itself, kill it where it does not, close the pipes."""
        with suppress(OSError):
            os.close(self._requests)
        if self.busy:
            self.control.kill(self.pid)  # nobody waits for its answer any more
        if self.pid not in self.control.exits:
            self._await_exit()
        with suppress(OSError):
            os.close(self._answers)


def signal_name(number: int) -> str:
    """SIGKILL for 9; the number of one that has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
