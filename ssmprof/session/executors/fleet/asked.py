"""What `--fleet` says: a scheduler's address, `ssh:host1,host2`, or a TOML file with a `kind`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct

from ssmprof.bounded import read_file
from ssmprof.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MOST_BYTES = 1_000_000
Count = Annotated[int, Meta(ge=1, le=100_000)]
Seconds = Annotated[float, Meta(gt=0, le=1e6)]
Hosts = Annotated[tuple[str, ...], Meta(min_length=1, max_length=10_000)]


class _Asked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Base. With `each`, every card is a device of its own and measures everything."""

    each: bool = False


class LocalAsked(_Asked, tag="local", frozen=True, kw_only=True):
    """GPUs of this host; without `devices` those that CUDA_VISIBLE_DEVICES leaves."""

    devices: tuple[str, ...] = ()

    def label(self) -> str:
        return "this host"


class SshAsked(_Asked, tag="ssh", frozen=True, kw_only=True):
    """Hosts that `ssh` reaches without a password; the scheduler runs on the first one.

    `gpus` of each host take part, `python` is the interpreter there that has ssmprof. Without
    `known_hosts` the user's own file says which hosts are trusted; there is no way to trust all.
    """

    hosts: Hosts
    gpus: Count = 1
    python: str | None = None
    user: str | None = None
    port: Annotated[int, Meta(ge=1, le=65535)] = 22
    identity: str | None = None
    known_hosts: str | None = None

    def label(self) -> str:
        return f"{len(self.hosts)} hosts by SSH"


class SlurmAsked(_Asked, tag="slurm", frozen=True, kw_only=True):
    """Jobs of Slurm, a worker with one GPU each; `directives` are further lines of `#SBATCH`.

    `shared` is a folder that all nodes see, for the keys (the home without one); `interface` and
    `host` say where the scheduler, on this machine, is reached from the nodes. The first worker is
    waited for `wait_s`; those that start later join.
    """

    jobs: Count = 1
    partition: str | None = None
    account: str | None = None
    walltime: str = "01:00:00"
    cores: Count = 4
    memory: str = "32GB"
    gpus: Annotated[int, Meta(ge=0, le=1)] = 1
    directives: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    python: str | None = None
    shared: str | None = None
    interface: str | None = None
    host: str | None = None
    wait_s: Seconds = 600.0

    def label(self) -> str:
        return f"{self.jobs} jobs of Slurm"


class KubernetesAsked(_Asked, tag="kubernetes", frozen=True, kw_only=True):
    """Pods of Dask's operator, a worker with one GPU each; `image` has ssmprof and torch.

    The first worker is waited for `wait_s`; those that start later join.
    """

    image: str
    workers: Count = 1
    namespace: str = "default"
    gpu: str = "nvidia.com/gpu"
    cpu: str = "4"
    memory: str = "32Gi"
    name: Annotated[str, Meta(pattern="^[a-z]([-a-z0-9]{0,40}[a-z0-9])?$")] = "ssmprof"
    wait_s: Seconds = 600.0

    def label(self) -> str:
        return f"{self.workers} pods of Kubernetes"


class AddressAsked(Struct, frozen=True, kw_only=True):
    """A scheduler that runs already."""

    address: str
    each: ClassVar[bool] = False

    def label(self) -> str:
        return self.address


Started = LocalAsked | SshAsked | SlurmAsked | KubernetesAsked
Asked = Started | AddressAsked


def read(fleet: str) -> Asked:
    """What was asked for. Raises ConfigError with the field of the file that is wrong."""
    if fleet.startswith("ssh:"):
        hosts = tuple(host for host in fleet.removeprefix("ssh:").split(",") if host)
        if not hosts:
            raise ConfigError(f"--fleet {fleet}: no host is named", fix="--fleet ssh:host1,host2")
        return SshAsked(hosts=hosts)
    if not fleet.endswith(".toml"):
        return AddressAsked(address=fleet)
    path = Path(fleet).expanduser()
    try:
        found = tomllib.loads(read_file(path, _MOST_BYTES).decode())
        return msgspec.convert(found, Started)  # type: ignore[arg-type]
    except OSError as error:
        raise ConfigError(f"{fleet}: cannot be read: {error.strerror}") from None
    except (ValueError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"{fleet}: {error}",
            fix='kind = "local", "ssh", "slurm" or "kubernetes"; fields: docs/guide/fleets.md',
        ) from None
