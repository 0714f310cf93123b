"""Small phrases shared by page and terminal: conditions, intervals, providers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ssmprof.analysis.compare.answer import Answer, RatioPoint
from ssmprof.analysis.decide.question import Gain
from ssmprof.analysis.findings import Estimate
from ssmprof.records import Conditions, Environment, Run
from ssmprof.scalars import Phase
from ssmprof.units import format_ratio, format_time

_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_EXECUTIONS = {"graph": "CUDA graph", "eager": "eager"}
_LOGITS = {"none": "no logits", "last": "last logits", "all": "all logits"}


def conditions(found: Conditions, environment: Environment | None) -> list[str]:
    """What a comparison holds fixed: `Prefill`, `batch 1`, `bf16`, `CUDA graph`, `no logits`."""
    cpu = environment is not None and environment.kind == "cpu"
    chunk = f" in chunks of {found.chunk:,}" if found.chunk else ""
    return [
        f"{found.phase.capitalize()}{chunk}",
        f"batch {found.batch}",
        _DTYPES.get(found.dtype, found.dtype),
        "CPU, wall clock" if cpu else _EXECUTIONS.get(found.execution, found.execution),
        _LOGITS.get(found.logits, found.logits),
    ]


def heads(answers: Sequence[Answer]) -> list[str]:
    """What tells answers apart, for the head of a column each: `prefill b1 graph`."""
    several = len({one.conditions.device for one in answers}) > 1
    mixed = len({one.conditions.dtype for one in answers}) > 1
    metrics = len({one.metric for one in answers}) > 1
    found: list[str] = []
    for one in answers:
        asked = one.conditions
        where = f"{asked.device}: " if several else ""
        metric = f"{one.metric}, " if metrics else ""
        dtype = f" {asked.dtype}" if mixed else ""
        found.append(f"{where}{metric}{asked.phase} b{asked.batch} {asked.execution}{dtype}")
    return found


def providers(used: Iterable[Mapping[str, str]], phase: Phase) -> str:
    """`attention_prefill sdpa-cudnn, ssd_scan own`: who implements the ops that mix tokens.

    Other ops are listed with the environment; these move a crossover.
    """
    other = ("_prefill", "_scan") if phase == "decode" else ("_decode", "_update")
    seen: dict[str, list[str]] = {}
    for one in used:
        for op, provider in one.items():
            mixes = any(word in op for word in ("attention", "scan", "state_update"))
            if not mixes or op.endswith(other):
                continue
            names = seen.setdefault(op, [])
            if provider not in names:
                names.append(provider)
    return ", ".join(f"{op} {'/'.join(sorted(names))}" for op, names in sorted(seen.items()))


def time_with_interval(found: Estimate) -> str:
    """`349 ms [346, 352]`, the bounds in the unit of the value; a range is called one."""
    text = format_time(found.value)
    number, unit = text.rsplit(" ", 1)
    plain = float(number.replace(",", ""))
    scale = found.value / plain if plain else 1.0
    digits = len(number.partition(".")[2])
    bounds = found.interval or found.spread
    low, high = (f"{bound / scale:,.{digits}f}" for bound in bounds)
    return f"{number} {unit}{_bounds(found.interval is not None, low, high)}"


def ratio_with_interval(found: RatioPoint) -> str:
    """`6.8x [6.7, 6.9]`: the interval is the one that decides the sign."""
    low, high = (format_ratio(bound)[:-1] for bound in found.interval)
    return f"{format_ratio(found.ratio)} [{low}, {high}]"


def gain_with_interval(found: Gain) -> str:
    """`6.8x [6.7, 6.9]` of the one comparison."""
    low, high = (format_ratio(bound)[:-1] for bound in found.interval)
    return f"{format_ratio(found.ratio)} [{low}, {high}]"


def _bounds(confident: bool, low: str, high: str) -> str:
    """An interval in brackets; too few processes for one give a range in words, or nothing."""
    if confident:
        return f" [{low}, {high}]"
    return "" if low == high else f" (range {low} to {high})"


def percent(share: float) -> str:
    """`39.5 %`."""
    return f"{share * 100:.1f} %"


def published_banner(run: Run) -> str:
    """What must stand above numbers that were not measured here."""
    if run.origin == "measured":
        return ""
    source = f" Source: {run.source}." if run.source else ""
    return f"Published numbers, read from elsewhere: ssmprof did not measure them.{source}"
