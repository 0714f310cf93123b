"""One launcher and the workers it forks: started, handed out, and ended with all they started.

The parent imports no torch and touches no device. Each arrow points one way: a pool hands out
workers (`process`), and both talk to the launcher through `control`.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from ssmprof.errors import SsmprofError, reason
from ssmprof.measure.workers.autopsy import last_line
from ssmprof.measure.workers.control import Control
from ssmprof.measure.workers.kin import kill_session
from ssmprof.measure.workers.process import FAREWELL_S, LostError, Watch, Worker, signal_name
from ssmprof.measure.workers.scratch import Scratch
from ssmprof.models.code import HOME

IMPORT_S = 180.0  # importing torch from a cold disk on a small board
KILLED_S = 10.0  # until a killed process is gone; one inside a driver may never be

living: set[int] = set()  # process ids of launchers, for the leak check of the tests

# glibc keeps what is freed, as torch does on a GPU. Else it gives large tensors back to the system
# or not, by what the process freed before, and a call pays for their pages in some processes.
KEEP_FREED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**62),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
}


class Pool:
    """One launcher and the workers it forks, in a scratch folder of their own."""

    def __init__(
        self,
        runner: str,
        device: str,
        environ: Mapping[str, str] | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Start a launcher.

        Raises LostError where it was ended from outside or the host has no room for a process, and
        SsmprofError where it ends by itself or gives no sign of life.
        """
        self._watch = watch
        self._forks = 0
        try:
            self._scratch = Scratch()
        except OSError as error:
            raise _unstarted(reason(error)) from error
        self._output = self._scratch.path / "launcher.out"
        try:
            self.process, link = self._started(runner, device, environ or {})
        except OSError as error:
            self._scratch.close()
            raise _unstarted(reason(error)) from error
        self._control = Control(link, self.process.pid)
        living.add(self.process.pid)
        try:
            self._await_launcher()
        except BaseException:
            self.close()
            raise

    def _started(
        self, runner: str, device: str, environ: Mapping[str, str]
    ) -> tuple[subprocess.Popen[bytes], socket.socket]:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = [str(theirs.fileno()), runner, device]
        try:
            with theirs, self._output.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "ssmprof.measure.workers.launcher", *arguments],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self._scratch.path,
                    env=_environ(device, environ, self._scratch.path),
                    start_new_session=True,
                )
        except BaseException:
            mine.close()
            raise
        return process, mine

    def _await_launcher(self) -> None:
        try:
            if self._control.await_ready(IMPORT_S):
                return
            said = ""
        except TimeoutError:
            said = f"no sign of life within {IMPORT_S:.0f} s"
        with suppress(subprocess.TimeoutExpired):
            status = self.process.wait(FAREWELL_S)
            if status < 0:
                raise _unstarted(f"killed by {signal_name(-status)}")
        raise SsmprofError(
            "the measuring process does not start",
            cause=last_line(self._output) or said or "it closed its socket",
            fix="ssmprof doctor",
        )

    def fork(self) -> Worker:
        """Start a worker. Raises LostError where the launcher is gone or cannot fork."""
        self._forks += 1
        output = self._scratch.path / f"worker-{self._forks}.out"
        fds: list[int] = []
        try:
            fds += os.pipe()
            fds += os.pipe()
            fds.append(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
            request_read, request_write, answer_read, answer_write, sink = fds
            pid = self._control.fork([request_read, answer_write, sink])
        except OSError as error:
            for fd in fds:
                os.close(fd)
            gone = self._control.broken
            text = "the launcher of workers is gone" if gone else "no worker could be started"
            raise LostError("crash", f"{text}: {reason(error)}", transient=True) from error
        for fd in (request_read, answer_write, sink):
            os.close(fd)
        return Worker(self._control, pid, (request_write, answer_read), output, self._watch)

    def alive(self) -> bool:
        """Whether the launcher runs and answers."""
        return not self._control.broken and self.process.poll() is None

    def close(self) -> None:
        """End the launcher and what it started, also where an interrupt cuts the wait short."""
        ended = False
        try:
            self._control.close()
            ended = self.process.wait(0 if self._control.broken else FAREWELL_S) == 0
        except subprocess.TimeoutExpired:
            self.process.kill()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(KILLED_S)
        finally:
            if not ended:
                kill_session(self.process.pid)
            living.discard(self.process.pid)
            self._scratch.close()


def _unstarted(why: str) -> LostError:
    return LostError("crash", f"no measuring process could be started: {why}", transient=True)


def _environ(device: str, more: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """The parent's environment; a checkout that is not installed is put on the path.

    Temporary files of workers and their compilers go to the scratch folder, and so go with it; but
    what torch caches for other runs stays where it is.
    """
    environ = {
        **(KEEP_FREED if device == "cpu" else {}),
        **os.environ,
        "PYTHONSAFEPATH": "1",
        **more,
    }
    environ.setdefault("TORCHINDUCTOR_CACHE_DIR", _inductor_cache())
    environ["TMPDIR"] = str(scratch)
    environ[HOME] = os.getcwd()
    try:
        metadata.distribution("ssmprof")
    except metadata.PackageNotFoundError:
        root = Path(__file__).resolve().parents[3]
        paths = [str(root), str(root / "kernels"), environ.get("PYTHONPATH", "")]
        environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environ


def _inductor_cache() -> str:
    """Where torch keeps compiled graphs unless it is told otherwise."""
    try:
        user = re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser())
    except (KeyError, OSError):  # a user id without a name
        user = str(os.getuid())
    return str(Path(tempfile.gettempdir()) / f"torchinductor_{user}")
