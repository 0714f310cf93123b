"""Published claims (`ledger`) against a run: a check for each that can be made.

Static claims are recomputed from shapes and hold or fail for everybody. Measured ones are checked
only where the run holds their conditions (phase, length, kinds of contender) and the verdict speaks
of this run alone: a claim that does not hold here is not refuted elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from ssmprof.analysis.compare.answer import Answer
from ssmprof.analysis.decide import static_claims
from ssmprof.analysis.decide.ledger import ledger
from ssmprof.analysis.findings import ClaimCheck, Launch, MemoryPoint, Share
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.models.recipe import Recipe
from ssmprof.records import Run
from ssmprof.units import format_context, format_zone

NEAR = 0.15  # lengths this close to the claim's count as its length
MARGIN = 0.10  # a value this close to the claimed one holds

_RECOMPUTED = "recomputed from shapes and data sheets"

Verdict = Literal["holds", "holds-stronger", "not-here", "not-testable"]


class Evidence(NamedTuple):
    """What a check may look at."""

    run: Run
    answers: Sequence[Answer]
    shares: Sequence[Share]
    launches: Sequence[Launch]
    memory: Sequence[MemoryPoint]

    def of(self, metric: str) -> list[Answer]:
        """Answers for prefill at batch 1 in a metric."""
        return [
            one
            for one in self.answers
            if one.metric == metric and one.conditions.reads_whole and one.conditions.batch == 1
        ]

    def names(self, architecture: str) -> set[str]:
        """Blocks of one architecture (transformer, ssm, hybrid)."""
        return {
            block.name for block in self.run.scenario.blocks if block.architecture == architecture
        }


Seen = tuple[str, Verdict, str]  # what was seen here, the verdict, why


def check(evidence: Evidence) -> list[ClaimCheck]:
    """One line per claim."""
    found: list[ClaimCheck] = []
    limits = {limit.kind for one in evidence.answers for limit in one.limits}
    unequal = "unequal-slices" in limits
    for claim in ledger():
        answer: Seen
        test: Literal["measured", "recomputed"] = "measured"
        if claim.id in static_claims.CHECKS:
            here, holds = static_claims.CHECKS[claim.id]()
            answer = here, "holds" if holds else "not-here", _RECOMPUTED
            test = "recomputed"
        elif claim.id in _RANKING and unequal:
            answer = "-", "not-testable", "this run compares unequal slices of models"
        elif claim.id in CHECKS:
            answer = CHECKS[claim.id](evidence)
        elif claim.testable == "no":
            why = "speed and memory are measured here, quality is not"
            answer = "-", "not-testable", why if claim.kind == "quality" else claim.how
        else:
            answer = "-", "not-testable", f"no automatic check: {claim.how}"
        found.append(
            ClaimCheck(
                claim=claim.id,
                statement=claim.statement,
                source="; ".join(claim.source),
                claimed="; ".join(str(value) for value in claim.values[:2]),
                here=answer[0],
                verdict=answer[1],
                why=answer[2],
                test="none" if answer[1] == "not-testable" else test,
            )
        )
    return found


def _ratios(evidence: Evidence, metric: str = "latency") -> dict[int, float]:
    """Context -> best transformer over best pure SSM, prefill at batch 1, graph before eager.

    Lengths at which nobody knows which of the two is lower are left out: noise is no finding.
    """
    kinds = {"transformer": evidence.names("transformer"), "ssm": evidence.names("ssm")}
    best: dict[tuple[str, int, str], tuple[float, str]] = {}
    for one in evidence.of(metric):
        for point in one.curves:
            for kind, names in kinds.items():
                if point.block in names:
                    key = (one.conditions.execution, point.context, kind)
                    found = (point.estimate.value, point.block)
                    best[key] = min(found, best.get(key, found))
    execution = "graph" if any(key[0] == "graph" for key in best) else "eager"
    ratios: dict[int, float] = {}
    for _, context, kind in best:
        of_ssm = best.get((execution, context, "ssm"))
        of_transformer = best.get((execution, context, "transformer"))
        if kind != "ssm" or of_ssm is None or of_transformer is None:
            continue
        if _is_known(evidence, metric, execution, {of_ssm[1], of_transformer[1]}, context):
            ratios[context] = of_transformer[0] / of_ssm[0]
    return ratios


def _is_known(
    evidence: Evidence, metric: str, execution: str, pair: set[str], context: int
) -> bool:
    """Whether one of two contenders is certainly lower at a length, or both are equal."""
    return any(
        point.status != "not-resolved"
        for one in evidence.of(metric)
        if one.conditions.execution == execution
        for found in one.pairs
        if {found.block, found.other} == pair
        for point in found.points
        if point.context == context
    )


def _missing(what: str) -> Seen:
    return "-", "not-testable", f"this run holds no {what}"


def _up_to(value: float, claimed: float, where: str, caveat: str = "") -> Seen:
    """A claim "up to x times": holds near x, holds more strongly above, not below."""
    verdict: Verdict = "not-here"
    if value >= claimed * (1 - MARGIN):
        verdict = "holds-stronger" if value > claimed * (1 + MARGIN) else "holds"
    return f"{value:.2f}x at {where}", verdict, caveat or "ratio of this run's best contenders"


def _short(evidence: Evidence) -> Seen:
    ratios = {c: 1 / r for c, r in _ratios(evidence).items() if c <= 8192}
    if not ratios:
        return _missing("certain ratio of transformer and SSM in prefill up to 8K")
    context = max(ratios, key=lambda one: ratios[one])
    if ratios[context] <= 1:
        here = f"{ratios[context]:.2f}x at {format_context(context)}"
        return here, "not-here", "no SSM is slower up to 8K"
    return _up_to(ratios[context], 1.9, format_context(context))


def _long(evidence: Evidence) -> Seen:
    ratios = {c: r for c, r in _ratios(evidence).items() if abs(c / 57_344 - 1) <= NEAR}
    if not ratios:
        return _missing("certain ratio of transformer and SSM in prefill near 57,344 tokens")
    context = min(ratios, key=lambda one: abs(one - 57_344))
    return _up_to(ratios[context], 4.0, format_context(context))


def _crossover_8k(evidence: Evidence) -> Seen:
    """From which length some SSM is faster than some transformer: their pairs' own crossings."""
    transformers, ssms = evidence.names("transformer"), evidence.names("ssm")
    every = evidence.of("latency")
    graphs = [one for one in every if one.conditions.execution == "graph"] or every
    pairs = [
        (one, pair)
        for one in graphs
        for pair in one.pairs
        if {pair.block, pair.other} & transformers and {pair.block, pair.other} & ssms
    ]
    if not pairs:
        return _missing("transformer and SSM in prefill")
    zones = [
        crossing
        for _, pair in pairs
        for crossing in pair.crossings
        if crossing.kind == "zone" and crossing.after in ssms
    ]
    if not zones:
        return "no crossing in range", "not-here", pairs[0][0].conditions.label()
    seen = ", ".join(
        f"{one.after} {format_zone(one.low_tokens, one.high_tokens, one.context_tokens)}"
        for one in zones
    )
    near = any((one.low_tokens or 0) <= 16_384 and (one.high_tokens or 0) >= 4096 for one in zones)
    return seen, "holds" if near else "not-here", "within a factor of two of 8K"


