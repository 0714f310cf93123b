"""The finding of a run as one picture, whose title names the device and says what was found."""

from __future__ import annotations

from ssmprof.analysis import Analysis
from ssmprof.analysis.decide.question import Comparison, comparison
from ssmprof.errors import ConfigError
from ssmprof.records import Run
from ssmprof.report.canvas import style_of
from ssmprof.report.figures import poster
from ssmprof.report.names import Name, name_contenders
from ssmprof.report.svg import standalone, to_svg
from ssmprof.report.words import conditions
from ssmprof.units import format_context


def picture(run: Run, analysis: Analysis) -> str:
    """A stand-alone SVG. Raises ConfigError where two contenders were not compared."""
    answer = analysis.latencies[0] if analysis.latencies else None
    asked = comparison(answer, run.scenario.blocks) if answer else None
    pair = answer.pair(asked.base, asked.block) if answer and asked else None
    if answer is None or asked is None or pair is None:
        raise ConfigError("this run compares nobody, so there is no picture of who is faster")
    names = name_contenders(run.scenario.blocks)
    base, block = names[asked.base], names[asked.block]
    flip = pair.block != asked.base
    ratios = {
        one.context: (1 / one.ratio, 1 / one.interval[1], 1 / one.interval[0])
        if flip else (one.ratio, *one.interval)
        for one in pair.points
    }  # fmt: skip
    device = answer.conditions.device.removeprefix("NVIDIA ")
    said = _said(asked, base, block, sorted(ratios))
    doubt = f" (trust {answer.grade}: no verdict)" if answer.withheld else f" Trust {answer.grade}."
    first = next((one for one in asked.crossings if one.kind == "zone"), None)
    zone = None
    if first and first.low_tokens and first.high_tokens:
        zone = (first.low_tokens, first.high_tokens)
    found = poster.Poster(
        title=f"{device}: {said}",
        below=f"{', '.join(conditions(answer.conditions, None)[:4])}.{doubt} Speed against "
        f"{base.phrase}.",
        base=poster.Side(base.phrase, style_of(base).token),
        block=poster.Side(block.phrase, style_of(block).token),
        ratios=ratios,
        zone=zone,
    )
    return standalone(to_svg(poster.draw(found), "picture", found.title, found.below))


def _said(asked: Comparison, base: Name, block: Name, contexts: list[int]) -> str:
    """`Mamba-2 beats the transformer from 8K tokens on`."""
    one = next((one for one in asked.crossings if one.kind != "unresolved"), None)
    if one is not None and one.high_tokens:
        winner, other = (block, base) if one.after == asked.block else (base, block)
        return f"{winner.phrase} beats {other.phrase} from {format_context(one.high_tokens)} tokens"
    if asked.crossings:
        return f"where {block.phrase} beats {base.phrase} is not resolved"
    last = asked.gains[-1]
    winner, other = (block, base) if last.ratio >= 1 else (base, block)
    span = f"{format_context(contexts[0])} to {format_context(contexts[-1])} tokens"
    return f"{winner.phrase} beats {other.phrase} from {span}"
