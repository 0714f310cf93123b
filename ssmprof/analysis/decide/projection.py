"""Beyond the measured range, or to another device: always labelled, and refused where unfounded.

Longer contexts: t = a + b L + c L² with a, b, c >= 0, least relative squares over the measured
points; its error is what it misses at the two longest contexts when they are left out. Another
device: the ratio of both devices on blocks measured on both (an anchor run), interpolated over log
context, with the spread between blocks as interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, structs

from ssmprof.analysis.compare.conditions import by_conditions
from ssmprof.analysis.compare.curve import between, contenders
from ssmprof.analysis.compare.logs import ratio_of
from ssmprof.analysis.findings import Interval
from ssmprof.records import Conditions, Measurement, Run
from ssmprof.units import format_context

LEAST_POINTS = 6
HELD_OUT = 2
WORST_ERROR = 0.15  # at the points left out; above, nothing is said
FARTHEST = 8.0  # times the longest measured context

Law = tuple[float, float, float]


class Projection(Struct, frozen=True, kw_only=True):
    """Beyond what was measured; never a measurement. `refused` says why there is no value."""

    device: str
    conditions: Conditions
    block: str
    context: int
    value_s: float | None
    interval: Interval | None
    basis: str
    error: float | None = None
    refused: str | None = None


def longer(run: Run, contexts: Iterable[int]) -> list[Projection]:
    """Every block under every set of conditions at contexts beyond its longest measured one."""
    wanted = sorted(contexts)
    found: list[Projection] = []
    for conditions, outcomes in by_conditions(run.outcomes, run.environments).items():
        for block, one in contenders(outcomes).items():
            values = one.medians
            if not values:
                continue
            beyond = [context for context in wanted if context > max(values)]
            providers = {
                context: one.providers
                for one in outcomes
                if isinstance(one, Measurement) and one.point.block == block
                for context in (one.point.context,)
            }
            found.extend(
                _longer(conditions, block, values, providers, context) for context in beyond
            )
    return found


def _longer(
    conditions: Conditions,
    block: str,
    values: Mapping[int, float],
    providers: Mapping[int, dict[str, str]],
    context: int,
) -> Projection:
    def refuse(why: str) -> Projection:
        return Projection(
            device=conditions.device,
            conditions=conditions,
            block=block,
            context=context,
            value_s=None,
            interval=None,
            basis="a + b L + c L²",
            refused=why,
        )

    lengths = sorted(values)
    if len(lengths) < LEAST_POINTS:
        return refuse(f"{len(lengths)} lengths were measured, {LEAST_POINTS} are needed")
    if context > FARTHEST * lengths[-1]:
        return refuse(f"more than {FARTHEST:.0f} times the longest measured context")
    upper = [providers.get(length) for length in lengths[len(lengths) // 2 :]]
    if any(one != upper[-1] for one in upper):
        return refuse("the implementation changes in the longer half of the range")
    known, held = lengths[:-HELD_OUT], lengths[-HELD_OUT:]
    partial = _fit({length: values[length] for length in known})
    error = max(abs(_value(partial, length) / values[length] - 1) for length in held)
    if error > WORST_ERROR:
        return refuse(f"the law misses the longest measured contexts by {error:.0%}")
    value = _value(_fit(values), context)
    # The error at the held-out lengths is taken per doubling beyond what the law had seen.
    seen = math.log2(held[-1] / known[-1])
    margin = error * max(1.0, math.log2(context / lengths[-1]) / seen)
    return Projection(
        device=conditions.device,
        conditions=conditions,
        block=block,
        context=context,
        value_s=value,
        interval=(value * (1 - min(margin, 0.99)), value * (1 + margin)),
        basis=f"a + b L + c L² through {len(lengths)} lengths; error {error:.1%}",
        error=error,
    )


def _fit(values: Mapping[int, float]) -> Law:
    from scipy import optimize  # pyright: ignore[reportMissingTypeStubs]

    # Scaled to the longest context, so that the three columns are of one size.
    longest = max(values)
    rows = [[1 / t, (c / longest) / t, (c / longest) ** 2 / t] for c, t in values.items()]
    solve: Any = getattr(optimize, "nnls")  # noqa: B009 (scipy has no types)
    a, b, c = (float(one) for one in solve(rows, [1.0] * len(rows))[0])
    return a, b / longest, c / longest**2


def _value(law: Law, context: float) -> float:
    a, b, c = law
    return a + b * context + c * context**2


def elsewhere(run: Run, anchor: Run, blocks: Sequence[str] | None = None) -> list[Projection]:
    """Points of `run` on the device of `anchor`, for blocks and contexts `anchor` has not measured.

    Conditions are matched by everything but the device.
    """
    here, there = _by_conditions(run), _by_conditions(anchor)
    found: list[Projection] = []
    for common, (conditions, values) in here.items():
        target = there.get(common)
        for block, curve in values.items():
            if blocks is not None and block not in blocks:
                continue
            for context, value in curve.items():
                if target is None:
                    found.append(_not_calibrated(conditions, block, context, anchor))
                elif block not in target[1] or context not in target[1][block]:
                    found.append(_scaled(conditions, target, values, block, context, value))
    return found


def _scaled(
    conditions: Conditions,
    target: tuple[Conditions, dict[str, dict[int, float]]],
    values: Mapping[str, Mapping[int, float]],
    block: str,
    context: int,
    value: float,
) -> Projection:
    there, measured = target
    ratios: list[float] = []
    for other, curve in measured.items():
        ours, theirs = between(values.get(other, {}), context), between(curve, context)
        if ours is not None and theirs is not None:
            ratios.append(theirs / ours)
    if not ratios:
        why = f"no block was measured on both devices around {format_context(context)} tokens"
        return _refused(there.device, conditions, block, context, why)
    scale = ratio_of(math.fsum(math.log(ratio) for ratio in ratios) / len(ratios))
    return Projection(
        device=there.device,
        conditions=conditions,
        block=block,
        context=context,
        value_s=value * scale,
        interval=(value * min(ratios), value * max(ratios)) if len(ratios) > 1 else None,
        basis=f"{len(ratios)} blocks measured on both devices; {scale:.3g} times as long there",
    )


def _not_calibrated(conditions: Conditions, block: str, context: int, anchor: Run) -> Projection:
    names = sorted({machine.device for machine in anchor.environments.values()})
    why = "not calibrated: no common conditions were measured there"
    return _refused(", ".join(names), conditions, block, context, why)


def _refused(device: str, conditions: Conditions, block: str, context: int, why: str) -> Projection:
    return Projection(
        device=device,
        conditions=conditions,
        block=block,
        context=context,
        value_s=None,
        interval=None,
        basis="ratio of devices",
        refused=why,
    )


def _by_conditions(run: Run) -> dict[Conditions, tuple[Conditions, dict[str, dict[int, float]]]]:
    """Conditions without their device -> those with it, and every contender's times."""
    return {
        structs.replace(conditions, device=""): (
            conditions,
            {block: one.medians for block, one in contenders(outcomes).items()},
        )
        for conditions, outcomes in by_conditions(run.outcomes, run.environments).items()
    }
