"""Each contender against the one that speed-ups are over: from which length it is ahead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ssmprof.analysis.compare.answer import Answer
from ssmprof.report import rows, words
from ssmprof.report.lines import View, reference
from ssmprof.report.names import listed
from ssmprof.report.tables import Column, Table

FEWEST = 2  # others; of one alone the crossings say all
MANY = 4  # others from which on a screen says it unasked: of fewer `--pairs` is short


def table(views: Sequence[View], fewest: int = FEWEST) -> Table | None:
    """A row per other contender, a column `zone_N` per answer; None of fewer others than that.

    `ahead_N`, which no column shows, says whether it is certainly ahead anywhere.
    """
    base = next((name for one in views if (name := reference(one))), None)
    seen = {line.name.block for one in views for line in one.lines}
    others = [block for block in (views[0].names if views else ()) if block in seen - {base}]
    if base is None or len(others) < fewest:
        return None
    answers = [one.answer for one in views]
    found: list[dict[str, Any]] = []
    for block in others:
        row: dict[str, Any] = {"block": block}
        for at, answer in enumerate(answers):
            row[f"zone_{at}"] = _zone(answer, base, block)
            row[f"ahead_{at}"] = _ahead(answer, base, block)
        found.append(row)
    heads = (Column(f"zone_{at}", head) for at, head in enumerate(words.heads(answers)))
    caption = f"Each against {base}: from which length it is ahead"
    return Table(caption, (Column("block", "contender"), *heads), tuple(found))


def _zone(answer: Answer, base: str, block: str) -> str | None:
    """The zone in few words, or why there is none; None where the two were not compared."""
    if answer.withheld is not None:
        return "no verdict"
    pair = answer.pair(base, block)
    if pair is not None:
        return f"{rows.brief(pair, block)}{rows.lost(answer, pair, block)}"
    reasons = sorted(set(answer.failures.get(block, {}).values()))
    measured = any(one.block == block for one in answer.curves)
    return listed(reasons) if reasons and not measured else None


def _ahead(answer: Answer, base: str, block: str) -> bool:
    pair = answer.pair(base, block) if answer.withheld is None else None
    return pair is not None and any(one.winners == (block,) for one in pair.segments)
