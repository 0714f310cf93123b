"""Which lengths of a run a finding may be stated from: all of them, but for some published runs."""

from __future__ import annotations

from dataclasses import replace

from ssmprof.records import Run
from ssmprof.report.facets import Comparison
from ssmprof.store.imports import COMPARABLE_FROM, SOURCE


def least_context(run: Run) -> int:
    """Contexts below this one are shown but decide nothing; 0 for what ssmprof measured."""
    return COMPARABLE_FROM if (run.origin, run.source) == ("published", SOURCE) else 0


def comparable(run: Run, comparison: Comparison) -> Comparison:
    """The comparison without the contexts that decide nothing."""
    least = least_context(run)
    if not least:
        return comparison
    return replace(
        comparison,
        curves=tuple(
            replace(
                curve,
                values={at: found for at, found in curve.values.items() if at >= least},
                failures={at: found for at, found in curve.failures.items() if at >= least},
            )
            for curve in comparison.curves
        ),
    )
