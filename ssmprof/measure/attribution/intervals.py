"""From intervals between boundaries to rows of a table: names, families, sums and closure.

An interval holds the device time of what ran between two marks, once per replay. Rows sum the
intervals of equal scope, op and kernel; layers of a stack share a row, since a number after a name
becomes `*` (`layers.3.mlp` is `layers.*.mlp`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ssmprof.families import family_of
from ssmprof.limits import UNNAMED
from ssmprof.measure.attribution.tracer import Op
from ssmprof.mixers.ops import table
from ssmprof.records import Family, KernelTime, Note, median

# Names longer than this are template noise; the family was decided on the whole name.
_NAME_LENGTH = 120


class Untraceable(RuntimeError):
    """A route cannot take this call; the text says why."""


@dataclass(slots=True)
class Interval:
    """One op: what it is, its corrected seconds per replay, and its kernels in order."""

    op: Op
    times_s: tuple[float, ...] = ()
    kernels: tuple[str, ...] = ()
    cupti_s: float | None = None
    cupti_each_s: tuple[float, ...] = field(default=())
    span_s: float | None = None

    @property
    def kernel(self) -> str:
        """The kernel that stands for the interval: the longest, else the first."""
        if not self.kernels:
            return self.op.kernel
        if len(self.cupti_each_s) == len(self.kernels):
            return max(zip(self.cupti_each_s, self.kernels, strict=True))[1]
        # A fill before a kernel only prepares it.
        return next((name for name in self.kernels if not name.startswith("Mem")), self.kernels[0])


def short_name(kernel: str) -> str:
    """A kernel's name without template arguments, parameters and return type, if it is long."""
    if len(kernel) <= _NAME_LENGTH:
        return kernel
    text = re.sub(r"^(void|std::enable_if<.*?>::type) ", "", kernel)
    head = text.split("<", 1)[0].split("(", 1)[0]
    # The functor is what tells element-wise kernels apart; it stands in the template arguments.
    functor = re.search(
        r"native::(\w*(Functor|_kernel_cuda|_kernel_impl|ops)\w*)", text[len(head) :]
    )
    label = f"{head}<{functor[1]}>" if functor else (head or text)
    return label[:_NAME_LENGTH]


def provider_of(family: Family, providers: Mapping[str, str]) -> str | None:
    """Whose implementation ran, from op -> name of the call; None where several names fit."""
    known = table()
    names = {who for op, who in providers.items() if op in known and known[op].family == family}
    return names.pop() if len(names) == 1 else None


# Families that say what a kernel is for; the others only say how it works.
_SPECIFIC: frozenset[Family] = frozenset(
    ("scan", "conv", "attention", "moe", "norm", "rope", "gemm", "embedding")
)


def unbundle(intervals: Sequence[Interval]) -> list[Interval]:
    """Take kernels of a family of their own out of the op that launched them, or seemed to.

    A registered function may hold a convolution, a scan and a projection, and a raw launch of an
    extension falls into the interval of the next op. Time is shared out by CUPTI's durations, so
    an interval without them stays whole; and so does attention, whatever it is made of.
    """
    found: list[Interval] = []
    for interval in intervals:
        found.extend(_parted(interval))
    return found


def _parted(interval: Interval) -> list[Interval]:
    each, kernels, op = interval.cupti_each_s, interval.kernels, interval.op
    whole = family_of(op.op, interval.kernel, op.core)
    summed = sum(each)
    if len(kernels) < 2 or len(each) != len(kernels) or whole == "attention" or summed <= 0:
        return [interval]
    families = [family_of("", kernel, op.core) for kernel in kernels]
    apart = [family in _SPECIFIC and family != whole for family in families]
    groups: list[tuple[Op, list[int]]] = []
    own = [place for place, alone in enumerate(apart) if not alone]
    if own:
        groups.append((op, own))
    groups += [
        (op._replace(op="kernel", kernel=kernels[place]), [place])
        for place, alone in enumerate(apart)
        if alone
    ]
    return [
        Interval(
            op=part,
            times_s=tuple(
                time * sum(each[p] for p in places) / summed for time in interval.times_s
            ),
            kernels=tuple(kernels[place] for place in places),
            cupti_s=sum(each[place] for place in places),
            cupti_each_s=tuple(each[place] for place in places),
        )
        for part, places in groups
    ]


def rows(
    intervals: Sequence[Interval], providers: Mapping[str, str] | None = None
) -> tuple[KernelTime, ...]:
    """Sum intervals into rows, in the order they first ran.

    `providers` names the implementation of each op of the call (`ssd_scan` -> `ssmprof`). A row's
    CUPTI time is None unless every interval of it has one. Corrected times below zero are set to
    zero in the rows; sums for the closure use the intervals themselves.
    """
    groups: dict[tuple[str, str, str, Family], list[Interval]] = {}
    for interval in unbundle(intervals):
        op, kernel = interval.op, interval.kernel
        scope = re.sub(r"(?<=[A-Za-z_]\.)\d+(?![^.])", "*", op.scope)
        family = family_of(op.op, kernel, op.core)
        groups.setdefault((scope, op.op, short_name(kernel), family), []).append(interval)
    found: list[KernelTime] = []
    for (scope, op_name, kernel, family), members in groups.items():
        cupti = [member.cupti_s for member in members if member.cupti_s is not None]
        found.append(
            KernelTime(
                scope=scope,
                op=op_name,
                kernel=kernel,
                family=family,
                provider=provider_of(family, providers or {}),
                calls=len(members),
                times_s=tuple(
                    max(0.0, sum(replay))
                    for replay in zip(*(member.times_s for member in members), strict=True)
                ),
                cupti_s=sum(cupti) if len(cupti) == len(members) else None,
            )
        )
    return tuple(found)


def total_s(intervals: Sequence[Interval]) -> float:
    """Median over replays of the sum of all intervals."""
    return median(sum(replay) for replay in zip(*(i.times_s for i in intervals), strict=True))


def unnamed_note(kernels: Sequence[KernelTime]) -> Note | None:
    """The warning that more than 2 % of the time has no family, with the names."""
    whole = sum(median(row.times_s) for row in kernels)
    other = [row for row in kernels if row.family == "other"]
    share = sum(median(row.times_s) for row in other) / whole if whole else 0.0
    if share <= UNNAMED:
        return None
    other.sort(key=lambda row: -median(row.times_s))
    names = ", ".join(dict.fromkeys(row.kernel or row.op for row in other[:5]))
    return Note(
        kind="unnamed",
        text=f"{share:.1%} of device time has no kernel family: {names}",
        value=share,
    )
