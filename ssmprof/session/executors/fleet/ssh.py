"""Hosts by SSH: Dask's own processes of SSHCluster, one worker per GPU, keys placed beforehand."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from distributed import SpecCluster
from distributed.deploy.ssh import Scheduler, Worker
from distributed.security import Security

from ssmprof.errors import ConfigError
from ssmprof.measure.environment import CARD
from ssmprof.session.executors.fleet import keys
from ssmprof.session.executors.fleet.asked import SshAsked
from ssmprof.session.executors.fleet.clusters import DEATHS
from ssmprof.session.executors.fleet.post import RESOURCE, SHARE

Result = TypeVar("Result")


class SshCluster(SpecCluster):
    """Scheduler on the first host, workers on all; keys leave the hosts with it."""

    def __init__(self, asked: SshAsked, security: Security) -> None:
        """Raises ConfigError where a host cannot be reached or starts nothing."""
        self._asked = asked
        self._placed = f"/tmp/ssmprof-keys-{secrets.token_hex(16)}"
        _now(_each(asked, lambda one: _place(one, security, self._placed)))
        try:
            with keys.configured(self._placed):
                super().__init__(
                    workers=_workers(asked), scheduler=_scheduler(asked), security=security,
                    name="ssmprof",
                )  # fmt: skip
        except Exception as error:
            self._remove()
            raise ConfigError(
                f"no fleet on {', '.join(asked.hosts)}: {error}",
                cause="a process did not start there",
                fix="python = the interpreter there that has ssmprof[fleet] of the same version",
            ) from None

    def close(self, timeout: float | None = None) -> Any:
        """End all processes there, and remove the keys."""
        try:
            return super().close(timeout)
        finally:
            self._remove()

    def _remove(self) -> None:
        placed, self._placed = self._placed, ""
        if placed:
            _now(_each(self._asked, lambda one: one.run(f"rm -rf {placed}")))


def _scheduler(asked: SshAsked) -> dict[str, Any]:
    kwargs = {"protocol": "tls", "port": 0, "dashboard": False, "allowed_failures": DEATHS - 1}
    return {
        "cls": Scheduler,
        "options": {
            "address": asked.hosts[0],
            "connect_options": _connection(asked),
            "kwargs": kwargs,
            "remote_python": asked.python,
        },
    }


def _workers(asked: SshAsked) -> dict[str, Any]:
    """A worker per host and GPU, with its part of the host's cores."""
    return {
        f"{host}-{card}": {
            "cls": Worker,
            "options": {
                "address": host,
                "connect_options": _connection(asked),
                "kwargs": {
                    "protocol": "tls",
                    "nthreads": 1,
                    "resources": {RESOURCE: 1},
                    "env": {
                        "CUDA_VISIBLE_DEVICES": str(card),
                        SHARE: f"{card}/{asked.gpus}",
                        **({CARD: f"{host}-{card}"} if asked.each else {}),
                    },
                },
                "worker_class": "distributed.Nanny",
                "remote_python": asked.python,
            },
        }
        for host in asked.hosts
        for card in range(asked.gpus)
    }


def _connection(asked: SshAsked) -> dict[str, Any]:
    """Options of asyncssh; hosts are checked against known_hosts."""
    found: dict[str, Any] = {"port": asked.port}
    if asked.user is not None:
        found["username"] = asked.user
    if asked.identity is not None:
        found["client_keys"] = [str(Path(asked.identity).expanduser())]
    if asked.known_hosts is not None:
        found["known_hosts"] = str(Path(asked.known_hosts).expanduser())
    return found


async def _each(asked: SshAsked, do: Any) -> None:
    """Do something on every host, one after the other. Raises ConfigError."""
    try:
        import asyncssh
    except ImportError as error:
        raise ConfigError(
            "a fleet by SSH needs asyncssh", cause=str(error), fix="pip install 'ssmprof[fleet]'"
        ) from None
    host = ""
    try:
        for host in dict.fromkeys(asked.hosts):
            async with asyncssh.connect(host, **_connection(asked)) as connection:
                await do(connection)
    except (OSError, asyncssh.Error) as error:
        raise ConfigError(
            f"{host}: SSH fails: {error}",
            fix=f"ssh -p {asked.port} {host} must work without a question",
        ) from None


async def _place(connection: Any, security: Security, folder: str) -> None:
    """Copy the keys into a new folder of that host, for its user alone."""
    await connection.run(f"umask 077 && mkdir -p -m 700 {folder}", check=True)
    with TemporaryDirectory(prefix="ssmprof-keys-") as here:
        keys.write(security, Path(here))
        async with connection.start_sftp_client() as files:
            for name in keys.FILES:
                await files.put(f"{here}/{name}", f"{folder}/{name}", preserve=True)


def _now(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine, whether a loop runs in this thread or not."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
