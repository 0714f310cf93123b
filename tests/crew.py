"""Executors that workers of a fleet make: formulas on a virtual device, and how they die."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import fakes
import make

from ssmprof.measure.workers.client import Client
from ssmprof.records import Job, Outcome
from ssmprof.session.executors import Local, Virtual

DEATHS = "SSMPROF_TEST_DEATHS"  # a folder: a file `<block>` in it holds how many workers are to die


def dying(job: Job) -> Outcome:
    """The formula, unless the job's block is to kill its worker once more."""
    file = Path(os.environ[DEATHS]) / job.point.block
    if file.exists() and (left := int(file.read_text())):
        file.write_text(str(left - 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return fakes.formula(job)


def by_formula() -> Virtual:
    """A device that tells which worker it belongs to."""
    card = os.environ["CUDA_VISIBLE_DEVICES"]
    return Virtual(dying, make.environment(cpu=f"half {card}"))


def of_processes() -> Local:
    """The real executor, its workers formulas."""
    Client.__init__.__kwdefaults__["runner"] = fakes.RUNNER
    return Local("cpu")
