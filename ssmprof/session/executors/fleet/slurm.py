"""Jobs of Slurm through dask-jobqueue: a worker with one GPU in each, the scheduler here."""

from __future__ import annotations

import subprocess
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from distributed.security import Security

from ssmprof.errors import ConfigError
from ssmprof.session.executors.fleet import keys
from ssmprof.session.executors.fleet.asked import SlurmAsked
from ssmprof.session.executors.fleet.post import RESOURCE


class SlurmJobs:
    """A cluster with its jobs submitted; closing it ends them and removes the keys."""

    def __init__(self, asked: SlurmAsked, security: Security) -> None:
        """Raises ConfigError where dask-jobqueue is missing, or Slurm takes no job."""
        try:
            from dask_jobqueue.slurm import SLURMCluster
        except ImportError as error:
            raise ConfigError(
                "a fleet of Slurm needs dask-jobqueue",
                cause=str(error),
                fix="pip install 'ssmprof[fleet]'",
            ) from None
        self._folder = _own_folder(asked.shared)
        self.cluster: Any = None
        try:
            keys.write(security, Path(self._folder))
            placed = keys.placed(self._folder)
            self.cluster = SLURMCluster(security=placed, **options(asked, self._folder))
            _try(self.cluster.job_script())
            self.cluster.scale(jobs=asked.jobs)
        except (OSError, RuntimeError, ValueError) as error:
            self.close()
            raise ConfigError(
                f"Slurm takes no job: {' '.join(str(error).split())[:400]}",
                fix="sbatch must work here; partition, account, directives are fields of the file",
            ) from None

    def close(self) -> None:
        """End the jobs, and remove the keys."""
        cluster, self.cluster = self.cluster, None
        try:
            if cluster is not None:
                cluster.close()
        finally:
            rmtree(self._folder, ignore_errors=True)


def options(asked: SlurmAsked, folder: str) -> dict[str, Any]:
    """What dask-jobqueue is asked for; `folder` takes keys and logs."""
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
        "shared_temp_directory": folder,
        "log_directory": folder,
        "python": asked.python,
        "scheduler_options": {"port": 0, "dashboard": False, "dashboard_address": ":0"},
        "silence_logs": "critical",
    }
    if asked.interface is not None:
        found["interface"] = asked.interface
    if asked.host is not None:
        found["scheduler_options"]["host"] = asked.host
    return found


def _try(script: str) -> None:
    """Ask Slurm whether it would take such a job. Raises OSError and RuntimeError."""
    done = subprocess.run(
        ["sbatch", "--test-only"], input=script, capture_output=True, text=True, timeout=60
    )
    if done.returncode:
        raise RuntimeError(done.stderr)


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
