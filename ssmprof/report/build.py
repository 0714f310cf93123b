"""A run to a Page: which sections there are, and in the order of the decision."""

from __future__ import annotations

import time

from ssmprof.analysis import Analysis, analyze
from ssmprof.records import Run, encode
from ssmprof.report import beside, embed
from ssmprof.report.card import decision
from ssmprof.report.hero import heroes
from ssmprof.report.page import Page, Section
from ssmprof.report.redact import plain, redacted
from ssmprof.report.sections import (
    cost,
    data,
    devices,
    fits,
    published,
    serving,
    trust,
    where,
    why,
)
from ssmprof.report.verdicts import views_of
from ssmprof.report.words import published_banner


def build(run: Run, *, identifiers: bool = False, analysis: Analysis | None = None) -> Page:
    """Analyse the run, unless that was done, and lay out its page.

    The run's bytes give the hash that is printed.
    """
    sha256 = run.sha256
    run = plain(run) if identifiers else redacted(run)
    # First, so that what it takes is given back before the analysis.
    slim = embed.encoded(embed.compact(run))
    analysis = analysis or analyze(run)
    devices = list(dict.fromkeys(machine.device for machine in run.environments.values()))
    created = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.created_unix_s))
    return Page(
        title=f"ssmprof: {run.scenario.name}",
        question=run.scenario.question,
        meta=(
            run.scenario.name,
            *([created] if run.created_unix_s else []),
            ", ".join(devices) or "no device",
        ),
        banner=published_banner(run),
        heroes=heroes(run, analysis),
        decision=decision(run, analysis, views_of(run, analysis)),
        sections=tuple(_sections(run, analysis, sha256, identifiers=identifiers)),
        grade=_grade(analysis),
        changes=tuple(beside.told(run, analysis)),
        footer=(
            f"Run {sha256[:12]}, trust grade {_grade(analysis)}, "
            f"identifiers {'included' if identifiers else 'redacted'}. One offline file: it loads "
            "nothing and sends nothing."
        ),
        payloads={
            "data-run": slim,
            "data-scenario": encode(run.scenario),
        },
    )


def _grade(analysis: Analysis) -> str:
    """The grade of the heading."""
    return analysis.latencies[0].grade if analysis.latencies else "D"


def _sections(run: Run, analysis: Analysis, sha256: str, *, identifiers: bool) -> list[Section]:
    served = serving.section(run, analysis)
    first = bool(analysis.planes)  # its question is of batches
    found = [
        served if first else None,
        where.section(run, analysis),
        devices.section(run, analysis),
        why.section(run, analysis),
        published.section(run),
        fits.section(run, analysis),
        None if first else served,
        cost.section(run, analysis),
        trust.section(run, analysis, identifiers=identifiers),
        data.section(run, sha256, identifiers=identifiers),
    ]
    return [section for section in found if section is not None]
