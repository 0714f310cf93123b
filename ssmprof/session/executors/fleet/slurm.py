"""Jobs of Slurm through dask-jobqueue: a worker with one GPU in each, the scheduler here."""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from distributed.security import Security

from ssmprof.errors import ConfigError
from ssmprof.session.executors.fleet.asked import SlurmAsked
from ssmprof.session.executors.fleet.post import RESOURCE


def slurm_cluster(asked: SlurmAsked, security: Security) -> Any:
    """A cluster with its jobs submitted. Raises ConfigError where that is refused."""
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise ConfigError(
            "a fleet of Slurm needs dask-jobqueue",
            cause=str(error),
            fix="pip install 'ssmprof[fleet]'",
        ) from None
    cluster = None
    try:
        cluster = SLURMCluster(security=security, **options(asked))
        cluster.scale(jobs=asked.jobs)
    except (OSError, RuntimeError, ValueError) as error:
        if cluster is not None:
            cluster.close()
        raise ConfigError(
            f"Slurm takes no job: {' '.join(str(error).split())[:400]}",
            fix="sbatch must work here; partition, account and directives are fields of the file",
        ) from None
    return cluster


def options(asked: SlurmAsked) -> dict[str, Any]:
    """What dask-jobqueue is asked for."""
    gpus = [f"--gpus={asked.gpus}"] if asked.gpus else []
    found: dict[str, Any] = {
        "queue": asked.partition,
        "account": asked.account,
        "walltime": asked.walltime,
        "cores": 1,  # of Dask: one job at a time
        "job_cpu": asked.cores,
        "processes": 1,
        "memory": asked.memory,
        "job_name": "ssmprof",
        "job_extra_directives": [*gpus, *asked.directives],
        "job_script_prologue": list(asked.prologue),
        "worker_extra_args": ["--resources", f"{RESOURCE}=1"],
        "shared_temp_directory": _own_folder(asked.shared),
        "python": asked.python,
        "scheduler_options": {"port": 0, "dashboard": False, "dashboard_address": ":0"},
        "silence_logs": "critical",
    }
    if asked.interface is not None:
        found["interface"] = asked.interface
    if asked.host is not None:
        found["scheduler_options"]["host"] = asked.host
    return found


def _own_folder(shared: str | None) -> str:
    """A new folder, for this user alone, that the nodes see."""
    above = Path(shared or "~").expanduser()
    try:
        return mkdtemp(prefix=".ssmprof-keys-", dir=above)
    except OSError as error:
        raise ConfigError(
            f"{above}: no place for keys: {error.strerror}",
            fix="shared = a folder that this host and the nodes see",
        ) from None
