"""Executors that workers of a fleet make: formulas on a virtual device, and how they die."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import fakes
import make

from ssmprof.errors import NoDeviceError
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


def by_card() -> Virtual:
    """A device of one of two names: cards with an even number are fast."""
    card = os.environ["CUDA_VISIBLE_DEVICES"]
    name = "Slow GPU" if int(card) % 2 else "Fast GPU"
    return Virtual(dying, make.environment(device=name, cpu=f"host of {card}"))


def napping() -> Virtual:
    """A device that takes its time, so that a sweep can be hit."""
    card = os.environ["CUDA_VISIBLE_DEVICES"]
    return Virtual(_after_a_nap, make.environment(cpu=f"host of {card}"))


def _after_a_nap(job: Job) -> Outcome:
    time.sleep(float(os.environ.get(fakes.NAP, "0")))
    return fakes.formula(job)


class Missing:
    """A host without a GPU."""

    def __init__(self) -> None:
        raise NoDeviceError("no GPU found", cause="no driver")


def one_without() -> Virtual:
    """A device on every host but that of card 1."""
    if os.environ["CUDA_VISIBLE_DEVICES"] == "1":
        Missing()
    return by_formula()


# Preloaded by a worker (`dask worker --preload crew`): what is wrong with it.
WRONG = "SSMPROF_TEST_WRONG"


def dask_setup(worker: object) -> None:
    """Be another version, or answer rubbish, where the environment says so."""
    from ssmprof.session.executors.fleet import post

    match os.environ.get(WRONG):
        case "version":
            post.__version__ = "0.0.9"  # type: ignore[misc]
        case "rubbish":
            post.Post.answer = lambda self, letter: b"rubbish"  # type: ignore[method-assign]
        case "pickle":
            post.Post.answer = lambda self, letter: Evil()  # type: ignore[method-assign]


class Evil:
    """Whoever unpickles this writes a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path(os.environ[DEATHS]) / "unpickled",)
