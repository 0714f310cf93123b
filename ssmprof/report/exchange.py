"""The answer for programs: what `ssmprof crossover --json` prints, with a format and a schema.

A breaking change raises `FORMAT`. Tokens are whole numbers, shares and grades as on the page.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from ssmprof.analysis import Analysis
from ssmprof.analysis.compare.answer import Answer, CrossingKind, Why
from ssmprof.analysis.decide.rules import SHOWN
from ssmprof.analysis.findings import Denominator, DominanceKind, Grade, Metric
from ssmprof.models.recipe import Slice
from ssmprof.records import Run
from ssmprof.report.contenders import facts
from ssmprof.report.verdicts import verdicts_of
from ssmprof.spec import Subject

FORMAT = 1


class Contender(Struct, frozen=True, kw_only=True):
    """Who is compared: a block, a model, or the first layers of one (`slice`; null of any other).

    `layer_count` counts layers as the model's authors do, `params` embedding and head, too, where
    it has them; null of a model whose shapes are not known.
    """

    name: str
    layer_count: int | None
    params: int | None
    slice: Slice | None


class Limit(Struct, frozen=True, kw_only=True):
    """One fact that limits an answer, and how to improve it."""

    kind: str
    text: str
    fix: str | None


class Segment(Struct, frozen=True, kw_only=True):
    """Lengths with the same winners; several are equal, or not resolved."""

    winners: tuple[str, ...]
    low_tokens: int
    high_tokens: int


class Crossing(Struct, frozen=True, kw_only=True):
    """Where one winner hands over to the next; see the glossary for its words."""

    before: str
    after: str
    kind: CrossingKind
    low_tokens: int | None
    high_tokens: int | None
    context_tokens: int | None
    indifferent_low_tokens: int | None
    indifferent_high_tokens: int | None
    why: Why
    cost_to_resolve_s: float | None


class Dominance(Struct, frozen=True, kw_only=True):
    """Where a kernel family owns more than half of the device time of a contender."""

    contender: str
    family: str
    kind: DominanceKind
    low_tokens: int | None
    high_tokens: int | None
    peak_share: float
    peak_tokens: int


class Sustained(Struct, frozen=True, kw_only=True):
    """Whether the answer holds under sustained load, and where that was looked at."""

    agrees: bool
    low_tokens: int
    high_tokens: int


class Ratio(Struct, frozen=True, kw_only=True):
    """A pair at one length: block over other, with the interval that decides the sign."""

    context_tokens: int
    ratio: float
    low: float
    high: float
    status: Literal["faster", "equal", "not-resolved"]
    processes: int


class Pair(Struct, frozen=True, kw_only=True):
    """Two contenders by themselves."""

    block: str
    other: str
    crossings: tuple[Crossing, ...]
    ratios: tuple[Ratio, ...]


class Facet(Struct, frozen=True, kw_only=True):
    """One answer: a metric under one set of conditions."""

    device: str
    phase: str
    execution: str
    batch: int | None
    dtype: str
    logits: str
    metric: Metric
    verdict: str
    grade: Grade
    limits: tuple[Limit, ...]
    segments: tuple[Segment, ...]
    crossings: tuple[Crossing, ...]
    dominance: tuple[Dominance, ...]
    sustained: Sustained | None
    pairs: tuple[Pair, ...]
    chunk: int | None = None


class Crossover(Struct, frozen=True, kw_only=True):
    """Everything `ssmprof crossover` knows of a run."""

    format: int = FORMAT
    contenders: tuple[Contender, ...]
    facets: tuple[Facet, ...]


def crossover(run: Run, analysis: Analysis, answers: list[Answer]) -> Crossover:
    """The answers of a run for programs, in their order."""
    said = verdicts_of(run, analysis)
    return Crossover(
        contenders=tuple(_contender(one) for one in run.scenario.blocks),
        facets=tuple(_facet(one, said[one.key].sentence) for one in answers),
    )


def to_json(found: Struct) -> str:
    """Readable JSON with a line break at its end."""
    return msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n"


def schema() -> dict[str, Any]:
    """JSON Schema of what `ssmprof crossover --json` prints."""
    return msgspec.json.schema(Crossover)


def _contender(subject: Subject) -> Contender:
    return msgspec.convert({"name": subject.name, **facts(subject)}, Contender)


def _facet(one: Answer, verdict: str) -> Facet:
    conditions = one.conditions
    return Facet(
        device=conditions.device,
        phase=conditions.phase,
        execution=conditions.execution,
        batch=conditions.batch,
        dtype=conditions.dtype,
        logits=conditions.logits,
        chunk=conditions.chunk,
        metric=one.metric,
        verdict=verdict,
        grade=one.grade,
        limits=tuple(_picked(Limit, each) for each in one.limits[:SHOWN]),
        segments=tuple(_picked(Segment, each) for each in one.segments),
        crossings=tuple(_picked(Crossing, each) for each in one.crossings),
        dominance=tuple(
            _picked(Dominance, each, contender=each.block)
            for each in one.dominance
            if each.of == DEVICE
        ),
        sustained=_picked(Sustained, one.sustained) if one.sustained else None,
        pairs=tuple(_pair(each) for each in one.pairs),
    )


DEVICE: Denominator = "device"


def _pair(one: Any) -> Pair:
    return Pair(
        block=one.block,
        other=one.other,
        crossings=tuple(_picked(Crossing, each) for each in one.crossings),
        ratios=tuple(
            Ratio(
                context_tokens=each.context,
                ratio=each.ratio,
                low=each.interval[0],
                high=each.interval[1],
                status=each.status,
                processes=each.processes,
            )
            for each in one.points
        ),
    )


def _picked(kind: Any, found: Any, **changed: Any) -> Any:
    """The fields of one struct that another one has as well."""
    names = [name for name in kind.__struct_fields__ if name not in changed]
    return kind(**{name: getattr(found, name) for name in names}, **changed)
