"""The run as it is embedded in a page: enough to render the page again, small enough to mail.

Columns, with five significant digits. Of the samples, which the journal holds, the ends, the
quartiles and the median stay; per point the heaviest kernels, the others summed per family; of a
trial what it says of the block.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ssmprof.records import (
    Attribution,
    Decision,
    KernelTime,
    Measurement,
    Run,
    collector_at_rest,
    encode,
    median,
)
from ssmprof.report.columns import from_columns, to_columns
from ssmprof.spec import check_scenario
from ssmprof.store import schema

_COLUMNS = ("outcomes", "telemetry", "decisions")


class Detail(NamedTuple):
    """What a page holds of each point: samples (an odd number), and kernels by themselves."""

    samples: int
    kernels: int


FULL, THIN = Detail(samples=5, kernels=20), Detail(samples=1, kernels=4)
MANY = 20_000  # outcomes above which a page holds little of each: 100,000 in full are 20 MB
DIGITS = 5
DIGITS_OF_TRIALS = 3  # of a few per cent: a hundredth of what decides
DIGITS_OF_KERNELS = 4  # their intervals are a tenth of a per cent at best


def detail_of(run: Run) -> Detail:
    """How much of each point a page of this run holds."""
    return THIN if len(run.outcomes) > MANY else FULL


def left_out(run: Run) -> str | None:
    """What the page of a large run lacks and where that is, in a sentence; None where it is small.

    Every page keeps few samples and sums light kernels; a large one keeps so little that whoever
    computes on needs to know.
    """
    detail = detail_of(run)
    if detail is FULL:
        return None
    return (
        f"This page leaves data out: for each of the run's {len(run.outcomes):,} outcomes it keeps "
        f"the median sample and the {detail.kernels} heaviest kernels; all samples and kernels are "
        "in the run folder, and ssmprof export RUN --to sqlite writes them as tables."
    )


def compact(run: Run) -> Run:
    """The run, which must be fit to be shown, with thinned samples and kernels."""
    detail = detail_of(run)
    with collector_at_rest():
        outcomes = tuple([
            _measurement(one, detail) if isinstance(one, Measurement) else one
            for one in run.outcomes
        ])  # fmt: skip
    return replace(
        run,
        outcomes=outcomes,
        telemetry=run.telemetry[:: _step(len(run.telemetry))],
        decisions=tuple(map(_decision, run.decisions)),
    )


def encoded(run: Run) -> bytes:
    """A run as JSON, its long tables in columns, with short numbers."""
    ends = msgspec.json.decode(encode(replace(run, outcomes=())))
    plain = {"format": schema.FORMAT, **shortened(ends)}
    if run.outcomes:
        plain["outcomes"] = to_columns(run.outcomes, shortened)
    for name in _COLUMNS[1:]:
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


def _measurement(one: Measurement, detail: Detail) -> Measurement:
    return replace(
        one,
        times_s=_thin(one.times_s, detail.samples),
        hot_times_s=_thin(one.hot_times_s, detail.samples),
        attribution=_attribution(one.attribution, detail.kernels) if one.attribution else None,
    )


def _thin(samples: tuple[float, ...], most: int) -> tuple[float, ...]:
    """An odd number of evenly spaced order statistics, so that the median stays."""
    if len(samples) <= most:
        return samples
    ordered = sorted(samples)
    last = len(ordered) - 1
    thin = [ordered[round(step * last / max(most - 1, 1))] for step in range(most)]
    thin[most // 2] = median(ordered)
    return tuple(thin)


def _attribution(found: Attribution, most: int) -> Attribution:
    kernels = sorted(found.kernels, key=lambda kernel: -median(kernel.times_s))
    kept = [
        replace(
            kernel,
            times_s=(_rounded(median(kernel.times_s), DIGITS_OF_KERNELS),),
            cupti_s=kernel.cupti_s and _rounded(kernel.cupti_s, DIGITS_OF_KERNELS),
        )
        for kernel in kernels[:most]
    ]
    rest: dict[str, list[KernelTime]] = {}
    for kernel in kernels[most:]:
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


def shortened(value: Any) -> Any:
    """A value as plain ones, with short numbers."""
    kind = type(value)
    if kind is str or kind is int or value is None:
        return value
    if isinstance(value, Struct):
        value = msgspec.to_builtins(value)
    if isinstance(value, float):
        # Hertz and bytes are whole numbers, seconds since 1970 keep their milliseconds.
        return _rounded(value, DIGITS) if abs(value) < 1e9 else round(value, 3)
    if isinstance(value, dict):
        return {key: shortened(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shortened(item) for item in value]
    return value
