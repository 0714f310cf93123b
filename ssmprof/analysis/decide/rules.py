"""The kinds of facts that limit an answer: grade, when each holds, and how to improve it.

Among facts of one grade the order of `RULES` says which are told first.
"""

from __future__ import annotations

from typing import NamedTuple

from ssmprof import limits
from ssmprof.analysis.compare.answer import Limit, LimitKind
from ssmprof.analysis.findings import Grade

SHOWN = 3  # facts told in one breath
_MAKES_CLOCKS_FREE = "lock the clocks: ssmprof doctor prints the command"


class Rule(NamedTuple):
    """Grade of a kind of fact, when it holds (for the documents), and how to improve it."""

    grade: Grade
    when: str
    fix: str | None = None


RULES: dict[LimitKind, Rule] = {
    "never-examined": Rule(
        "D", "the machine was never examined", "ssmprof sweep without --no-doctor"
    ),
    "unequal-slices": Rule(
        "C",
        "a slice of a model is compared with what is no slice, or with one whose layers hold over "
        f"{limits.EQUAL_SLICES - 1:.0%} more parameters",
        "whole models, or slices whose layers hold as many parameters",
    ),
    "throttled": Rule(
        "C",
        f"a point ran below {limits.THROTTLED_CLOCK:.0%} of the highest clock; D above "
        f"{limits.THROTTLED_WITHHOLDS:.0%} of the points",
        "improve cooling or lock the clocks: ssmprof doctor prints the command",
    ),
    "process-noise": Rule(
        "C",
        f"equal calls in two processes differ by more than {limits.PROCESS_NOISE:.0%}; D above "
        f"{limits.PROCESS_NOISE_WITHHOLDS:.0%}",
        "stop what else runs on this machine, then sweep again",
    ),
    "depends-on-clocks": Rule(
        "C", "a comparison comes out otherwise in SM cycles", f"{_MAKES_CLOCKS_FREE}, then sweep"
    ),
    "two-modes": Rule(
        "C", "processes of one contender ran in two modes", "ssmprof sweep --resume RUN"
    ),
    "power-cap": Rule("C", "points ran at the power limit", _MAKES_CLOCKS_FREE),
    "few-processes": Rule(
        "C", f"fewer than {limits.LEAST_PROCESSES} processes", "ssmprof sweep --rounds 5"
    ),
    "noisy": Rule(
        "C",
        f"more than {limits.NOISY_POINTS:.0%} of the points stayed noisy; B below",
        "ssmprof sweep --resume RUN --rerun-noisy",
    ),
    "published": Rule("C", "numbers published by others"),
    "mixed-software": Rule("C", "points come from different software"),
    "examination-error": Rule("C", "the examination found an error", "ssmprof doctor"),
    "closure": Rule(
        "B",
        "parts of some points miss the whole by more than their target; C above "
        f"{limits.CLOSURE_WITHHOLDS:.0%}: their shares are left out",
        "ssmprof doctor; whole times are not affected",
    ),
    "clocks-unknown": Rule("B", "no SM clock was read beside the samples of some comparisons"),
    "providers-disagree": Rule(
        "B",
        "two processes chose different implementations",
        "stop what else runs on this machine, then sweep again",
    ),
    "apart": Rule(
        "B", "contenders did not fit beside each other and took turns as processes, less precisely"
    ),
    "clock-pin": Rule("B", "clocks were unpinned during a block", "pin them again and sweep"),
    "swapped": Rule("B", "the board swapped during a timing that was taken again"),
    "unsettled": Rule("B", "calls had not settled when warm-up ended", "a longer time budget"),
    "unnamed": Rule(
        "B", f"kernels without a family took more than {limits.UNNAMED:.0%} of a point's time"
    ),
    "below-timer": Rule("B", "points took less time than can be measured"),
    "partial-pass": Rule("B", "a pass beside the latency failed at some points"),
    "crash": Rule("B", "points crashed"),
    "timeout": Rule("B", "points ran out of time"),
    "unsupported": Rule("B", "points are not supported here"),
    "torn-lines": Rule("B", "lines of the journal could not be read", "ssmprof sweep --resume RUN"),
    "examination-warning": Rule("B", "the examination found something to note", "ssmprof doctor"),
}


def fact(kind: LimitKind, text: str, points: int = 0, grade: Grade | None = None) -> Limit:
    """The limit of this kind, graded by its rule unless told otherwise."""
    rule = RULES[kind]
    return Limit(kind=kind, grade=grade or rule.grade, text=text, fix=rule.fix, points=points)
