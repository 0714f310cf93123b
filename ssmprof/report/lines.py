"""An answer as lines to draw and tabulate: one per contender, in the order of the scenario."""

from __future__ import annotations

from dataclasses import dataclass

from ssmprof.analysis.compare.answer import Answer
from ssmprof.analysis.findings import CurvePoint
from ssmprof.report.names import Name, Names

#: Contenders that a page draws one by one; its tables have all of them.
PANELS = 12


@dataclass(frozen=True)
class Line:
    """One contender: its values by context, and why a context has none."""

    name: Name
    points: dict[int, CurvePoint]
    failures: dict[int, str]

    def at(self, context: int) -> float:
        """The value at a measured context."""
        return self.points[context].estimate.value

    def span(self, context: int) -> tuple[float, float]:
        """Its interval, or its range where the processes are too few for one."""
        found = self.points[context].estimate
        return found.interval or found.spread

    @property
    def contexts(self) -> list[int]:
        """Measured context lengths, ascending."""
        return sorted(self.points)


def unshown(count: int) -> str:
    """What a figure says of contenders that it leaves to its table."""
    return f" {count} more contenders are in the numbers only." if count else ""


@dataclass(frozen=True)
class View:
    """An answer with its lines and names; contenders without any outcome are left out."""

    answer: Answer
    lines: tuple[Line, ...]
    names: Names

    @property
    def measured(self) -> list[Line]:
        """Lines that hold a value."""
        return [line for line in self.lines if line.points]

    def line(self, block: str) -> Line:
        """The contender of that block name."""
        return next(line for line in self.lines if line.name.block == block)

    def foremost(self, most: int, *always: str | None) -> list[Line]:
        """At most so many of what was measured, as the scenario has them.

        First `always`, then who may be best anywhere, who is last, and the others in order.
        """
        wanted = [name for name in always if name]
        wanted += [name for one in self.answer.standings for name in one.winners]
        if longest := max((at for line in self.measured for at in line.contexts), default=None):
            wanted.append(self.here(longest)[-1].name.block)
        wanted += [line.name.block for line in self.measured]
        kept = list(dict.fromkeys(wanted))[:most]
        return [line for line in self.measured if line.name.block in kept]

    def here(self, context: int) -> list[Line]:
        """Who was measured at a context, best first."""
        found = [line for line in self.lines if context in line.points]
        return sorted(found, key=lambda line: line.at(context))


def view(answer: Answer, names: Names) -> View:
    """The lines of an answer."""
    points: dict[str, dict[int, CurvePoint]] = {}
    for one in answer.curves:
        points.setdefault(one.block, {})[one.context] = one
    lines = tuple(
        Line(name, points.get(block, {}), answer.failures.get(block, {}))
        for block, name in names.items()
        if block in points or block in answer.failures
    )
    return View(answer, lines, names)


def reference(view: View) -> str | None:
    """Whom speed-ups are over: the first transformer, else the first contender."""
    chosen = [one for one in view.measured if one.name.architecture == "transformer"]
    found = chosen or view.measured
    return found[0].name.block if found else None
