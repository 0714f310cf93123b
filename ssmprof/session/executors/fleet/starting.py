"""From what was asked to a fleet at work: a scheduler that runs, or a cluster started for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ssmprof.devices import Wanted
from ssmprof.session.executors.fleet import keys
from ssmprof.session.executors.fleet.asked import (
    AddressAsked,
    Asked,
    KubernetesAsked,
    LocalAsked,
    SshAsked,
)
from ssmprof.session.executors.fleet.clusters import on_this_host, visible_gpus
from ssmprof.session.executors.fleet.dask import Dask
from ssmprof.session.executors.local import Local
from ssmprof.session.executors.protocol import Executor


def start(asked: Asked, wanted: Wanted, make: Callable[[], Executor] | None = None) -> Dask:
    """The fleet that was asked for; closing it ends what was started.

    Raises ConfigError and NoDeviceError. Beyond this host everything is said through TLS, with keys
    that are made here and removed in the end.
    """
    make = make or partial(Local, wanted)
    if isinstance(asked, AddressAsked):
        return Dask.at(asked.address, make)
    if isinstance(asked, LocalAsked):
        cards = asked.devices or visible_gpus()
        return Dask.of(on_this_host(cards, each=asked.each), len(cards), make)
    security = keys.temporary()
    if isinstance(asked, SshAsked):
        from ssmprof.session.executors.fleet.ssh import SshCluster

        workers = len(asked.hosts) * asked.gpus
        return Dask.of(SshCluster(asked, security), workers, make, security=security)
    if isinstance(asked, KubernetesAsked):
        from ssmprof.session.executors.fleet.kubernetes import Pods

        pods = Pods(asked, security)
        return Dask.at(
            pods.address,
            make,
            security=security,
            workers=asked.workers,
            wait_s=asked.wait_s,
            closing=pods.close,
        )
    from ssmprof.session.executors.fleet.slurm import SlurmJobs

    jobs = SlurmJobs(asked, security)
    return Dask.of(jobs.cluster, asked.jobs, make, wait_s=asked.wait_s, closing=jobs.close)
