"""Who takes part in a fleet, and which scheduler may be sent anything at all."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from msgspec.structs import replace

from ssmprof import __version__
from ssmprof.errors import ConfigError, NoDeviceError
from ssmprof.session.executors.fleet.post import Description


def refuse_open(address: str) -> None:
    """Raise ConfigError for a plain address beyond this host: a scheduler runs what it is sent."""
    found = urlsplit(address if "://" in address else f"tcp://{address}")
    host = found.hostname or ""
    try:
        here = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        here = False
    if found.scheme not in ("tls", "inproc") and not here:
        raise ConfigError(
            f"{address}: not a scheduler of this host, and without TLS",
            cause="a scheduler executes what it is sent, and anybody on the way could send",
            fix="tls://HOST:PORT with distributed's Security, or a tunnel to this host",
        )


def kinds(workers: Mapping[str, Description]) -> list[Description]:
    """The kinds of device among workers (by address), each with its least memory.

    Raises ConfigError where a worker's version of ssmprof is another one than here, and
    NoDeviceError where a worker has no device.
    """
    for address, one in workers.items():
        if one.version != __version__:
            raise ConfigError(
                f"worker {address} has ssmprof {one.version}, and this is {__version__}",
                cause="points of different versions are not compared",
                fix="install the same version on both",
            )
        if one.missing is not None:
            raise NoDeviceError(
                f"worker {address} has no device", cause=one.missing,
                fix="leave it out of the fleet; ssmprof doctor on its host says what is missing",
            )  # fmt: skip
    found: dict[str, Description] = {}
    for one in workers.values():
        known = found.get(one.device, one)
        sizes = [size for size in (known.memory_bytes, one.memory_bytes) if size is not None]
        found[one.device] = replace(one, memory_bytes=min(sizes, default=None))
    return [found[name] for name in sorted(found)]


def count(workers: Mapping[str, Description], device: str) -> int:
    """How many workers have a device of this name."""
    return sum(one.device == device for one in workers.values())
