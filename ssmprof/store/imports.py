"""Published measurements as runs, marked as such: nothing here was measured by ssmprof.

`ssm_scope` makes a run of the Orin Nano tables of SSM-Scope (arXiv:2507.12442, MIT licence), which
travel with this package. Time there is device time of the kernels of one forward, summed by torch's
profiler: no latency was published, and shares are shares of device time.
"""

from __future__ import annotations

from pathlib import Path

from ssmprof.records import (
    Attribution,
    Environment,
    Family,
    KernelTime,
    Measurement,
    Memory,
    Point,
    Prefill,
    Run,
)
from ssmprof.scalars import Architecture, Dtype, digest
from ssmprof.spec import Budget, ForeignSpec, Passes, Scenario, Sweep
from ssmprof.store.ssm_scope import FOLDER, UNCOUNTED, Footprint, Op, memory_rows, ops, whole

SOURCE = (
    "SSM-Scope, Mitra et al., ISPASS 2026, arXiv:2507.12442, github.com/sapmitra/SSM-Scope at "
    "574a2c2, MIT licence, copyright 2026 Saptarshi Mitra"
)
# Below, the board waited for its host and its clocks fell: such times say nothing of the blocks.
COMPARABLE_FROM = 4096
# What the paper calls GEMM holds attention, and its SSM_Scan holds stand-alone convolutions: an op
# of a known name counts as what it is. Fused functions hold projections, too, which no name tells.
_BY_OP: dict[str, Family] = {
    "aten::scaled_dot_product_attention": "attention",
    "causalconv1dfn": "conv",
}
_BY_CATEGORY: dict[str, Family] = {
    "SSM_Scan": "scan", "GEMM": "gemm", "normalization": "norm", "embedding": "embedding",
    "memory": "copy", "arithmetic": "elementwise", "activation": "elementwise",
    "logit_computation": "elementwise", "other": "other",
}  # fmt: skip
_ARCHITECTURES: dict[str, Architecture] = {
    "mamba-130m": "ssm", "mamba2-130m": "ssm", "mamba-790m": "ssm", "mamba2-780m": "ssm",
    "hymba-1.5b": "hybrid", "zamba2-1.2b": "hybrid", "falcon-h1-0.5b": "hybrid",
}  # fmt: skip


def ssm_scope(folder: Path = FOLDER) -> Run:
    """The profiled prefills as a run of origin "published"; raises ConfigError on a bad table."""
    runs = ops(folder)
    footprints = {(one.model, one.context): one for one in memory_rows(folder)}
    subjects = {model: _subject(model) for model, _ in runs}
    machine = _machine()
    outcomes = tuple(
        _measurement(subjects[model], context, rows, footprints.get((model, context)), machine)
        for (model, context), rows in runs.items()
    )
    return Run(
        scenario=Scenario(
            name="ssm-scope-orin-nano",
            question="Where does device time go on an Orin Nano 8GB, as published by SSM-Scope?",
            sweep=Sweep(
                contexts=tuple(sorted({context for _, context in runs})),
                dtype="float16",
                execution=("eager",),
                logits="all",
            ),
            blocks=tuple(subjects.values()),
            budget=Budget(rounds=1),
            passes=Passes(energy=False),
            device="cuda",
        ),
        environments={machine.fingerprint: machine},
        outcomes=outcomes,
        origin="published",
        source=SOURCE,
        comparable_from=COMPARABLE_FROM,
    )


def _subject(model: str) -> ForeignSpec:
    architecture = _ARCHITECTURES.get(model, "transformer")
    return ForeignSpec(name=model, factory=f"published:{model}", architecture=architecture)


def _machine() -> Environment:
    reason = "not published"
    return Environment(
        device="Jetson Orin Nano 8GB (published by SSM-Scope)",
        kind="cuda",
        chip="orin-nano-8gb-super",
        compute_capability="8.7",
        unified_memory=True,
        cuda="12.6",
        torch="2.8.0",
        triton="3.4.0",
        python=reason,
        platform="linux-aarch64",
        ssmprof="none",
        board="Orin Nano 8GB",
        power_mode="MAXN",
        clocks_locked=False,
        providers={"mamba_ssm": "2.2.5", "causal_conv1d": "1.5.2"},
        missing={"l4t": f"{reason}; JetPack 6.2", "driver": reason},
    )


def _measurement(
    subject: ForeignSpec,
    context: int,
    rows: list[Op],
    footprint: Footprint | None,
    machine: Environment,
) -> Measurement:
    dtype: Dtype = "float16" if subject.architecture == "ssm" else "bfloat16"
    point = Point(
        block=subject.name,
        block_digest=digest(subject),
        workload=Prefill(context=context),
        dtype=dtype,
        execution="eager",
        logits="all",
    )
    counted = [op for op in rows if op.category != UNCOUNTED and op.device_s > 0]
    whole_s = whole(rows).device_s
    parts_s = sum(op.device_s for op in counted)
    return Measurement(
        point=point,
        round=0,
        environment=machine.fingerprint,
        times_s=(whole_s,),
        timer="cuda-events",
        cold_s=None,
        attribution=Attribution(
            route="cupti",
            kernels=tuple(_kernel(op) for op in counted),
            whole_s=whole_s,
            closure=abs(whole_s - parts_s) / whole_s,
        ),
        memory=None if footprint is None else _memory(footprint),
    )


def _kernel(op: Op) -> KernelTime:
    return KernelTime(
        scope="",
        op=op.name,
        kernel=op.name,
        family=_BY_OP.get(op.name, _BY_CATEGORY.get(op.category, "other")),
        calls=op.calls,
        times_s=(op.device_s,),
    )


def _memory(row: Footprint) -> Memory:
    return Memory(
        weights_bytes=row.weights_bytes,
        kv_bytes=row.kv_bytes or 0,
        conv_state_bytes=0,
        ssm_state_bytes=0,
        logits_bytes=0,
        allocator_peak_bytes=row.peak_bytes,
        activation_peak_bytes=row.activation_bytes,
        allocator_reserved_bytes=row.reserved_bytes,
        slack_bytes=max(0, row.reserved_bytes - row.peak_bytes),
        missing={"logits_bytes": "published as part of the activations"},
    )
