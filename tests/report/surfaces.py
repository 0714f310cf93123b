"""A run of the strategy `surface` with planted times: the strategy itself asks for its points."""

from __future__ import annotations

import make
from msgspec.structs import replace

from ssmprof.planning import library, scenario
from ssmprof.planning.strategies import surface
from ssmprof.records import Outcome, Point, Run

SCENARIO = scenario.load(library.find("serving"))
MACHINE = make.environment(device="NVIDIA H200", chip="h200-sxm", memory_bytes=141 * 2**30)


def truth(point: Point) -> float:
    """Weights once, states per sequence, keys per token; the transformer's keys are the most."""
    keys = {"transformer": 4e-9, "hybrid": 2e-9, "mamba2": 0.0}[point.block]
    state = {"transformer": 0.0, "hybrid": 5e-6, "mamba2": 1.2e-5}[point.block]
    weights = {"transformer": 2.2e-4, "hybrid": 2.35e-4, "mamba2": 2.4e-4}[point.block]
    if point.phase == "prefill":
        return 3e-4 + 1.6e-6 * point.tokens + 30 * keys * point.past
    return weights + point.batch * (state + keys * point.context)


def planted() -> Run:
    """Everything the strategy asks for, measured without noise in as many steps as it takes."""
    outcomes: list[Outcome] = []
    while asked := surface.next_step(SCENARIO, outcomes).asked:
        for job in (job for one in asked for job in one.jobs()):
            time_s = truth(job.point)
            one = make.measurement(job.point.block)
            others = [b.name for b in SCENARIO.blocks if b.name != job.point.block]
            outcomes.append(
                replace(
                    one, point=job.point, round=job.round, beside=", ".join(others),
                    times_s=tuple(time_s * (1 + k * 1e-4) for k in range(6)),
                    environment=MACHINE.fingerprint,
                )
            )  # fmt: skip
    return make.run(
        *outcomes, asked=SCENARIO, environments={MACHINE.fingerprint: MACHINE},
        created_unix_s=1.79e9, command="ssmprof sweep serving",
    )  # fmt: skip
