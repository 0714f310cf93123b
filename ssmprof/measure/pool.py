"""The parent's end of the launcher: start it, have it fork workers, end everything it started.

The parent imports no torch and touches no device.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from ssmprof.errors import SsmprofError
from ssmprof.measure.autopsy import last_line
from ssmprof.measure.process import FAREWELL_S, LostError, Watch, Worker

IMPORT_S = 180.0  # importing torch from a cold disk on a small board

living: set[int] = set()  # process ids of launchers, for the leak check of the tests


class Pool:
    """One launcher and the workers it forks, in a scratch folder of their own."""

    def __init__(
        self,
        runner: str,
        device: str,
        environ: Mapping[str, str] | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.watch = watch
        self.scratch = tempfile.TemporaryDirectory(prefix="ssmprof-", ignore_cleanup_errors=True)
        self.exits: dict[int, int] = {}
        self.forks = 0
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control = mine
        self.output = Path(self.scratch.name, "launcher.out")
        with theirs, self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ssmprof.measure.launcher", str(theirs.fileno()), runner,
                 device],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.scratch.name,
                env=_environ(environ or {}),
                start_new_session=True,
            )  # fmt: skip
        living.add(self.process.pid)
        try:
            self._await_launcher()
        except BaseException:
            self.close()
            raise

    def _await_launcher(self) -> None:
        self.control.settimeout(IMPORT_S)
        try:
            ready = self.control.recv(64)
        except TimeoutError:
            ready = b""
        self.control.settimeout(None)
        if ready != b"ready":
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(FAREWELL_S)
            raise SsmprofError(
                "the measuring process does not start",
                cause=last_line(self.output) or f"no sign of life within {IMPORT_S:.0f} s",
                fix="ssmprof doctor",
            )

    def fork(self) -> Worker:
        """Start a worker. Raises LostError where the launcher is gone."""
        self.forks += 1
        output = Path(self.scratch.name, f"worker-{self.forks}.out")
        request_read, request_write = os.pipe()
        answer_read, answer_write = os.pipe()
        sink = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        theirs = [request_read, answer_write, sink]
        try:
            socket.send_fds(self.control, [b"fork"], theirs)
            worker = Worker(self, request_write, answer_read, output)
            worker.pid = self._forked()
        except OSError as error:
            os.close(request_write)
            os.close(answer_read)
            raise LostError("crash", f"the launcher of workers is gone: {error}") from error
        finally:
            for fd in theirs:
                os.close(fd)
        return worker

    def _forked(self) -> int:
        while True:
            verb, numbers = self.hear()
            if verb == "forked":
                return numbers[0]

    def hear(self) -> tuple[str, list[int]]:
        """The launcher's next word; an exit is also noted. Raises OSError where it is gone."""
        data = self.control.recv(256)
        if not data:
            raise ConnectionResetError("its socket was closed")
        verb, *numbers = data.decode().split()
        found = [int(number) for number in numbers]
        if verb == "exited":
            self.exits[found[0]] = found[1]
        return verb, found

    def kill(self, pid: int) -> None:
        """Kill a worker's process group; nothing happens to one that is gone."""
        with suppress(OSError):
            self.control.send(f"kill {pid}".encode())

    def alive(self) -> bool:
        """Whether the launcher runs."""
        return self.process.poll() is None

    def close(self) -> None:
        """End the launcher and everything it started."""
        self.control.close()
        try:
            self.process.wait(FAREWELL_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        living.discard(self.process.pid)
        self.scratch.cleanup()


def _environ(more: Mapping[str, str]) -> dict[str, str]:
    """The parent's environment; a checkout that is not installed is put on the path."""
    environ = {**os.environ, "PYTHONSAFEPATH": "1", **more}
    try:
        metadata.distribution("ssmprof")
    except metadata.PackageNotFoundError:
        root = Path(__file__).resolve().parents[2]
        paths = [str(root), str(root / "kernels"), environ.get("PYTHONPATH", "")]
        environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environ
