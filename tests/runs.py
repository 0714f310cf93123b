"""A small run on disk, for tests of the commands that ask one."""

from __future__ import annotations

from pathlib import Path

import make
from msgspec.structs import replace

from ssmprof.records import Calibration, Run
from ssmprof.store import folder

CHECKED = make.environment(calibration=Calibration(repeat_noise=0.004))


def virtual(rounds: int = 3, **changes: object) -> Run:
    """Attention against Mamba-2, crossing near 8,800 tokens, with parts and memory."""
    contexts = tuple(2**power for power in range(9, 16))
    asked = make.scenario(
        "attention", "mamba2", contexts=contexts, budget=replace(make.QUICK, rounds=rounds)
    )
    laws = make.power_law(between=0.004, attention=(1, 2.0), mamba2=(8800, 1.0))
    outcomes = [
        replace(
            one, environment=CHECKED.fingerprint, attribution=make.attribution(one.time_s),
            memory=make.memory(one.point.context),
        )
        for one in laws(make.jobs(asked))
    ]  # fmt: skip
    values = {"asked": asked, "environments": {CHECKED.fingerprint: CHECKED}} | changes
    return make.run(*outcomes, **values)  # type: ignore[arg-type]


def written(path: Path, **changes: object) -> Path:
    """The same in a folder."""
    folder.write(path, virtual(**changes))  # type: ignore[arg-type]
    return path
