"""Where one contender overtakes another: per pair and facet, with bracket and interval.

f(x) = log(T_a / T_b) over x = log L, linear between measured contexts. Signs come from intervals of
the ratio, a root lies between two contexts of certain, opposite sign, and its interval from a
bootstrap over rounds and samples (measurement.md, section 4). There is no extrapolation, and none
across a change of provider: a step is no crossover law.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, groupby, pairwise
from typing import Any, NamedTuple

from ssmprof.analysis.curves import Curve, curves, failed_at, log_ratios, roots
from ssmprof.analysis.findings import Crossover, Facet, Metric, RatioPoint
from ssmprof.analysis.root_interval import root_interval
from ssmprof.analysis.stats import certain_sign, estimate_logs
from ssmprof.records import Measurement, Outcome

METRICS: tuple[Metric, ...] = ("latency", "hot-latency", "energy", "memory")
# A crossover known to a factor of two is a point, a wider one a band ("between").
POINT_WIDTH = 2.0

Providers = dict[str, dict[int, dict[str, str]]]  # block -> context -> op -> implementation


class _Pair(NamedTuple):
    """Two curves on their common contexts: f by round, signs where it is certain."""

    a: str
    b: str
    ratios: dict[int, dict[int, float]]
    signs: dict[int, int]

    def lower(self, sign: int) -> str:
        """Who is lower where f has this sign."""
        return self.a if sign < 0 else self.b


def find(
    facet: Facet, outcomes: Sequence[Outcome], metrics: Sequence[Metric] = METRICS
) -> list[Crossover]:
    """Crossovers of every pair in every metric that was measured, for outcomes of one facet."""
    found: list[Crossover] = []
    providers = _providers(outcomes)
    failures = failed_at(outcomes)
    for metric in metrics:
        known = curves(outcomes, metric)
        for a, b in combinations(known, 2):
            found.extend(_pair(facet, metric, a, b, known, providers))
        if metric == "latency":
            found.extend(_only_one_fits(facet, metric, known, failures))
    return found


def ratio_points(facet: Facet, outcomes: Sequence[Outcome]) -> list[RatioPoint]:
    """The ratio of every pair at every common context, in every metric."""
    found: list[RatioPoint] = []
    for metric in METRICS:
        known = curves(outcomes, metric)
        for a, b in combinations(known, 2):
            for context, rounds in log_ratios(known[a], known[b]).items():
                ratio = estimate_logs(list(rounds.values()))
                found.append(
                    RatioPoint(
                        facet=facet,
                        metric=metric,
                        block=a,
                        other=b,
                        context=context,
                        estimate=ratio,
                        certain=certain_sign(ratio),  # type: ignore[arg-type]
                    )
                )
    return found


def _pair(
    facet: Facet, metric: Metric, a: str, b: str, known: Mapping[str, Curve], providers: Providers
) -> list[Crossover]:
    ratios = log_ratios(known[a], known[b])
    signs = {
        context: certain_sign(estimate_logs(list(rounds.values())))
        for context, rounds in ratios.items()
    }
    pair = _Pair(a, b, ratios, signs)
    common: dict[str, Any] = {
        "metric": metric,
        "facet": facet,
        "rounds": min((len(rounds) for rounds in ratios.values()), default=0),
        "providers": {name: _merged(providers.get(name, {}), ratios) for name in (a, b)},
    }
    if not ratios:
        why = "no context was measured for both"
        return [Crossover(winner=a, loser=b, kind="unresolved", why=why, **common)]
    lengths = list(ratios)
    certain = [context for context in lengths if signs[context]]
    changes = [(lo, hi) for lo, hi in pairwise(certain) if signs[lo] != signs[hi]]
    found = [_change(pair, lo, hi, known, providers, common) for lo, hi in changes]
    found.extend(_ties(pair, changes, common))
    if not found:
        sign = signs[lengths[0]]
        found.append(
            Crossover(
                winner=pair.lower(sign),
                loser=pair.lower(-sign),
                kind="never",
                low=lengths[0],
                high=lengths[-1],
                **common,
            )
        )
    return found


def _change(
    pair: _Pair,
    lo: int,
    hi: int,
    known: Mapping[str, Curve],
    providers: Providers,
    common: dict[str, Any],
) -> Crossover:
    """The change of sides between two contexts that are certain: a point, or a band if wide."""
    before, after = pair.lower(pair.signs[lo]), pair.lower(pair.signs[hi])
    crossings = sum(
        pair.signs[low] != pair.signs[high]
        for low, high in pairwise(context for context in pair.ratios if pair.signs[context])
    )
    inside = [context for context in pair.ratios if lo <= context <= hi]
    means = [_mean(pair.ratios[context]) for context in inside]
    value = _middle(roots(inside, means))
    step = _step(pair, inside, means, providers)
    interval, spread = (None, (float(lo), float(hi)))
    if step is None:
        interval, spread = root_interval(pair.ratios, known[pair.a], known[pair.b], lo, hi)
    else:
        value = math.sqrt(lo * hi)
    tied = [context for context in inside if not pair.signs[context]]
    width = interval or spread
    wide = tied and max(tied) > POINT_WIDTH * min(tied)
    if wide or width[1] > POINT_WIDTH * width[0]:
        ends = (min(tied), max(tied)) if wide else width
        return Crossover(
            winner=after,
            loser=before,
            kind="band",
            context=value,
            low=ends[0],
            high=ends[1],
            interval=interval,
            spread=spread,
            ahead_below=before,
            ahead_above=after,
            crossings=crossings,
            step=step,
            **common,
        )
    return Crossover(
        winner=after,
        loser=before,
        kind="at",
        context=value,
        low=lo,
        high=hi,
        interval=interval,
        spread=spread,
        ahead_below=before,
        ahead_above=after,
        crossings=crossings,
        step=step,
        **common,
    )


def _ties(
    pair: _Pair, changes: Sequence[tuple[int, int]], common: dict[str, Any]
) -> list[Crossover]:
    """Runs of contexts without a certain difference that no change of sides explains."""
    found: list[Crossover] = []
    lengths = list(pair.ratios)
    for tied, run in groupby(lengths, key=lambda context: not pair.signs[context]):
        zone = list(run)
        if not tied or any(lo < zone[0] and zone[-1] < hi for lo, hi in changes):
            continue
        first, last = lengths.index(zone[0]), lengths.index(zone[-1])
        below = pair.lower(pair.signs[lengths[first - 1]]) if first else None
        above = pair.lower(pair.signs[lengths[last + 1]]) if last + 1 < len(lengths) else None
        winner = above or below or pair.a
        found.append(
            Crossover(
                winner=winner,
                loser=pair.b if winner == pair.a else pair.a,
                kind="band",
                low=zone[0],
                high=zone[-1],
                ahead_below=below,
                ahead_above=above,
                crossings=0,
                **common,
            )
        )
    return found


def _only_one_fits(
    facet: Facet, metric: Metric, known: Mapping[str, Curve], failures: Mapping[str, int]
) -> Iterable[Crossover]:
    for loser, failed in failures.items():
        for winner, curve in known.items():
            if winner == loser or max(curve) < failed:
                continue
            fitted = max((length for length in known.get(loser, {}) if length < failed), default=0)
            yield Crossover(
                metric=metric,
                facet=facet,
                winner=winner,
                loser=loser,
                kind="only-one-fits",
                context=failed,
                low=fitted or None,
                high=failed,
            )


def _middle(found: Sequence[float]) -> float:
    return math.sqrt(found[0] * found[-1])


def _mean(rounds: Mapping[int, float]) -> float:
    return math.fsum(rounds.values()) / len(rounds)


def _providers(outcomes: Iterable[Outcome]) -> Providers:
    found: Providers = {}
    for outcome in outcomes:
        if isinstance(outcome, Measurement):
            found.setdefault(outcome.point.block, {})[outcome.point.context] = outcome.providers
    return found


def _merged(by_context: Mapping[int, dict[str, str]], contexts: Iterable[int]) -> dict[str, str]:
    """op -> implementation; several along the contexts are joined by a slash."""
    names: dict[str, dict[str, None]] = {}
    for context in contexts:
        for op, name in by_context.get(context, {}).items():
            names.setdefault(op, {})[name] = None
    return {op: " / ".join(found) for op, found in names.items()}


def _step(
    pair: _Pair, inside: Sequence[int], means: Sequence[float], providers: Providers
) -> str | None:
    """What changed where f changes sides, e.g. `attention: sdpa-flash -> sdpa-cudnn at 8192`."""
    for index, (low, high) in enumerate(pairwise(inside)):
        if means[index] * means[index + 1] > 0:
            continue
        for name in (pair.a, pair.b):
            before = providers.get(name, {}).get(low, {})
            after = providers.get(name, {}).get(high, {})
            for op in sorted(before.keys() & after.keys()):
                if before[op] != after[op]:
                    return f"{name} {op}: {before[op]} -> {after[op]} between {low} and {high}"
    return None
