"""The executor of a fleet: the workers of a Dask scheduler, by the kinds of their devices.

Jobs go to whichever worker of a kind is free. A worker that dies gives its job back; one that kills
three workers becomes a Failure, which a resumed run measures again. Workers never write the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import cloudpickle
import msgspec
from distributed import Client
from distributed.deploy import Cluster
from distributed.security import Security

from ssmprof.errors import ConfigError
from ssmprof.session.executors.fleet import door
from ssmprof.session.executors.fleet.admission import count, kinds, refuse_open
from ssmprof.session.executors.fleet.bench import FleetBench
from ssmprof.session.executors.fleet.clusters import START_S, on_this_host
from ssmprof.session.executors.fleet.door import Door
from ssmprof.session.executors.fleet.post import NAME, Description, Post, describe
from ssmprof.session.executors.local import Local
from ssmprof.session.executors.protocol import Desk, Executor, Kind, SideBySide

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

    `kinds` are its devices by name, each an executor: a run asks each for its own answer.
    Raises NoDeviceError where a worker has no device, ConfigError where versions of ssmprof differ.
    """

    def __init__(
        self, client: Client, make: Callable[[], Executor] = Local, *, workers: int = 1
    ) -> None:
        self._client = client
        self._close: list[Callable[[], object]] = []
        client.wait_for_workers(workers, timeout=START_S)
        client.register_plugin(Door(), name=Door.name)
        client.register_plugin(Post(make), name=NAME)
        told = cast("dict[str, bytes]", client.run(describe))
        self.workers = {
            address: msgspec.json.decode(one, type=Description) for address, one in told.items()
        }
        super().__init__(
            [OneKind(client, one, count(self.workers, one.device)) for one in kinds(self.workers)]
        )

    @classmethod
    def at(
        cls,
        address: str,
        make: Callable[[], Executor] = Local,
        *,
        security: Security | None = None,
    ) -> Dask:
        """The fleet of a running scheduler, whose workers have the resource `ssmprof-device=1`.

        Certificates are Dask's own settings without `security`. Raises ConfigError where anybody
        could send to it, or where it does not answer.
        """
        refuse_open(address)
        try:
            client = Client(address, security=security, set_as_default=False)
        except (OSError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{address}: no scheduler answers", cause=str(error),
                fix="dask scheduler --host 127.0.0.1 starts one",
            ) from None  # fmt: skip
        try:
            found = cls(client, make)
        except BaseException:
            client.close()
            raise
        found._close.append(client.close)
        return found

    @classmethod
    def of(
        cls,
        cluster: Cluster,
        workers: int,
        make: Callable[[], Executor] = Local,
        *,
        security: Security | None = None,
    ) -> Dask:
        """The fleet of a cluster that was started for it, and ends with it."""
        try:
            client = Client(cluster, security=security, set_as_default=False)
            try:
                found = cls(client, make, workers=workers)
            except BaseException:
                client.close()
                raise
        except BaseException:
            cluster.close()
            raise
        found._close += [client.close, cluster.close]
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
