"""The run as it is embedded in a page: enough to render the page again, small enough to mail.

Columns, with five significant digits. Of the samples, which the journal holds, the ends, the
quartiles and the median stay; per point the heaviest kernels, the others summed per family; of a
trial what it says of the block.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from ssmprof.records import Attribution, Decision, KernelTime, Measurement, Run, encode, median
from ssmprof.report.columns import from_columns, to_columns
from ssmprof.report.redact import redacted
from ssmprof.spec import check_scenario
from ssmprof.store import schema

_COLUMNS = ("outcomes", "telemetry", "decisions")
KERNELS = 20
SAMPLES = 5
DIGITS = 5
DIGITS_OF_TRIALS = 3  # of a few per cent: a hundredth of what decides
DIGITS_OF_KERNELS = 4  # their intervals are a tenth of a per cent at best


def compact(run: Run, *, identifiers: bool) -> Run:
    """The run with thinned samples and kernels; identifiers redacted unless asked for."""
    outcomes = tuple(
        _measurement(one) if isinstance(one, Measurement) else one for one in run.outcomes
    )
    slim = replace(
        run,
        outcomes=outcomes,
        telemetry=run.telemetry[:: _step(len(run.telemetry))],
        decisions=tuple(map(_decision, run.decisions)),
    )
    return slim if identifiers else redacted(slim)


def encoded(run: Run) -> bytes:
    """A run as JSON, outcomes and telemetry in columns, with short numbers."""
    plain = {"format": schema.FORMAT, **_shorten(msgspec.json.decode(encode(run)))}
    for name in _COLUMNS:
        if plain.get(name):
            plain[name] = to_columns(plain[name])
    return msgspec.json.encode(plain)


def decoded(data: bytes) -> Run:
    """The run that a page holds; pages of earlier versions hold it in rows. Raises ValueError."""
    try:
        run = _decoded(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    problem = check_scenario(run.scenario)
    if problem:
        raise ValueError(f"scenario.{problem[0]}: {problem[1]}")
    return run


def _decoded(data: bytes) -> Run:
    plain = msgspec.json.decode(data)
    try:
        for name in _COLUMNS:
            if isinstance(plain.get(name), dict):
                plain[name] = from_columns(plain[name])
        found = schema.check_format(plain.pop("format", 1), Path("page"))
        plain["outcomes"] = [schema.upgrade(line, found) for line in plain["outcomes"]]
        plain["scenario"] = schema.upgrade_scenario(plain["scenario"], found)
    except (
        AttributeError, IndexError, KeyError, OverflowError, StopIteration, TypeError,
    ) as error:  # fmt: skip
        raise ValueError(f"its columns do not fit together: {error}") from error
    return schema.upgrade_run(msgspec.convert(plain, Run), found)


def _step(count: int, most: int = 300) -> int:
    """Every how many readings of the telemetry keep at most so many: a figure shows no more."""
    return max(1, -(-count // most))


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
    kept = [
        replace(
            kernel,
            times_s=(_rounded(median(kernel.times_s), DIGITS_OF_KERNELS),),
            cupti_s=kernel.cupti_s and _rounded(kernel.cupti_s, DIGITS_OF_KERNELS),
        )
        for kernel in kernels[:KERNELS]
    ]
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
            times_s=(
                _rounded(sum(median(member.times_s) for member in members), DIGITS_OF_KERNELS),
            ),
        )
        for family, members in rest.items()
    ]
    return replace(found, kernels=(*kept, *summed))


def _decision(found: Decision) -> Decision:
    """Without the times of the op alone, which say who is tried and decide nothing."""
    hidden = dict.fromkeys(("hot_s", "cold_s", "incumbent_hot_s", "incumbent_cold_s"))
    trials = tuple(
        replace(
            one,
            log_ratio=one.log_ratio and _rounded(one.log_ratio, DIGITS_OF_TRIALS),
            error=one.error and _rounded(one.error, DIGITS_OF_TRIALS),
            **hidden,
        )
        for one in found.trials
    )
    shares = tuple(_rounded(share, DIGITS_OF_TRIALS) for share in found.shares)
    return replace(found, trials=trials, shares=shares)


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def _shorten(value: Any) -> Any:
    if isinstance(value, float):
        # Hertz and bytes are whole numbers, seconds since 1970 keep their milliseconds.
        return _rounded(value, DIGITS) if abs(value) < 1e9 else round(value, 3)
    if isinstance(value, dict):
        return {key: _shorten(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shorten(item) for item in value]
    return value