def _exponents(evidence: Evidence) -> Seen:
    wanted = {"scan": 1.0, "attention": 2.0}
    seen: dict[str, float] = {}
    for family in wanted:
        names = evidence.names("ssm" if family == "scan" else "transformer")
        points = {
            share.context: share.time_s
            for share in evidence.shares
            if (share.family, share.of) == (family, "device")
            and share.conditions.reads_whole
            and share.block in names
            and share.context >= 8192
        }
        if len(points) >= 2:
            low, high = min(points), max(points)
            seen[family] = math.log(points[high] / points[low]) / math.log(high / low)
    if len(seen) < 2:
        return _missing("scan and attention times at two lengths from 8K on")
    here = ", ".join(f"{family} L^{exponent:.2f}" for family, exponent in seen.items())
    holds = all(abs(seen[family] - claimed) <= 0.15 for family, claimed in wanted.items())
    return here, "holds" if holds else "not-here", "slope of log time over log context from 8K on"


def _edge_share(evidence: Evidence) -> Seen:
    if not any(machine.unified_memory for machine in evidence.run.environments.values()):
        return "-", "not-testable", "not an edge device"
    ours = [
        share
        for share in evidence.shares
        if share.family == "scan"
        and share.of == "eager-wall"
        and share.block in evidence.names("ssm")
    ]
    if not ours:
        return _missing("eager shares of an SSM")
    peak = max(ours, key=lambda share: share.share)
    here = f"{peak.share:.0%} at {format_context(peak.context)} ({peak.block})"
    why = "the scan kernels alone; the published bucket holds projections and convolutions, too"
    return here, "holds" if peak.share > 0.55 else "not-here", why


def _state_is_constant(evidence: Evidence) -> Seen:
    pure = evidence.names("ssm")
    caches: dict[str, set[int]] = {}
    for point in evidence.memory:
        if point.fits and point.block in pure:
            held = sum(point.parts.get(owner, 0) for owner in ("kv", "conv_state", "ssm_state"))
            under = point.conditions
            key = f"{point.block} {under.batch} {under.phase} {under.dtype}"
            caches.setdefault(key, set()).add(held)
    lengths = {point.context for point in evidence.memory if point.fits and point.block in pure}
    if len(lengths) < 2:
        return _missing("memory of an SSM at two lengths")
    constant = all(len(sizes) == 1 for sizes in caches.values())
    here = f"{'constant' if constant else 'grows'} over {len(lengths)} lengths"
    return here, "holds" if constant else "not-here", "bytes of the caches of the pure SSMs"


