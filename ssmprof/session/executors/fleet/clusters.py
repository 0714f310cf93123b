"""Clusters that are started for a run: one worker per device, each with cores of its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from distributed import Nanny, Scheduler, SpecCluster

from ssmprof.errors import NoDeviceError
from ssmprof.measure.environment import CARD
from ssmprof.session.executors.fleet.post import RESOURCE, SHARE

DEATHS = 3  # of workers in a row, over one job
START_S = 120.0
_QUIET: Any = logging.CRITICAL  # a level, although the type says bool
# Ctrl-C reaches every process of a terminal; what it means is for the parent to say.
_UNHEARD = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"


def on_this_host(
    devices: Sequence[str], *, each: bool = False, environ: Mapping[str, str] | None = None
) -> SpecCluster:
    """A worker for each value of CUDA_VISIBLE_DEVICES, on the loopback.

    With `each` every card is told apart by its value. `environ` is added to the workers'.
    """
    many = len(devices)
    workers = {
        number: {
            "cls": Nanny,
            "options": {
                "host": "127.0.0.1",
                "nthreads": 1,
                "resources": {RESOURCE: 1},
                "preload": [_UNHEARD],
                "silence_logs": _QUIET,
                "env": dict(environ or {})
                | ({CARD: device} if each else {})
                | {
                    "CUDA_VISIBLE_DEVICES": device,
                    "DASK_LOGGING__DISTRIBUTED": "critical",
                    SHARE: f"{number}/{many}",
                },
            },
        }
        for number, device in enumerate(devices)
    }
    options = {
        "host": "127.0.0.1",
        "port": 0,
        "dashboard": False,
        "dashboard_address": "127.0.0.1:0",
        "allowed_failures": DEATHS - 1,
    }
    return SpecCluster(
        workers=workers, scheduler={"cls": Scheduler, "options": options}, silence_logs=_QUIET
    )


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES leaves of this host's GPUs. Raises NoDeviceError where none is."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        import pynvml

        try:
            pynvml.nvmlInit()
            found = [str(number) for number in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError as error:
            raise NoDeviceError("no GPU found", cause=str(error)) from None
    else:
        found = [one.strip() for one in given.split(",") if one.strip()]
    if not found:
        raise NoDeviceError("no GPU found", cause="CUDA_VISIBLE_DEVICES is empty")
    return found
