"""The run as it is embedded in a page: enough to render the page again, small enough to mail.

Numbers carry five significant digits. Samples are thinned to the quantiles that keep their median;
per point the heaviest kernels stay and the others are summed per family.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from ssmprof.records import Attribution, Environment, KernelTime, Measurement, Run, encode, median
from ssmprof.report.redact import redact

KERNELS = 20
SAMPLES = 9
DIGITS = 5


def compact(run: Run, *, identifiers: bool) -> Run:
    """The run with thinned samples and kernels; identifiers redacted unless asked for."""
    outcomes = tuple(
        _measurement(one) if isinstance(one, Measurement) else one for one in run.outcomes
    )
    slim = replace(run, outcomes=outcomes, telemetry=run.telemetry[:: _step(len(run.telemetry))])
    if identifiers:
        return slim
    slim = replace(
        slim,
        command=redact(slim.command) if slim.command else None,
        outcomes=tuple(
            one if isinstance(one, Measurement) else replace(one, detail=redact(one.detail))
            for one in slim.outcomes
        ),
    )
    return _without_identifiers(slim)


def encoded(run: Run) -> bytes:
    """A run as JSON with short numbers."""
    return msgspec.json.encode(_shorten(msgspec.json.decode(encode(run))))


def _without_identifiers(run: Run) -> Run:
    """Redacted environments under their new fingerprints, and outcomes that refer to those."""
    names: dict[str, str] = {}
    machines: dict[str, Environment] = {}
    for fingerprint, machine in run.environments.items():
        clean = msgspec.convert(_redacted(msgspec.to_builtins(machine)), Environment)
        names[fingerprint] = clean.fingerprint
        machines[clean.fingerprint] = clean
    outcomes = tuple(
        replace(one, environment=names.get(one.environment, one.environment))
        for one in run.outcomes
    )
    return replace(run, environments=machines, outcomes=outcomes)


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: _redacted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    return value


def _step(count: int, most: int = 400) -> int:
    return max(1, count // most)


def _measurement(one: Measurement) -> Measurement:
    return replace(
        one,
        times_s=_thin(one.times_s),
        hot_times_s=_thin(one.hot_times_s),
        attribution=_attribution(one.attribution) if one.attribution else None,
    )


def _thin(samples: tuple[float, ...]) -> tuple[float, ...]:
    """An odd number of evenly spaced order statistics, so that the median stays."""
    if len(samples) <= SAMPLES:
        return samples
    ordered = sorted(samples)
    last = len(ordered) - 1
    thin = [ordered[round(step * last / (SAMPLES - 1))] for step in range(SAMPLES)]
    thin[SAMPLES // 2] = median(ordered)
    return tuple(thin)


def _attribution(found: Attribution) -> Attribution:
    kernels = sorted(found.kernels, key=lambda kernel: -median(kernel.times_s))
    kept = [replace(kernel, times_s=(median(kernel.times_s),)) for kernel in kernels[:KERNELS]]
    rest: dict[str, list[KernelTime]] = {}
    for kernel in kernels[KERNELS:]:
        rest.setdefault(kernel.family, []).append(kernel)
    summed = [
        KernelTime(
            scope=f"{len(members)} other {family} kernels",
            op="",
            kernel="",
            family=members[0].family,
            calls=sum(member.calls for member in members),
            times_s=(sum(median(member.times_s) for member in members),),
        )
        for family, members in rest.items()
    ]
    return replace(found, kernels=(*kept, *summed))


def _shorten(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if abs(value) < 1e9 else value
    if isinstance(value, dict):
        return {key: _shorten(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shorten(item) for item in value]
    return value
