"""The first screen: verdict, latency and speed-up, key numbers, for every facet of the run."""

from __future__ import annotations

from dataclasses import replace

from ssmprof.analysis.findings import Analysis, Facet
from ssmprof.records import Run
from ssmprof.report import words
from ssmprof.report.canvas import style_of
from ssmprof.report.comparable import comparable
from ssmprof.report.conclusions import switches, verdicts
from ssmprof.report.envelope import compared
from ssmprof.report.facets import Comparison, compare, device_of
from ssmprof.report.figures import curves
from ssmprof.report.intervals import over_rounds
from ssmprof.report.page import Card, Hero, Series
from ssmprof.report.rows import times
from ssmprof.report.svg import to_svg
from ssmprof.report.verdict import Verdict
from ssmprof.report.words import interval_of_contexts, ratio_with_interval, time_with_interval
from ssmprof.units import format_context

MARKS = {"o": "●", "p": "⬠", "8": "⬢", "s": "■", "D": "◇", "X": "✖", "^": "▲", "v": "▽", "P": "✚"}


def heroes(run: Run, analysis: Analysis) -> tuple[Hero, ...]:
    """One per facet, the default one first."""
    said = verdicts(run, analysis)
    return tuple(
        hero(run, analysis, facet, verdict, f"hero{index}")
        for index, (facet, verdict) in enumerate(said.items())
    )


def hero(run: Run, analysis: Analysis, facet: Facet, said: Verdict, key: str) -> Hero:
    """The first screen of one facet."""
    comparison = compare(run, facet)
    drawing = drawing_of(comparison, analysis, said, heading(facet))
    draw = curves.draw_pair if len(comparison.curves) > 1 else curves.draw_single
    figure = draw(drawing)
    decides = comparable(run, comparison)
    reading = _reading(decides if decides.contexts else comparison)
    axes = figure.axes[0].get_position()
    title = f"Time per {facet.phase} over context"
    return Hero(
        key=key,
        label=_label(run, facet),
        sentence=said.sentence,
        conditions=" · ".join(_conditions(run, facet, said)),
        svg=to_svg(figure, key, title, f"{said.text} {reading}"),
        linear=to_svg(
            draw(replace(drawing, linear=True)), key, f"{title}, linear", f"{said.text} {reading}"
        ),
        reading=reading,
        cards=tuple(_cards(decides, said, analysis)),
        series=tuple(_series(comparison)),
        contexts=tuple(comparison.tried),
        table=times(comparison, facet.phase if facet.phase == "prefill" else "token"),
        span=(axes.x0, axes.x1),
        limits=figure.axes[0].get_xlim(),
    )


def heading(facet: Facet) -> str:
    """What the latency axis shows."""
    return "time per prefill, ms" if facet.phase == "prefill" else "time per token, ms"


def drawing_of(
    comparison: Comparison, analysis: Analysis, said: Verdict, text: str
) -> curves.Drawing:
    """The latency chart of a comparison, with its switches and throttled points."""
    facet = comparison.facet
    throttled = frozenset(
        (one.block, one.context)
        for one in analysis.curves
        if one.facet == facet and one.metric == "latency" and "throttled" in one.notes
    )
    return curves.Drawing(
        comparison,
        text,
        1e3,
        switches(said, facet, analysis),
        throttled=throttled,
        reference=reference(comparison),
    )


def reference(comparison: Comparison) -> str | None:
    """Whom speed-ups are over: the first transformer, else the first contender."""
    measured = [curve for curve in comparison.curves if curve.values]
    chosen = [c for c in measured if c.name.architecture == "transformer"] or measured
    return chosen[0].name.block if chosen else None


def _conditions(run: Run, facet: Facet, said: Verdict) -> list[str]:
    machine = next(
        (found for found in run.environments.values() if found.device == facet.device), None
    )
    here = (
        one
        for one in run.measurements()
        if one.point.execution == facet.execution and device_of(run, one) == facet.device
    )
    used = words.providers(here, facet.phase)
    found = words.conditions(facet, machine)
    return [*found, *([used] if used else []), *said.notes]


def _cards(comparison: Comparison, said: Verdict, analysis: Analysis) -> list[Card]:
    cards: list[Card] = []
    for switch in switches(said, comparison.facet, analysis)[:2]:
        boundary = switch.boundary
        names = [comparison.curve(b).name.label for b in (boundary.before, boundary.after)]
        label = f"{names[1]} overtakes {names[0]}"
        if boundary.context is None or boundary.wide:
            low, high = (format_context(at) for at in boundary.bracket)
            cards.append(Card(f"{low}–{high}", f"tokens: {label} in between"))
            continue
        spread = interval_of_contexts(switch.interval)
        cards.append(
            Card(f"{format_context(boundary.context)} {spread}".strip(), f"tokens: {label}")
        )
    lead = _lead(comparison)
    if lead and not said.withheld:
        cards.append(lead)
    for curve in comparison.curves:
        gone = [at for at in sorted(curve.failures) if comparison.absent(curve.name.block, at)]
        if gone:
            last = format_context(max(curve.values, default=0))
            label = f"tokens: the most {curve.name.label} fits, of the lengths measured"
            cards.append(Card(last, label, "warn"))
    state = {"A": "ok", "B": "ok", "C": "warn", "D": "bad"}[analysis.trust.grade]
    why = analysis.trust.reasons[0] if analysis.trust.reasons else "all checks pass"
    cards.append(Card(f"Trust {analysis.trust.grade}", why, state))
    return cards[:6]


def _lead(comparison: Comparison) -> Card | None:
    """The best contender over the runner-up at the longest length two of them reach."""
    shared = [
        at for at in comparison.contexts if sum(at in c.values for c in comparison.curves) > 1
    ]
    if not shared:
        return None
    at = shared[-1]
    ranked = sorted((c for c in comparison.curves if at in c.values), key=lambda c: c.at(at))
    found = compared(comparison, at)
    assert found is not None, "two contenders were measured there"
    return Card(
        ratio_with_interval(found),
        f"{ranked[0].name.label} over {ranked[1].name.label} at {format_context(at)}",
    )


def _series(comparison: Comparison) -> list[Series]:
    found = []
    for curve in comparison.curves:
        style = style_of(curve.name)
        mark = MARKS.get(style.marker, "●")
        found.append(Series(curve.name.block, curve.name.label, style.token, mark))
    return found


def _reading(comparison: Comparison) -> str:
    """At both ends of the range, who is ahead and by how much."""
    shared = [
        at for at in comparison.contexts if sum(at in c.values for c in comparison.curves) > 1
    ]
    parts = []
    for at in dict.fromkeys([*shared[:1], *shared[-1:]]):
        ranked = sorted((c for c in comparison.curves if at in c.values), key=lambda c: c.at(at))
        times_of = ", ".join(
            f"{c.name.label} {time_with_interval(over_rounds(list(c.values[at].values())))}"
            for c in ranked
        )
        parts.append(f"{format_context(at)} tokens: {times_of}.")
    return " ".join(parts)


def _label(run: Run, facet: Facet) -> str:
    """The facet as the selector names it; with the device where there are several."""
    several = len({machine.device for machine in run.environments.values()}) > 1
    return f"{facet.device}: {facet.label()}" if several else facet.label()
