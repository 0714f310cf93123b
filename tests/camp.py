"""A scheduler and workers on the loopback, each a process of its own that can be hurt.

Started by command lines as a person would, or forked from a process that has everything imported.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import crew
import fakes

SCHEDULER, WORKER = "distributed.cli.dask_scheduler", "distributed.cli.dask_worker"


def free_port() -> int:
    """A port of the loopback that nobody has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def listens(port: int) -> bool:
    """Whether somebody answers at a port of the loopback."""
    with socket.socket() as found:
        return found.connect_ex(("127.0.0.1", port)) == 0


def popen(module: str, words: list[str], environ: dict[str, str]) -> int:
    """Start a module as a program; its process id."""
    quiet = subprocess.DEVNULL
    command = [sys.executable, "-m", module, *words]
    return subprocess.Popen(command, env=environ, stdout=quiet, stderr=quiet).pid


def fork(module: str, words: list[str], environ: dict[str, str]) -> int:
    """The same from this process, which must have one thread; quicker."""
    pid = os.fork()
    if pid:
        return pid
    os.environ.update(environ)
    os.setpgid(0, 0)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    sys.argv = [module, *words]
    from importlib import import_module

    try:
        import_module(module).main(words)
    finally:
        os._exit(0)


class Camp:
    """One scheduler at an address that stays, and workers by card."""

    def __init__(self, folder: Path, start: Callable[..., int] = popen, **environ: str) -> None:
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.folder = folder
        self._start = start
        self.environ = {
            **os.environ, **fakes.ENVIRON, crew.DEATHS: str(folder), "DASK_DISTRIBUTED__WORKER__"
            "MEMORY__TERMINATE": "false", "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "DASK_LOGGING__DISTRIBUTED": "critical", **environ,
        }  # fmt: skip
        self.workers: dict[str, int] = {}
        self.scheduler: int | None = None

    def start_scheduler(self) -> None:
        """Start it, and wait until it answers."""
        words = ["--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        self.scheduler = self._start(SCHEDULER, words, self.environ)
        end = time.monotonic() + 30
        while not listens(self.port):
            assert time.monotonic() < end, "the scheduler does not start"
            time.sleep(0.02)

    def start_worker(self, card: str, *more: str, at: str | None = None, **environ: str) -> None:
        """Start the worker of a card; `more` are further words of `dask worker`."""
        words = [at or self.address, "--nthreads", "1", "--resources", "ssmprof-device=1"]
        words += ["--no-nanny", "--no-dashboard", "--death-timeout", "20", "--host", "127.0.0.1"]
        words += ["--local-directory", str(self.folder), "--memory-limit", "0", *more]
        environ = self.environ | {"CUDA_VISIBLE_DEVICES": card} | environ
        self.workers[card] = self._start(WORKER, words, environ)

    def kill_worker(self, card: str) -> None:
        """End a worker at once."""
        end(self.workers.pop(card))

    def kill_scheduler(self) -> None:
        """End the scheduler at once."""
        if self.scheduler is not None:
            end(self.scheduler)
            self.scheduler = None

    def alive(self, card: str) -> bool:
        """Whether a worker runs."""
        pid = self.workers.get(card)
        if pid is None:
            return False
        with suppress(ChildProcessError):
            return os.waitpid(pid, os.WNOHANG) == (0, 0)
        return False

    def close(self) -> None:
        """End everything."""
        for card in list(self.workers):
            with suppress(ChildProcessError):
                self.kill_worker(card)
        self.kill_scheduler()


def end(pid: int) -> None:
    """Kill a process of ours, and wait for it."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


class Proxy:
    """A port that leads to another one, and can hold what goes through it, or end it."""

    def __init__(self, port: int) -> None:
        import threading

        self._to = port
        self._open = threading.Event()
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._carried: list[socket.socket] = []
        self._thread = threading.Thread
        self._thread(target=self._accept, daemon=True).start()

    def pause(self) -> None:
        """Let nothing through, without an end of any connection."""
        self._open.clear()

    def cut(self) -> None:
        """End all connections, as a host does that heard nothing for its time-out."""
        while self._carried:
            with suppress(OSError):
                self._carried.pop().shutdown(socket.SHUT_RDWR)

    def go_on(self) -> None:
        """Let through what waited."""
        self._open.set()

    def close(self) -> None:
        """Accept nobody any more."""
        self._open.set()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._open.wait()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._carried += [near, far]
                for a, b in ((near, far), (far, near)):
                    self._thread(target=self._carry, args=(a, b), daemon=True).start()

    def _carry(self, a: socket.socket, b: socket.socket) -> None:
        with suppress(OSError):
            while data := a.recv(65536):
                self._open.wait()
                b.sendall(data)
        for one in (a, b):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
