"""Points that stayed noisy -> jobs of one round more, since a process is what one cannot redo.

Nothing measured is replaced: another process joins the ones before it, and the interval over rounds
says whether it helped.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from ssmprof.records import Job, Measurement, Outcome, Point
from ssmprof.scalars import digest
from ssmprof.spec import Scenario

NOISY = "noisy"


def noisy_again(scenario: Scenario, outcomes: Iterable[Outcome]) -> list[Job]:
    """Latency-only jobs for every point with a noisy measurement, in a round of its own.

    The contenders that were compared with such a point are measured again beside it, since ratios
    are taken within a round. A contender's jobs follow each other, so that one worker serves them.
    """
    measured = [outcome for outcome in outcomes if isinstance(outcome, Measurement)]
    noisy = {
        _conditions(one.point) for one in measured if any(note.kind == NOISY for note in one.notes)
    }
    turn = max((one.round for one in measured), default=-1) + 1
    again = {
        one.point.key: one.point for one in measured if _conditions(one.point) in noisy
    }  # fmt: skip
    passes = replace(scenario.passes, parts=False, memory="off", energy=False, host=False)
    return [
        Job(point=point, subject=block, round=turn, budget=scenario.budget, passes=passes)
        for block in scenario.blocks
        for point in again.values()
        if point.block_digest == digest(block)
    ]


def _conditions(point: Point) -> tuple[object, ...]:
    """Everything but the contender."""
    shared = (point.phase, point.context, point.batch, point.dtype)
    return (*shared, point.execution, point.logits, point.seed)
