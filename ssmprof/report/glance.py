"""A run at a glance: a few lines for a prompt, the answer and its figure for a notebook."""

from __future__ import annotations

from html import escape

from ssmprof.analysis import Analysis, analyze
from ssmprof.harmless import terminal
from ssmprof.records import Run
from ssmprof.report.hero import hero, providers_used
from ssmprof.report.redact import redacted
from ssmprof.report.svg import standalone
from ssmprof.report.text import told, trust
from ssmprof.report.verdicts import VERDICT_METRICS, verdicts_of, views_of

_SHOWN = 3  # sets of conditions; the others are counted


def text(run: Run, analysis: Analysis) -> str:
    """What was measured, the answer of the heading, and the next ones as a sentence each."""
    said, views = verdicts_of(run, analysis), views_of(run, analysis)
    lines = [_head(run)]
    lines += [told(views[one.key], said[one.key]) for one in analysis.latencies[:1]]
    lines += [
        f"{one.conditions.label()}: {said[one.key].sentence}"
        for one in analysis.latencies[1:_SHOWN]
    ]
    if (more := len(analysis.latencies) - _SHOWN) > 0:
        lines.append(f"and {more} more; run.answers has all")
    return terminal("\n".join(lines))


def html(run: Run) -> str:
    """The answer of the heading and its figure, without what names a person or a machine."""
    shown = redacted(run)
    analysis = analyze(shown, ("answers",), metrics=VERDICT_METRICS, shares_of=("device",))
    head = f"<p>{escape(_head(shown))}</p>"
    if not analysis.latencies:
        return head
    first = analysis.latencies[0]
    said, views = verdicts_of(shown, analysis), views_of(shown, analysis)
    key = f"run-{run.sha256[:12]}"  # ids of several runs share a notebook
    drawn = hero(shown, views[first.key], said[first.key], key, providers_used(shown), linear=False)
    return (
        f"<p><b>{escape(drawn.sentence)}</b></p><p>{escape(drawn.conditions)}</p>"
        f"{standalone(drawn.svg)}<p>{escape(trust(first))}</p>{head}"
    )


def _head(run: Run) -> str:
    devices = dict.fromkeys(machine.device for machine in run.environments.values())
    measured = sum(1 for _ in run.measurements())
    failed = len(run.outcomes) - measured
    lost = f", {failed} failed" if failed else ""
    return f"Run {run.scenario.name}: {measured} measurements{lost} on {', '.join(devices) or '-'}"
