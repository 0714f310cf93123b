"""Runs for the page's tests: small, virtual, with everything a page can show."""

from __future__ import annotations

import math
from collections.abc import Iterator

import make
from msgspec.structs import replace

from ssmprof.records import (
    Calibration,
    Check,
    Decision,
    Energy,
    Job,
    Note,
    Outcome,
    Prefill,
    Run,
    TelemetrySample,
    Trial,
)
from ssmprof.spec import Scenario
from ssmprof.work import Cost

LAWS = {
    "attention": (1.0, 2.0),
    "mamba1": (9500.0, 1.02),
    "mamba2": (8000.0, 1.0),
    "hybrid": (800.0, 1.2),
}
CHECKED = Calibration(
    repeat_noise=0.004,
    copy_bytes_per_s=2.9e12,
    matmul_flops=7.2e14,
    checks=(
        Check(name="timer", level="ok", text="event pair in a graph 1.3 µs"),
        Check(name="clocks", level="warn", text="not locked", fix="sudo nvidia-smi -lgc 1980"),
    ),
)
MACHINE = make.environment(
    device="NVIDIA H100 80GB HBM3", chip="h100-sxm", calibration=CHECKED, clocks_locked=False,
    missing={"energy": "not asked for"},
)  # fmt: skip


def rich(
    contexts: tuple[int, ...] = tuple(2**power for power in range(9, 16)), **sweep: object
) -> Run:
    """Four contenders, both phases, both executions, parts, memory, energy, failures, telemetry."""
    axes = {"phase": ("prefill", "decode"), "execution": ("graph", "eager"), "dtype": "bfloat16"}
    asked = make.scenario(*LAWS, contexts=contexts, **(axes | sweep))  # type: ignore[arg-type]
    outcomes = (_outcome(job) for job in make.jobs(asked))
    telemetry = tuple(
        TelemetrySample(
            unix_s=1.79e9 + second, sm_hz=1.9e9, temperature_c=40 + second / 10,
            power_w=300 + second, throttle=("sw-power-cap",) if second in (8, 9) else (),
        )
        for second in range(20)
    )  # fmt: skip
    return make.run(
        *outcomes, asked=asked, environments={MACHINE.fingerprint: MACHINE},
        created_unix_s=1.79e9, command="ssmprof sweep crossover -o /root/secret/run",
        telemetry=telemetry, decisions=tuple(_decisions()),
    )  # fmt: skip


def _decisions() -> Iterator[Decision]:
    """One that agrees and one that does not, and what was not timed beside it."""
    common = {"device": MACHINE.device, "environment": MACHINE.fingerprint, "dtype": "bfloat16"}
    first = make.decision("attention", **common)
    refused = Trial(
        context=704, process=0, provider="old", incumbent="steady", outcome="refused",
        detail="takes no bfloat16",
    )  # fmt: skip
    yield replace(first, trials=(*first.trials, refused))
    yield make.decision("mamba2", disagreed=(1472,), **common)


def _outcome(job: Job) -> Outcome:
    point = job.point
    if point.block == "attention" and point.context > 16384:
        return make.failure(
            point=point, round=job.round, environment=MACHINE.fingerprint,
            detail="CUDA out of memory", asked_bytes=90 * 2**30,
        )  # fmt: skip
    coefficient, exponent = LAWS[point.block]
    whole = (1e5 + coefficient * point.context**exponent) * 1e-9 * (1 + 0.004 * job.round)
    if point.phase == "decode":
        whole = 5e-5 + (1e-9 * point.context if point.block in ("attention", "hybrid") else 0.0)
    gap = 2e-3 if point.execution == "eager" else 0.0
    scan = 0.2 + 0.4 * math.log2(point.context) / 18
    parts = {"attention": scan} if point.block == "attention" else {"scan": scan, "conv": 0.05}
    parts |= {"gemm": 0.9 - sum(parts.values()), "norm": 0.06, "copy": 0.02, "other": 0.02}
    return make.measurement(
        point=point, round=job.round, environment=MACHINE.fingerprint,
        times_s=tuple(gap + whole * (1 + 0.001 * turn) for turn in range(5)),
        attribution=make.attribution(whole, **parts), memory=make.memory(point.context),
        energy=Energy(
            energy_j=whole * 300, mean_power_w=300, window_s=5, calls=10,
            source="nvml.total_energy", scope="device",
        ),
        cost=Cost(flops=point.context * 1e9, read_bytes=1e9, written_bytes=1e8, exps=1e6),
        providers={"attention": "sdpa-cudnn"}, launches=40,
        notes=(Note(kind="noisy", text="not within 1 %"),) if point.context == 512 else (),
    )  # fmt: skip


def hostile() -> Run:
    """Names that would break a page which trusts them."""
    evil = "</script><img src=x onerror=alert(1)>"
    rtl = "\u202eabc\u202c" + "k" * 200
    asked: Scenario = make.scenario("attention", "mamba2")
    blocks = (replace(asked.blocks[0], name=evil), replace(asked.blocks[1], name=rtl))
    asked = replace(asked, blocks=blocks, question=evil, name=evil)
    machine = replace(MACHINE, device=evil, git=evil, providers={evil: evil})

    def outcomes() -> Iterator[Outcome]:
        for job in make.jobs(asked):
            kernels = make.attribution(1e-3, scan=0.6, gemm=0.39)
            kernels = replace(
                kernels, kernels=tuple(replace(k, kernel=evil, scope=rtl) for k in kernels.kernels)
            )
            yield make.measurement(
                point=job.point, round=job.round, environment=machine.fingerprint,
                times_s=(1e-3,) * 3, attribution=kernels, providers={"scan": evil},
                notes=(Note(kind=evil, text=evil),),
            )  # fmt: skip
        yield make.failure(
            point=replace(job.point, workload=Prefill(context=8192)),
            environment=machine.fingerprint,
            detail=evil,
        )

    return make.run(
        *outcomes(), asked=asked, environments={machine.fingerprint: machine}, command=evil,
        source=evil,
    )  # fmt: skip
