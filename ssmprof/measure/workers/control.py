"""The parent's end of a launcher's socket: orders out, news in, and no wait without an end.

Whatever the launcher does (it dies, it is stopped, it cannot fork), an order is answered or raises
OSError within `ANSWER_S`, and `broken` then says that this launcher is not to be asked again.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress

from ssmprof.measure.workers.kin import kill_session

ANSWER_S = 30.0  # a fork takes milliseconds, and seconds on a host that is out of memory
_PACKET = 256


class Control:
    """One launcher as its parent talks to it; `session` is the session it leads."""

    def __init__(self, link: socket.socket, session: int) -> None:
        self.session = session
        self.exits: dict[int, int] = {}
        self.broken = False
        self._link = link

    def fileno(self) -> int:
        """For `select`: readable when there is news."""
        return self._link.fileno()

    def await_ready(self, within_s: float) -> bool:
        """Whether the launcher has said that it is ready. Raises TimeoutError."""
        try:
            return self._receive(within_s) == b"ready"
        except TimeoutError:
            raise
        except OSError:
            return False

    def fork(self, fds: list[int]) -> int:
        """Have a worker forked with these file descriptors: its process id. Raises OSError."""
        try:
            self._link.settimeout(ANSWER_S)
            socket.send_fds(self._link, [b"fork"], fds)
            while True:
                verb, numbers = self.hear(ANSWER_S)
                if verb == "forked":
                    return numbers[0]
                if verb == "refused":
                    raise BlockingIOError(numbers[0], os.strerror(numbers[0]))
        except BlockingIOError:
            raise  # the launcher lives and may be asked again
        except TimeoutError:
            self.broken = True
            raise TimeoutError(f"no answer within {ANSWER_S:g} s") from None
        except OSError:
            self.broken = True
            raise

    def hear(self, within_s: float) -> tuple[str, list[int]]:
        """The launcher's next word; an exit is also noted. Raises OSError where it is gone."""
        data = self._receive(within_s)
        if not data:
            self.broken = True
            raise ConnectionResetError("its socket was closed")
        verb, *numbers = data.decode().split()
        found = [int(number) for number in numbers]
        if verb == "exited":
            self.exits[found[0]] = found[1]
        return verb, found

    def kill(self, group: int) -> None:
        """Kill a worker's process group; nothing happens to one that is gone."""
        if not self.broken:
            try:
                self._link.settimeout(ANSWER_S)
                self._link.send(f"kill {group}".encode())
                return
            except OSError:
                self.broken = True
        kill_session(self.session, group)

    def await_exit(self, pid: int, within_s: float) -> bool:
        """Whether a worker's exit was told in time. A launcher that is gone took it along."""
        try:
            while pid not in self.exits:
                self.hear(within_s)
        except TimeoutError:
            return False
        except OSError:
            self.give_up()
            self.exits.setdefault(pid, -signal.SIGKILL)
        return True

    def give_up(self) -> None:
        """End the launcher and everything it started, by force."""
        self.broken = True
        kill_session(self.session)

    def close(self) -> None:
        """End the talk: the launcher ends its workers and itself."""
        with suppress(OSError):
            self._link.close()

    def _receive(self, within_s: float) -> bytes:
        self._link.settimeout(within_s)
        return self._link.recv(_PACKET)
