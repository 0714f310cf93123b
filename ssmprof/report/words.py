"""Small phrases shared by page and terminal: conditions, intervals, providers."""

from __future__ import annotations

from collections.abc import Iterable

from ssmprof.analysis.findings import Facet
from ssmprof.records import Environment, Run
from ssmprof.report.intervals import Interval
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


def providers(found: Iterable[dict[str, str]]) -> str:
    """`attention sdpa-cudnn, ssd_scan own`: who implements each op, all variants seen."""
    seen: dict[str, list[str]] = {}
    for one in found:
        for op, provider in one.items():
            names = seen.setdefault(op, [])
            if provider not in names:
                names.append(provider)
    return ", ".join(f"{op} {'/'.join(sorted(names))}" for op, names in sorted(seen.items()))


def interval_of_contexts(interval: tuple[float, float] | None) -> str:
    """`[8.9K, 9.7K]`, or nothing where there is none."""
    return f"[{format_context(interval[0])}, {format_context(interval[1])}]" if interval else ""


def time_with_interval(found: Interval) -> str:
    """`349 ms [346, 352]`: the bounds in the unit of the value."""
    text = format_time(found.value)
    number, unit = text.rsplit(" ", 1)
    scale = found.value / float(number.replace(",", "")) if float(number.replace(",", "")) else 1.0
    digits = len(number.partition(".")[2])
    low, high = (f"{bound / scale:,.{digits}f}" for bound in (found.low, found.high))
    return f"{number} {unit} [{low}, {high}]"


def ratio_with_interval(found: Interval) -> str:
    """`6.8x [6.7, 6.9]`."""
    low, high = (format_ratio(bound)[:-1] for bound in (found.low, found.high))
    return f"{format_ratio(found.value)} [{low}, {high}]"


def percent(share: float) -> str:
    """`39.5 %`."""
    return f"{share * 100:.1f} %"


def published_banner(run: Run) -> str:
    """What must stand above numbers that were not measured here."""
    if run.origin == "measured":
        return ""
    source = f" Source: {run.source}." if run.source else ""
    return f"Published numbers, read from elsewhere: ssmprof did not measure them.{source}"
