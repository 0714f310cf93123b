"""Forks workers from a process that has imported everything and touched no device.

Importing torch takes seconds and a sweep needs a worker per block, round and weighed context, so
the imports are paid once per launcher and a worker costs a fork. The parent talks to it over one
socket: `fork` (with the worker's three file descriptors), `kill`; back come `forked` or `refused`,
and `exited`. When the socket ends, however the parent died, every worker's process group is killed;
signals meant for the whole job are left to the parent, which lets the point in flight finish.
"""

from __future__ import annotations

import errno
import gc
import os
import selectors
import signal
import socket
import sys
import traceback
import warnings
from contextlib import suppress

from ssmprof.measure import environment
from ssmprof.measure.workers import worker
from ssmprof.measure.workers.preload import device_touched

PACKET = 4096
FDS = 3  # of a worker: requests, answers, output


def main(arguments: list[str]) -> None:
    """`launcher SOCKET-FD MODULE:RUNNER DEVICE [--plain]`."""
    fd, runner, device, *plain = arguments
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    make = worker.load(runner)
    environment.prepare()
    prepare = getattr(make, "prepare", None)
    if prepare is not None and not plain:
        prepare()
        if device_touched():
            again = ["-m", "ssmprof.measure.workers.launcher", fd, runner, device, "--plain"]
            os.execv(sys.executable, [sys.executable, *again])
    control = socket.socket(fileno=int(fd))
    # What is imported stays: collections in the workers skip it, and its pages stay shared.
    gc.collect()
    gc.freeze()
    control.send(b"ready")
    # Threads of numeric libraries at rest survive a fork; Python 3.12 warns about all of them.
    warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
    Launcher(control, lambda: make(device)).run()  # type: ignore[arg-type]


class Launcher:
    """The loop: fork on request, report every exit, leave nothing behind."""

    def __init__(self, control: socket.socket, make: worker.Callable[[], worker.Runner]) -> None:
        self.control = control
        self.make = make
        self.children: set[int] = set()

    def run(self) -> None:
        """Serve until the parent's end of the socket is gone."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.wake = (wake_read, wake_write)
        with selectors.DefaultSelector() as selector:
            selector.register(self.control, selectors.EVENT_READ)
            selector.register(wake_read, selectors.EVENT_READ)
            alive = True
            while alive:
                for key, _ in selector.select():
                    if key.fileobj is self.control:
                        alive = self._obey()
                    else:
                        with suppress(BlockingIOError):
                            os.read(wake_read, PACKET)
                        self._reap()
        for pid in self.children:
            _kill_group(pid)

    def _obey(self) -> bool:
        try:
            data, fds, _, _ = socket.recv_fds(self.control, PACKET, FDS, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return False
        if not data:
            return False
        verb, _, rest = data.decode().partition(" ")
        if verb == "fork":
            self._fork(fds)
        elif verb == "kill" and int(rest) in self.children:
            _kill_group(int(rest))
        return True

    def _fork(self, fds: list[int]) -> None:
        try:
            if len(fds) != FDS:
                raise OSError(errno.EMFILE, "file descriptors were lost on the way")
            mine = os.getpid()
            pid = os.fork()
            if pid == 0:
                self._become_worker(mine, *fds)
        except OSError as error:
            self._tell(f"refused {error.errno or errno.EAGAIN}")
            return
        finally:
            for fd in fds:
                os.close(fd)
        with suppress(OSError):
            os.setpgid(pid, pid)  # in parent and child: whoever comes first
        self.children.add(pid)
        self._tell(f"forked {pid}")

    def _become_worker(self, launcher: int, requests: int, answers: int, output: int) -> None:
        status = 1
        try:
            worker.die_with(launcher)
            with suppress(OSError):
                os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.control.close()
            for fd in self.wake:
                os.close(fd)
            os.dup2(output, 1)
            os.dup2(output, 2)
            worker.serve(requests, answers, self.make)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)  # no clean-up of what belongs to the launcher

    def _reap(self) -> None:
        """Kill what is left of a dead worker's group before its number can be given away."""
        while self.children:
            try:
                gone = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if gone is None:
                return
            if gone.si_pid in self.children:
                _kill_group(gone.si_pid)
            _, status = os.waitpid(gone.si_pid, 0)
            if gone.si_pid in self.children:
                self.children.discard(gone.si_pid)
                self._tell(f"exited {gone.si_pid} {os.waitstatus_to_exitcode(status)}")

    def _tell(self, text: str) -> None:
        with suppress(OSError):  # a parent that is gone is noticed by the loop
            self.control.send(text.encode())


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
