"""Who runs which op, and what was tried against it: for a person, and in full for other tools."""

from __future__ import annotations

import math
from collections.abc import Iterable

from msgspec import to_builtins

from ssmprof.models.short_form import Shortened, worded
from ssmprof.records import Decision, Run, Trial, decision_rows, spans_text
from ssmprof.report.tables import Column, Table
from ssmprof.report.words import percent
from ssmprof.units import format_context

# A short form is a table of two numbers for programs and a phrase for people.
SHORT = Column("shortened", "decided on", lambda found: worded(Shortened(**found)))
_CHOSEN = (
    Column("block", "contender"),
    Column("phase", "phase"),
    Column("batch", "batch", numeric=True),
    Column("op", "op"),
    Column("decided", "run by"),
    Column("share", "of the block", percent, numeric=True),
    Column("losers", "tried against it: the block's time, where it came nearest"),
    Column("agreed", "two processes"),
)


def chosen(run: Run) -> Table:
    """A row per decision: who runs the op where, and how near each of the others came."""
    short = any(one.shortened for one in run.decisions)
    columns = (*_CHOSEN, SHORT) if short else _CHOSEN
    rows = tuple(
        {
            "block": one.block,
            "phase": one.conditions.phase,
            "batch": one.conditions.batch,
            "op": one.op,
            "decided": spans_text(one.spans),
            "share": max(one.shares, default=None),
            "losers": "; ".join(_losers(one)) or None,
            "agreed": _agreed(one),
            "shortened": to_builtins(one.shortened),
        }
        for one in run.decisions
    )
    return Table("Which implementation runs each op, tried in the whole block", columns, rows)


def trials(run: Run) -> Table:
    """A row per trial of every decision, with all its figures."""
    rows = tuple(decision_rows(run.decisions))
    keys = dict.fromkeys(key for row in rows for key in row)
    return Table("Decisions", tuple(Column(key, key) for key in keys), rows)


def _agreed(one: Decision) -> str:
    if one.agreed:
        return "agree"
    return f"differ at {', '.join(format_context(at) for at in one.disagreed)}"


def _losers(decision: Decision) -> Iterable[str]:
    """Each challenger that runs the op nowhere, at the trial in which it came nearest."""
    tried: dict[str, list[Trial]] = {}
    for one in decision.trials:
        if one.provider not in decision.providers:
            tried.setdefault(one.provider, []).append(one)
    for name, mine in tried.items():
        timed = [(one.log_ratio, one) for one in mine if one.log_ratio is not None]
        if not timed:
            yield f"{name} {mine[0].outcome}"
            continue
        log_ratio, nearest = min(timed, key=lambda pair: pair[0])
        ratio = math.exp(log_ratio)
        error = "" if nearest.error is None else f" ± {ratio * nearest.error:.3f}"
        yield f"{name} {ratio:.3f}x{error} at {format_context(nearest.context)}"
