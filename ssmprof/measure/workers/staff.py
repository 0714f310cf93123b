"""The processes of a client: one launcher, workers that it forks, and the machine they tell of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from ssmprof.errors import SsmprofError
from ssmprof.measure import environment
from ssmprof.measure.workers import wire
from ssmprof.measure.workers.pool import Pool
from ssmprof.measure.workers.process import LostError, Watch, Worker
from ssmprof.records import Environment

START_S = 120.0  # a driver that wakes up, and the device's first context


class Staff:
    """Starts workers of `runner` on a device, and ends their launcher.

    `on_environment` is told every new machine, `watch` looks at the host while a worker runs;
    `fingerprint` is of the machine of the last worker, None before the first one said hello.
    """

    def __init__(
        self,
        runner: str,
        device: Literal["cuda", "cpu"],
        environ: Mapping[str, str] | None,
        watch: Watch | None,
        on_environment: Callable[[Environment], object] | None,
    ) -> None:
        self.runner = runner
        self.environments: dict[str, Environment] = {}
        self.fingerprint: str | None = None
        self.pool: Pool | None = None
        self._device: Literal["cuda", "cpu"] = device
        self._environ = environ
        self._watch = watch
        self._on_environment = on_environment
        self._round = -1
        self._launched = False

    @property
    def machine(self) -> Environment | None:
        """The machine, once a worker told it."""
        return self.environments.get(self.fingerprint or "")

    def start(self, turn: int) -> Worker:
        """A worker that has said hello. Raises LostError."""
        worker = self._launcher(turn).fork()
        try:
            hello = worker.hear(START_S)
        except LostError:
            worker.end()
            raise
        if not isinstance(hello, wire.Hello):
            worker.kill()
            worker.end()
            raise LostError("crash", "gave no valid answer: no greeting")
        self.fingerprint = self.meet(hello.environment)
        return worker

    def known(self) -> str:
        """The fingerprint of the machine; where no worker ever said hello, of what is known."""
        return self.fingerprint or self.meet(environment.bare(self._device))

    def meet(self, found: Environment) -> str:
        """Tell of a machine, once; returns its fingerprint."""
        fingerprint = found.fingerprint
        if fingerprint not in self.environments:
            self.environments[fingerprint] = found
            if self._on_environment is not None:
                self._on_environment(found)
        return fingerprint

    def close(self) -> None:
        """End the launcher, and everything it started."""
        if self.pool is not None:
            self.pool.close()
            self.pool = None

    def _launcher(self, turn: int) -> Pool:
        """The launcher of this round.

        Forks share the host memory's layout with their launcher, which is part of what differs
        between processes on a CPU: there a launcher per round keeps rounds independent. On a GPU
        each worker makes a context of its own, and one launcher serves all rounds.
        """
        stale = self._device == "cpu" and self._round != turn
        if self.pool is not None and (stale or not self.pool.alive()):
            self.close()
        if self.pool is None:
            self.pool = self._new_pool()
            self._round = turn
        return self.pool

    def _new_pool(self) -> Pool:
        """A launcher. Raises SsmprofError where none has ever started: that is for the user."""
        try:
            pool = Pool(self.runner, self._device, self._environ, self._watch)
        except SsmprofError as error:
            if not self._launched:
                raise
            text = f"{error.what}: {error.cause}"
            raise LostError("crash", text, transient=True) from error
        self._launched = True
        return pool