def _decode_host_bound(evidence: Evidence) -> Seen:
    decode = [
        launch
        for launch in evidence.launches
        if launch.conditions.phase == "decode"
        and launch.conditions.batch == 1
        and launch.context <= 24_576
    ]
    if not decode:
        return _missing("eager and graph decode up to 24,576 tokens")
    bound = sum(launch.verdict == "launch-bound" for launch in decode)
    here = f"{bound} of {len(decode)} decode points are launch-bound"
    return here, "holds" if bound == len(decode) else "not-here", "eager against graph, batch 1"


def _decode_collapse(evidence: Evidence) -> Seen:
    """Decode of the hybrid that slows down most, beyond 80K against its shortest length."""
    hybrids = evidence.names("hybrid")
    ratios: dict[tuple[str, int], float] = {}
    for one in evidence.answers:
        if one.metric != "latency" or one.conditions.phase != "decode":
            continue
        for name in hybrids:
            points = {p.context: p.estimate.value for p in one.curves if p.block == name}
            if points and max(points) > 80_000:
                ratios[name, max(points)] = points[max(points)] / points[min(points)]
    if not ratios:
        return _missing("decode of a hybrid beyond 80K")
    name, context = max(ratios, key=lambda key: ratios[key])
    ratio = ratios[name, context]
    holds = ratio >= 25 * (1 - MARGIN)
    here = f"{ratio:.2f}x slower at {format_context(context)} ({name})"
    return here, "holds" if holds else "not-here", "longest against shortest length, one step"


def _ring(evidence: Evidence) -> Seen:
    """The update that seldom writes its state, by the trials of a Mamba-2 with a state in fp32."""
    claimed = {1: 0.73, 8: 1.36, 32: 1.69, 128: 1.78}
    wide = {
        block.name
        for block in evidence.run.scenario.blocks
        if any(isinstance(part, Mamba2) and part.state_dtype == "float32" for part in _parts(block))
    }
    seen: dict[int, list[float]] = {}
    for decision in evidence.run.decisions:
        under = decision.conditions
        if decision.block not in wide or under.batch not in claimed or under.state_dtype:
            continue
        seen.setdefault(under.batch, []).extend(
            trial.incumbent_cold_s / trial.cold_s
            for trial in decision.trials
            if trial.provider == "ssmprof-ring" and trial.cold_s and trial.incumbent_cold_s
        )
    timed = {batch: ratios for batch, ratios in seen.items() if ratios}
    if not timed:
        return _missing("trial of a ring update at batch 1, 8, 32 or 128")
    batch = max(timed)
    low, high = min(timed[batch]), max(timed[batch])
    if high > low * (1 + NEAR):
        why = f"its processes differ at batch {batch}: {low:.2f}x and {high:.2f}x"
        return "-", "not-testable", why
    return _up_to(low, claimed[batch], f"batch {batch}", "the update alone, cold, state in fp32")


def _parts(block: object) -> Iterable[object]:
    return (part for _, part in block.used()) if isinstance(block, Recipe) else ()


def _all_logits(metric: str, claimed: float) -> Callable[[Evidence], Seen]:
    """Saving of the SSM near 57,344 tokens with logits of every position, in percent."""

    def check(evidence: Evidence) -> Seen:
        if evidence.run.scenario.sweep.logits != "all" or not _whole_models(evidence.run):
            return "-", "not-testable", "needs whole models with all logits (scenario paper-57k)"
        ratios = {c: r for c, r in _ratios(evidence, metric).items() if abs(c / 57_344 - 1) <= NEAR}
        if not ratios:
            return _missing(f"{metric} of both near 57,344 tokens")
        saving = 1 - 1 / next(iter(ratios.values()))
        verdict: Verdict = "not-here"
        if saving >= claimed * (1 - MARGIN):
            verdict = "holds-stronger" if saving > claimed * (1 + MARGIN) else "holds"
        return f"{saving:.0%} less", verdict, "vocabulary decides with logits of every position"

    return check


def _whole_models(run: Run) -> bool:
    blocks: Iterable[object] = run.scenario.blocks
    return all(
        isinstance(block, Recipe) and block.vocab is not None and block.slice is None
        for block in blocks
    )


# Claims on who is first: of models, which unequal slices of them say nothing about.
_RANKING = frozenset(("scope-short-19x", "scope-long-4x", "crossover-8k"))
# Claim -> its check against a run.
CHECKS: dict[str, Callable[[Evidence], Seen]] = {
    "scope-short-19x": _short,
    "scope-long-4x": _long,
    "crossover-8k": _crossover_8k,
    "linear-vs-quadratic": _exponents,
    "scope-edge-55": _edge_share,
    "constant-state-memory": _state_is_constant,
    "scope-tpot-host-bound": _decode_host_bound,
    "ring-update": _ring,
    "decode-collapse-80k": _decode_collapse,
    "scope-memory-64": _all_logits("memory", 0.64),
    "scope-energy-57k": _all_logits("energy", 0.752),
}
