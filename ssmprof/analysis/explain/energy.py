"""Joules per call and per token, with the origin of the number beside it."""

from __future__ import annotations

from collections.abc import Sequence

from ssmprof.analysis.compare.estimate import estimate
from ssmprof.analysis.findings import EnergyPoint
from ssmprof.records import Conditions, Energy, Measurement, Outcome, median


def points(conditions: Conditions, outcomes: Sequence[Outcome]) -> list[EnergyPoint]:
    """One point per block and context whose energy could be read; the rest is absent, never 0.

    A single round's windows of one process are no replication: such an estimate has a range only.
    """
    found: dict[tuple[str, int], dict[int, Energy]] = {}
    for outcome in outcomes:
        if isinstance(outcome, Measurement) and outcome.energy is not None:
            key = (outcome.point.block, outcome.point.context)
            found.setdefault(key, {})[outcome.round] = outcome.energy
    return [
        _point(conditions, *key, list(rounds.values())) for key, rounds in sorted(found.items())
    ]


def _point(
    conditions: Conditions, block: str, context: int, rounds: Sequence[Energy]
) -> EnergyPoint:
    joules = estimate([_joules(energy) for energy in rounds])
    above = [energy.above_idle_j for energy in rounds if energy.above_idle_j is not None]
    gaps = [
        energy.integral_j / energy.energy_j - 1
        for energy in rounds
        if energy.integral_j is not None and energy.energy_j > 0
    ]
    tokens = conditions.call_tokens(context)
    return EnergyPoint(
        conditions=conditions,
        block=block,
        context=context,
        energy_j=joules,
        per_token_j=joules.value / tokens,
        above_idle_j=median(above) if above else None,
        counter_gap=median(gaps) if gaps else None,
        origins=tuple(sorted({(energy.scope, energy.source) for energy in rounds})),
    )


def _joules(energy: Energy) -> float:
    return median(energy.windows_j) if energy.windows_j else energy.energy_j
