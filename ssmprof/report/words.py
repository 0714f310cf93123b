"""Small phrases shared by page and terminal: conditions, intervals, providers."""

from __future__ import annotations

from collections.abc import Iterable

from ssmprof.analysis.findings import Facet
from ssmprof.records import Environment, Measurement, Run
from ssmprof.report.intervals import Interval
from ssmprof.spec import Phase
from ssmprof.units import format_context, format_ratio, format_time

_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_EXECUTIONS = {"graph": "CUDA graph", "eager": "eager"}
_LOGITS = {"none": "no logits", "last": "last logits", "all": "all logits"}


def conditions(facet: Facet, environment: Environment | None) -> list[str]:
    """What a comparison holds fixed: `Prefill`, `batch 1`, `bf16`, `CUDA graph`, `no logits`."""
    cpu = environment is not None and environment.kind == "cpu"
    return [
        facet.phase.capitalize(),
        f"batch {facet.batch}",
        _DTYPES.get(facet.dtype, facet.dtype),
        "CPU, wall clock" if cpu else _EXECUTIONS.get(facet.execution, facet.execution),
        _LOGITS.get(facet.logits, facet.logits),
    ]


def providers(measured: Iterable[Measurement], phase: Phase) -> str:
    """`attention_prefill sdpa-cudnn, ssd_scan own`: who implements the ops that mix tokens.

    Other ops are listed with the environment; these move a crossover.
    """
    other = ("_prefill", "_scan") if phase == "decode" else ("_decode", "_update")
    seen: dict[str, list[str]] = {}
    for one in measured:
        for op, provider in one.providers.items():
            mixes = any(word in op for word in ("attention", "scan", "state_update"))
            if not mixes or op.endswith(other):
                continue
            names = seen.setdefault(op, [])
            if provider not in names:
                names.append(provider)
    return ", ".join(f"{op} {'/'.join(sorted(names))}" for op, names in sorted(seen.items()))


def interval_of_contexts(interval: tuple[float, float] | None) -> str:
    """`[8.9K, 9.7K]`, or nothing where there is none."""
    return f"[{format_context(interval[0])}, {format_context(interval[1])}]" if interval else ""


def time_with_interval(found: Interval) -> str:
    """`349 ms [346, 352]`, the bounds in the unit of the value; a range is called one."""
    text = format_time(found.value)
    number, unit = text.rsplit(" ", 1)
    plain = float(number.replace(",", ""))
    scale = found.value / plain if plain else 1.0
    digits = len(number.partition(".")[2])
    low, high = (f"{bound / scale:,.{digits}f}" for bound in (found.low, found.high))
    return f"{number} {unit}{_bounds(found, low, high)}"


def ratio_with_interval(found: Interval) -> str:
    """`6.8x [6.7, 6.9]`."""
    low, high = (format_ratio(bound)[:-1] for bound in (found.low, found.high))
    return f"{format_ratio(found.value)}{_bounds(found, low, high)}"


def _bounds(found: Interval, low: str, high: str) -> str:
    """An interval in brackets; too few rounds for one give a range in words, or nothing."""
    if found.confident:
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
