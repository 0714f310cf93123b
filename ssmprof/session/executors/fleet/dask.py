"""The executor of a fleet: the workers of a Dask scheduler, by the kinds of their devices.

Jobs go to whichever worker of a kind is free. A worker that dies gives its job back; one that kills
three workers becomes a Failure, which a resumed run measures again. Workers never write the run.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import cast

import cloudpickle
import msgspec
from distributed import Client, SpecCluster
from distributed.security import Security

from ssmprof.errors import ConfigError, SsmprofError
from ssmprof.session.executors.fleet import door
from ssmprof.session.executors.fleet.admission import count, kinds, refuse_open
from ssmprof.session.executors.fleet.bench import FleetBench
from ssmprof.session.executors.fleet.clusters import START_S, on_this_host
from ssmprof.session.executors.fleet.door import Door, stands
from ssmprof.session.executors.fleet.post import NAME, Description, Post, describe
from ssmprof.session.executors.local import Local
from ssmprof.session.executors.protocol import Desk, Executor, Kind, SideBySide

_LOOK_S = 2.0
_PLAIN = ["dask", "msgpack"]

cloudpickle.register_pickle_by_value(door)


class OneKind:
    """The workers whose devices have one name: points are measured once, by any of them."""

    def __init__(self, client: Client, device: Description, workers: int) -> None:
        self._client = client
        self._device = device
        self.workers = workers

    @property
    def name(self) -> str:
        return self._device.device

    @property
    def kind(self) -> Kind:
        return self._device.kind

    @property
    def memory_bytes(self) -> int | None:
        return self._device.memory_bytes

    @contextmanager
    def open(self, desk: Desk) -> Iterator[FleetBench]:
        """Benches are opened by the workers, with the first job that they are given."""
        bench = FleetBench(self._client, desk, self.name, self.kind, self.workers)
        try:
            yield bench
        finally:
            bench.stop()

    def close(self) -> None:
        """The fleet is closed, not a kind of it."""


class Dask(SideBySide):
    """The workers of a scheduler; `make` makes each worker's executor, on the worker.

    `kinds` are its devices by name, each an executor: a run asks each for its own answer. The
    first of the `workers` is waited for `wait_s`; later ones of a kind that is known join.
    Raises NoDeviceError where a worker has no device, ConfigError where versions of ssmprof differ.
    """

    def __init__(
        self,
        client: Client,
        make: Callable[[], Executor] = Local,
        *,
        workers: int = 1,
        wait_s: float = START_S,
    ) -> None:
        self._client = client
        self._close: list[Callable[[], object]] = []
        _wait_for(client, workers, wait_s)
        _join(client, make)
        told = cast("dict[str, bytes]", client.run(describe))
        self.workers = {
            address: msgspec.json.decode(one, type=Description) for address, one in told.items()
        }
        late = workers - len(self.workers) + 1
        super().__init__(
            [
                OneKind(client, one, max(count(self.workers, one.device), late))
                for one in kinds(self.workers)
            ]
        )
        self._close.append(_Watchman(client, make).close)

    @classmethod
    def at(
        cls,
        address: str,
        make: Callable[[], Executor] = Local,
        *,
        security: Security | None = None,
        workers: int = 1,
        wait_s: float = START_S,
        closing: Callable[[], object] | None = None,
    ) -> Dask:
        """The fleet of a running scheduler, whose workers have the resource `ssmprof-device=1`.

        Certificates are Dask's own settings without `security`; `workers` are waited for, `closing`
        is called in the end. Raises ConfigError where anybody could send to it, or where it does
        not answer.
        """
        refuse_open(address)
        try:
            client = _client(address, security)
        except (OSError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{address}: no scheduler answers", cause=str(error),
                fix="dask scheduler --host 127.0.0.1 starts one",
            ) from None  # fmt: skip
        try:
            found = cls(client, make, workers=workers, wait_s=wait_s)
        except OSError as error:
            client.close()
            raise SsmprofError(
                f"{address}: the scheduler went away", cause=str(error),
                fix="look at its log, and start it again",
            ) from None  # fmt: skip
        except BaseException:
            client.close()
            raise
        found._close += [client.close, *([closing] if closing else [])]
        return found

    @classmethod
    def of(
        cls,
        cluster: SpecCluster,
        workers: int,
        make: Callable[[], Executor] = Local,
        *,
        security: Security | None = None,
        wait_s: float = START_S,
        closing: Callable[[], object] | None = None,
    ) -> Dask:
        """The fleet of a cluster that was started for it, and ends with it (by `closing`)."""
        end = closing or cluster.close
        try:
            client = _client(cluster, security or cluster.security)
            try:
                found = cls(client, make, workers=workers, wait_s=wait_s)
            except BaseException:
                client.close()
                raise
        except BaseException:
            end()
            raise
        found._close += [client.close, end]
        return found

    @classmethod
    def local(
        cls,
        devices: Sequence[str],
        make: Callable[[], Executor] = Local,
        *,
        each: bool = False,
        **environ: str,
    ) -> Dask:
        """A cluster on this host: one worker for each value of CUDA_VISIBLE_DEVICES.

        The host's cores are divided between them. With `each` every card is a device of its own and
        measures everything. `environ` is added to the workers'.
        """
        return cls.of(on_this_host(devices, each=each, environ=environ), len(devices), make)

    def close(self) -> None:
        """Leave the scheduler; end the cluster that was started here."""
        while self._close:
            self._close.pop(0)()


def _join(client: Client, make: Callable[[], Executor]) -> None:
    """Have the scheduler and all workers, those that come later included, know what to do."""
    client.register_plugin(Door(), name=Door.name)
    client.register_plugin(Post(make), name=NAME)


class _Watchman:
    """Looks whether the scheduler still knows what a sweep needs: one that was started again does
    not, and tasks that it was sent meanwhile wait until it is told.
    """

    def __init__(self, client: Client, make: Callable[[], Executor]) -> None:
        self._client = client
        self._make = make
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._end.set()

    def _watch(self) -> None:
        while not self._end.wait(_LOOK_S):
            with suppress(Exception):  # it does not answer: the bench says so
                if self._client.status == "running" and not self._client.run_on_scheduler(stands):
                    _join(self._client, self._make)


def _wait_for(client: Client, workers: int, wait_s: float) -> None:
    """All workers for START_S, and the first one for `wait_s`. Raises ConfigError."""
    for many, seconds in ((workers, min(START_S, wait_s)), (1, max(wait_s - START_S, 0.1))):
        with suppress(TimeoutError, asyncio.TimeoutError):
            client.wait_for_workers(many, timeout=seconds)
            return
    raise ConfigError(
        f"no worker of the fleet came within {wait_s:.0f} s",
        fix="dask worker ADDRESS --nthreads 1 --resources ssmprof-device=1 starts one",
    )


def _client(where: str | SpecCluster, security: Security | None) -> Client:
    """A client that takes bytes from workers and unpickles no result of theirs."""
    return Client(where, security=security, set_as_default=False, deserializers=_PLAIN)
