"""The verdict of every answer of a run: made once, the same for page, terminal and JSON."""

from __future__ import annotations

from ssmprof.analysis import Analysis
from ssmprof.analysis.compare.answer import Answer
from ssmprof.analysis.findings import Metric
from ssmprof.records import Conditions, Run
from ssmprof.report.lines import View, view
from ssmprof.report.names import name_contenders
from ssmprof.report.verdict import Verdict, verdict

Key = tuple[Conditions, Metric]
# Metrics that a verdict on latency is made of.
VERDICT_METRICS: tuple[Metric, ...] = ("latency", "energy")


def views_of(run: Run, analysis: Analysis) -> dict[Key, View]:
    """Every answer with its lines and names, in the order of the page."""
    names = name_contenders(run.scenario.blocks)
    return {one.key: view(one, names) for one in analysis.answers}


def verdicts_of(run: Run, analysis: Analysis) -> dict[Key, Verdict]:
    """The verdict of every answer; that for latency also says where energy disagrees."""
    known = views_of(run, analysis)
    return {key: verdict(one, _others(one.answer, analysis, known)) for key, one in known.items()}


def _others(one: Answer, analysis: Analysis, known: dict[Key, View]) -> list[View]:
    if one.metric != "latency":
        return []
    found = [analysis.answer(one.conditions, metric) for metric in VERDICT_METRICS[1:]]
    return [known[other.key] for other in found if other is not None]
