"""Factories with defaults and a virtual device, so that a test names only what it is about.

`power_law(attention=(1.0, 2.0), mamba2=(8000.0, 1.0))` is a `measure` whose contenders take
coefficient * context ** exponent nanoseconds: those two cross at 8,000 tokens by algebra.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.delta.shape import Delta, GatedDelta, Kda
from ssmprof.mixers.linear_attention.shape import Gla, Lightning, RetNet
from ssmprof.mixers.lstm.shape import Gru, Lstm
from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.mamba3.shape import Mamba3
from ssmprof.mixers.mla.shape import Latent
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.mlstm.shape import Mlstm
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.part import Part
from ssmprof.mixers.plamo2.shape import Plamo2
from ssmprof.mixers.rglru.shape import RgLru
from ssmprof.mixers.rwkv7.shape import Rwkv7, Rwkv7Ffn
from ssmprof.mixers.short_conv.shape import ShortConv
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.records import (
    WORKLOADS,
    Attribution,
    Decision,
    Environment,
    Failure,
    FailureReason,
    Job,
    KernelTime,
    Measurement,
    Memory,
    Note,
    NoteKind,
    Outcome,
    Point,
    Run,
    Sampling,
    Span,
    Trial,
    Visit,
)
from ssmprof.scalars import digest
from ssmprof.session.executors.virtual import in_turn
from ssmprof.spec import Budget, Passes, Scenario, Sweep

Measure = Callable[[Iterable[Job | Visit]], Iterator[Outcome]]

LAYERS = {
    "attention": "attention mlp",
    "mamba1": "mamba1",
    "mamba2": "mamba2",
    "hybrid": "mamba2 mlp attention mlp",
    "parallel": "[attention mamba2] mlp",
}
PARTS: dict[str, Part] = {
    "attention": Attention(heads=4, kv_heads=2, head_dim=16),
    "mamba1": Mamba1(d_inner=128, d_state=16, dt_rank=4),
    "mamba2": Mamba2(d_inner=128, d_state=16, headdim=32),
    "mamba3": Mamba3(d_inner=128, d_state=16, headdim=32),
    "mla": Latent(heads=4, kv_lora_rank=24, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=12),
    "mlp": Mlp(d_ff=128),
    "delta": Delta(heads=4, key_dim=16, value_dim=32),
    "gated_delta": GatedDelta(heads=4, key_heads=2, key_dim=16, value_dim=32),
    "kda": Kda(heads=4, key_dim=16, value_dim=16, rank=8),
    "gla": Gla(heads=4, key_dim=16, value_dim=32),
    "retnet": RetNet(heads=4, key_dim=16, value_dim=32),
    "lightning": Lightning(heads=4, key_dim=16, value_dim=16),
    "rwkv7": Rwkv7(heads=4, head_dim=16, decay_rank=8, step_rank=6, gate_rank=10),
    "rwkv7_ffn": Rwkv7Ffn(width=64, d_ff=96),
    "short_conv": ShortConv(width=80),
    "rglru": RgLru(width=96, heads=4),
    "mlstm": Mlstm(heads=4, key_dim=16, value_dim=24),
    "lstm": Lstm(hidden=64),
    "gru": Gru(hidden=64),
    "plamo2": Plamo2(d_inner=128, d_state=16, headdim=32, dt_rank=8),
    "moe": Moe(experts=8, experts_per_token=3, d_ff=32),
}
QUICK = Budget(rounds=3, min_samples=3, min_time_s=0.0, max_noise=0.5, point_s=0.5, timeout_s=30.0)
LATENCY_ONLY = Passes(parts=False, memory="off", energy=False, host=False, cupti=False)


def block(name: str = "mamba2", depth: int = 1, **changes: Any) -> Recipe:
    """A tiny model; its layers follow its name (`LAYERS`), one Mamba-2 layer otherwise.

    `layers` is another line of them, repeated `depth` times; parts are given under their names.
    """
    line = changes.pop("layers", LAYERS.get(name, "mamba2"))
    parts = PARTS | {key: changes.pop(key) for key in [*changes] if isinstance(changes[key], Part)}
    d_model = changes.pop("d_model", 64)
    return recipe(name, d_model, f"({line})*{depth}", parts, merge="mean", **changes)


def point(block_name: str = "mamba2", context: int = 1024, **changes: Any) -> Point:
    """A point of the tiny block of that name: prefill in float32, eager, unless told otherwise."""
    phase = changes.pop("phase", "prefill")
    values: dict[str, Any] = {
        "block": block_name,
        "block_digest": digest(block(block_name)),
        "workload": WORKLOADS[phase](context=context),
        "dtype": "float32",
        "execution": "eager",
    }
    return Point(**(values | changes))


def job(block_name: str = "mamba2", context: int = 1024, **changes: Any) -> Job:
    """A job of round 0; `round`, `budget`, `passes` and `subject` as of Job, the rest of Point."""
    mine: dict[str, Any] = {
        "subject": block(block_name),
        "round": 0,
        "budget": QUICK,
        "passes": LATENCY_ONLY,
    }
    for name in mine.keys() & changes.keys():
        mine[name] = changes.pop(name)
    return Job(point=point(block_name, context, **changes), **mine)


def visit(
    *names: str, contexts: tuple[int, ...] = (64, 128), round: int = 7, **changes: Any
) -> Visit:
    """A visit of tiny blocks (attention and mamba2 by default) at these contexts.

    `budget` and `sampling` as of Visit, the rest of Point.
    """
    names = names or ("attention", "mamba2")
    mine: dict[str, Any] = {"budget": QUICK, "sampling": Sampling(pairs=4)}
    for name in mine.keys() & changes.keys():
        mine[name] = changes.pop(name)
    return Visit(
        subjects=tuple(block(name) for name in names),
        points=tuple(tuple(point(name, c, **changes) for name in names) for c in contexts),
        round=round,
        **mine,
    )


def environment(**changes: Any) -> Environment:
    """A virtual CUDA device."""
    values: dict[str, Any] = {
        "device": "Virtual GPU",
        "kind": "cuda",
        "ssmprof": "0.1.0",
        "python": "3.11.0",
        "platform": "linux-x86_64",
        "memory_bytes": 80 * 2**30,
    }
    return Environment(**(values | changes))


ENVIRONMENT = environment()


def attribution(whole_s: float = 1e-3, **shares: float) -> Attribution:
    """Parts by family: `attribution(1e-3, scan=0.6, gemm=0.4)`."""
    shares = shares or {"scan": 0.6, "gemm": 0.4}
    kernels = tuple(
        KernelTime(
            scope=f"layers.0.mixer.{family}",
            op=f"ssmprof::{family}",
            kernel=f"_{family}_kernel",
            family=family.replace("_", "-"),  # type: ignore[arg-type]
            calls=1,
            times_s=(whole_s * share,) * 3,
        )
        for family, share in shares.items()
    )
    return Attribution(
        route="graph-events",
        kernels=kernels,
        whole_s=whole_s,
        closure=abs(1.0 - sum(shares.values())),
        marks=len(kernels),
        mark_cost_s=2.56e-6,
    )


def note(kind: NoteKind = "noisy", text: str = "virtual") -> Note:
    """A tag."""
    return Note(kind=kind, text=text)


def memory(context: int = 1024, **changes: Any) -> Memory:
    """Fixed weights and state, a KV cache of one KiB per token."""
    weights, kv, state = 10 * 2**20, context * 2**10, 2**20
    values: dict[str, Any] = {
        "weights_bytes": weights,
        "kv_bytes": kv,
        "conv_state_bytes": 0,
        "ssm_state_bytes": state,
        "logits_bytes": 0,
        "activation_peak_bytes": context * 2**12,
        "allocator_peak_bytes": weights + kv + state + context * 2**12,
        "fresh": True,
    }
    return Memory(**(values | changes))


def measurement(
    block_name: str = "mamba2", context: int = 1024, time_s: float = 1e-3, **changes: Any
) -> Measurement:
    """Three equal samples; `point` or fields of Point may be given beside those of Measurement."""
    fields = set(Measurement.__struct_fields__)
    mine = {name: value for name, value in changes.items() if name in fields}
    rest = {name: value for name, value in changes.items() if name not in fields}
    asked = mine.pop("point", None) or point(block_name, context, **rest)
    values: dict[str, Any] = {
        "point": asked,
        "round": 0,
        "environment": ENVIRONMENT.fingerprint,
        "times_s": (time_s,) * 3,
        "timer": "cuda-graph" if asked.execution == "graph" else "wall-clock",
        "cold_s": 0.0,
    }
    return Measurement(**(values | mine))


def failure(
    block_name: str = "mamba2",
    context: int = 1024,
    reason: FailureReason = "out-of-memory",
    **changes: Any,
) -> Failure:
    """A point that could not be measured."""
    fields = set(Failure.__struct_fields__)
    mine = {name: value for name, value in changes.items() if name in fields}
    rest = {name: value for name, value in changes.items() if name not in fields}
    values: dict[str, Any] = {
        "point": mine.pop("point", None) or point(block_name, context, **rest),
        "round": 0,
        "environment": ENVIRONMENT.fingerprint,
        "reason": reason,
        "detail": "virtual",
    }
    return Failure(**(values | mine))


def decision(block_name: str = "mamba2", **changes: Any) -> Decision:
    """`fast` against `steady` at two lengths: it wins the first in both processes, no second.

    `device`, and fields of Point, may be given beside those of Decision.
    """
    device = changes.pop("device", ENVIRONMENT.device)
    fields = set(Decision.__struct_fields__)
    rest = {name: changes.pop(name) for name in changes.keys() - fields}
    asked = point(block_name, **rest)
    won, lost = (-0.05, 0.01), (0.02, 0.03)
    values: dict[str, Any] = {
        "block": block_name,
        "block_digest": asked.block_digest,
        "conditions": asked.conditions(device),
        "op": "rms_norm",
        "incumbent": "steady",
        "contexts": (704, 1472),
        "providers": ("fast", "steady"),
        "shares": (0.25, 0.125),
        "spans": (Span(provider="fast", up_to=1018.0), Span(provider="steady", above=1018.0)),
        "trials": tuple(
            Trial(
                context=context,
                process=process,
                provider=name,
                incumbent="steady",
                outcome="won" if log_ratio < 0 else "lost",
                cold_s=1e-5,
                incumbent_cold_s=1.1e-5,
                log_ratio=log_ratio + 0.001 * process,
                error=0.002,
                pairs=12,
            )
            for context, ratios in ((704, won), (1472, lost))
            for name, log_ratio in zip(("fast", "late"), ratios, strict=True)
            for process in (0, 1)
        ),
        "environment": ENVIRONMENT.fingerprint,
    }
    return Decision(**(values | changes))


def scenario(
    *names: str,
    contexts: tuple[int, ...] = (512, 1024, 2048, 4096),
    budget: Budget = QUICK,
    passes: Passes = LATENCY_ONLY,
    device: str = "any",
    **sweep: Any,
) -> Scenario:
    """Tiny blocks of these names (attention and mamba2 by default); the rest are axes of Sweep."""
    axes: dict[str, Any] = {"contexts": contexts, "dtype": "float32", "execution": ("eager",)}
    return Scenario(
        name="virtual",
        question="Which is faster?",
        sweep=Sweep(**(axes | sweep)),
        blocks=tuple(block(name) for name in names or ("attention", "mamba2")),
        budget=budget,
        passes=passes,
        device=device,  # type: ignore[arg-type]
    )


def jobs(asked: Scenario) -> tuple[Job, ...]:
    """Every combination of the axes in every round, in the plainest order."""
    axes = asked.sweep
    return tuple(
        Job(
            point=Point(
                block=subject.name,
                block_digest=digest(subject),
                workload=WORKLOADS[phase](context=context),
                batch=batch,
                dtype=axes.dtype,
                execution=execution,
                logits=axes.logits,
                seed=asked.seed,
            ),
            subject=subject,
            round=number,
            budget=asked.budget,
            passes=asked.passes,
        )
        for number in range(asked.budget.rounds)
        for subject in asked.blocks
        for phase in axes.phase
        for batch in axes.batch
        for context in axes.contexts
        for execution in axes.execution
    )


def run(*outcomes: Outcome, asked: Scenario | None = None, **changes: Any) -> Run:
    """A run of these outcomes on the virtual device; its scenario names the blocks it holds."""
    names = dict.fromkeys(outcome.point.block for outcome in outcomes)
    contexts = sorted({outcome.point.context for outcome in outcomes}) or [512]
    values: dict[str, Any] = {
        "scenario": asked or scenario(*names, contexts=tuple(contexts)),
        "environments": {ENVIRONMENT.fingerprint: ENVIRONMENT},
        "outcomes": outcomes,
    }
    return Run(**(values | changes))


def measured(asked: Scenario, measure: Measure, **changes: Any) -> Run:
    """The run that `measure` gives for every job of the scenario."""
    return run(*measure(jobs(asked)), asked=asked, **changes)


def power_law(
    noise: float = 0.0, between: float = 0.0, samples: int = 5, seed: int = 0, **laws: Any
) -> Measure:
    """A virtual device: block name -> (coefficient in ns, exponent of the context).

    A visit gets as many samples as it asks for pairs.

    `noise` is the relative standard deviation of samples, `between` that of whole rounds (each
    block in each round gets one factor), both log-normal; the same seed gives the same numbers.
    """

    def measure(todo: Iterable[Job | Visit]) -> Iterator[Outcome]:
        for asked in todo:
            many = samples if isinstance(asked, Job) else asked.sampling.pairs
            for one in asked.jobs():
                coefficient, exponent = laws[one.point.block]
                whole = coefficient * 1e-9 * one.point.context**exponent
                worker = random.Random(f"{seed} {one.point.block} {one.round}")
                whole *= math.exp(between * worker.gauss(0, 1))
                draw = random.Random(f"{seed} {one.key}")
                times = tuple(whole * math.exp(noise * draw.gauss(0, 1)) for _ in range(many))
                measured = measurement(point=one.point, round=one.round, times_s=times)
                yield measured if isinstance(asked, Job) else in_turn(measured, asked)

    return measure


def measured_by(formula: Callable[[Job], Outcome]) -> Measure:
    """A virtual device that answers each job by `formula`."""

    def measure(todo: Iterable[Job]) -> Iterator[Outcome]:
        for one in todo:
            yield formula(one)

    return measure


def dies_above(
    context: int, measure: Measure, reason: FailureReason = "out-of-memory", only: str | None = None
) -> Measure:
    """The same device with a limit: beyond `context` tokens a point (of block `only`) fails."""

    def limited(todo: Iterable[Job]) -> Iterator[Outcome]:
        for one in todo:
            if one.point.context > context and only in (None, one.point.block):
                yield failure(point=one.point, round=one.round, reason=reason)
            else:
                yield from measure([one])

    return limited
