"""The first screen: verdict, latency and speed-up, key numbers, for every set of conditions."""

from __future__ import annotations

from dataclasses import replace

from ssmprof.analysis import Analysis
from ssmprof.analysis.compare.answer import Answer
from ssmprof.analysis.compare.conditions import device_of
from ssmprof.analysis.decide.question import comparison
from ssmprof.records import Conditions, Run
from ssmprof.report import words
from ssmprof.report.canvas import style_of
from ssmprof.report.figures import curves
from ssmprof.report.lines import View, reference
from ssmprof.report.page import Card, Hero, Series
from ssmprof.report.rows import times
from ssmprof.report.svg import to_svg
from ssmprof.report.verdict import Verdict, dominance
from ssmprof.report.verdicts import verdicts_of, views_of
from ssmprof.report.words import gain_with_interval, time_with_interval
from ssmprof.units import format_context, format_zone

Used = dict[tuple[str, str], dict[tuple[tuple[str, str], ...], dict[str, str]]]
_LINEAR = 24  # sets of conditions whose picture is drawn from zero, too: as many as one looks at
_MANY = 8  # contenders that a sentence lists
MARKS = {"o": "●", "p": "⬠", "8": "⬢", "s": "■", "D": "◇", "X": "✖", "^": "▲", "v": "▽", "P": "✚"}


def heroes(run: Run, analysis: Analysis) -> tuple[Hero, ...]:
    """One per set of conditions, the default one first."""
    said, views = verdicts_of(run, analysis), views_of(run, analysis)
    used = providers_used(run)
    return tuple(
        hero(run, views[one.key], said[one.key], f"hero{index}", used, linear=index < _LINEAR)
        for index, one in enumerate(analysis.latencies)
    )


def providers_used(run: Run) -> Used:
    """(device, execution) -> every choice of providers that was measured there, once."""
    found: Used = {}
    seen: set[tuple[str, str, int]] = set()
    for one in run.measurements():
        # Equal choices of a run are one object, as a rule.
        key = (one.environment, one.point.execution, id(one.providers))
        if key not in seen:
            seen.add(key)
            mine = found.setdefault((device_of(run, one), one.point.execution), {})
            mine[tuple(one.providers.items())] = one.providers
    return found


def hero(run: Run, view: View, said: Verdict, key: str, used: Used, *, linear: bool = True) -> Hero:
    """The first screen of one answer; `linear` draws the picture with time from zero, too."""
    answer = view.answer
    drawing = drawing_of(view, heading(answer.conditions))
    draw = curves.draw_pair if len(view.lines) > 1 else curves.draw_single
    figure = draw(drawing)
    reading = _reading(view)
    axes = figure.axes[0].get_position()
    phase = answer.conditions.phase
    title = f"Time per {phase} over context"
    alt = f"{said.text} {reading}"
    return Hero(
        key=key,
        label=_label(run, answer.conditions),
        sentence=said.sentence,
        dominance=dominance(answer.dominance, view.names),
        conditions=" · ".join(_conditions(run, answer.conditions, said, used)),
        svg=to_svg(figure, key, title, alt),
        linear=to_svg(draw(replace(drawing, linear=True)), key, f"{title}, linear", alt)
        if linear
        else "",
        reading=reading,
        cards=tuple(_cards(run, view, said)),
        series=tuple(_series(view)),
        contexts=tuple(answer.tried),
        table=times(view, phase if phase == "prefill" else "token"),
        span=(axes.x0, axes.x1),
        limits=figure.axes[0].get_xlim(),
    )


def heading(conditions: Conditions) -> str:
    """What the latency axis shows."""
    return "time per prefill, ms" if conditions.phase == "prefill" else "time per token, ms"


def drawing_of(view: View, text: str) -> curves.Drawing:
    """The latency chart of an answer, with its zones and throttled points."""
    throttled = frozenset(
        (one.block, one.context) for one in view.answer.curves if "throttled" in one.notes
    )
    return curves.Drawing(
        view, text, 1e3, zones=not view.answer.withheld, throttled=throttled,
        reference=reference(view),
    )  # fmt: skip


def _conditions(run: Run, conditions: Conditions, said: Verdict, used: Used) -> list[str]:
    machine = next(
        (found for found in run.environments.values() if found.device == conditions.device), None
    )
    here = used.get((conditions.device, conditions.execution), {})
    chosen = words.providers(here.values(), conditions.phase)
    found = words.conditions(conditions, machine)
    return [*found, *([chosen] if chosen else []), *said.notes]


def _cards(run: Run, view: View, said: Verdict) -> list[Card]:
    """At most six numbers: where the winner changes, the one comparison, what fits, the grade."""
    answer = view.answer
    cards: list[Card] = []
    for one in answer.crossings if not said.withheld else ():
        label = f"{view.names[one.before].label} → {view.names[one.after].label}"
        if one.kind == "zone":
            number = format_zone(one.low_tokens, one.high_tokens, one.context_tokens)
            why = "" if one.why == "clean" else f" ({one.why})"
            cards.append(Card(number, f"tokens: {label}{why}"))
    found = comparison(answer, run.scenario.blocks)
    for one in found.gains if found and not said.withheld else ():
        assert found is not None
        base, block = (view.names[name].label for name in (found.base, found.block))
        label = f"{block} at {format_context(one.context)} tokens, times as fast as {base}"
        cards.append(Card(gain_with_interval(one), label))
    gone = {name for one in answer.standings for name in one.absent}
    gone |= {line.name.block for line in view.lines if line.failures and not line.points}
    for line in view.lines:
        if line.name.block in gone:
            last = format_context(max(line.points, default=0))
            label = f"tokens: the most {line.name.label} fits, of the lengths measured"
            cards.append(Card(last, label, "warn"))
    state = {"A": "ok", "B": "ok", "C": "warn", "D": "bad"}[answer.grade]
    return [*cards[:5], Card(f"Trust {answer.grade}", _limited(answer), state)]


def _limited(answer: Answer) -> str:
    """That slices do not rank as models do, wherever one looks; else how many facts there are."""
    cut = next((one.text for one in answer.limits if one.kind == "unequal-slices"), None)
    if cut:
        return cut.rstrip(".")
    count = len(answer.limits)
    many = f"{count} {'fact limits' if count == 1 else 'facts limit'} it"
    return many if count else "all checks pass"


def _series(view: View) -> list[Series]:
    found: list[Series] = []
    for line in view.lines:
        style = style_of(line.name)
        mark = MARKS.get(style.marker, "●")
        name = line.name
        legend = f"{name.label}, {name.piece}" if name.piece else name.label
        found.append(Series(name.block, name.label, style.token, mark, legend))
    return found


def _reading(view: View) -> str:
    """At both ends of the range, who is ahead and by how much: of many, those the figure names."""
    shared = [at for at in view.answer.contexts if len(view.here(at)) > 1]
    parts: list[str] = []
    for at in dict.fromkeys([*shared[:1], *shared[-1:]]):
        here = view.here(at)
        named = view.foremost(_MANY, reference(view))
        told = [line for line in here if line in named]
        times_of = ", ".join(
            f"{line.name.label} {time_with_interval(line.points[at].estimate)}" for line in told
        )
        more = f", and {len(here) - len(told)} more" if len(here) > len(told) else ""
        parts.append(f"{format_context(at)} tokens: {times_of}{more}.")
    return " ".join(parts)


def _label(run: Run, conditions: Conditions) -> str:
    """The conditions as the selector names them; with the device where there are several."""
    several = len({machine.device for machine in run.environments.values()}) > 1
    return f"{conditions.device}: {conditions.label()}" if several else conditions.label()
