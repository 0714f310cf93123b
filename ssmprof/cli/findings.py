"""Options and steps shared by the commands that ask a run one question."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ssmprof.cli.options import load_run, say
from ssmprof.errors import ConfigError

if TYPE_CHECKING:
    from ssmprof.analysis.findings import Analysis, Facet
    from ssmprof.records import Run

Function = TypeVar("Function", bound=Callable[..., Any])


def facet_options(command: Function) -> Function:
    """--phase, --batch and --execution narrow a question to a facet."""
    for name, kind, text in (
        ("--execution", click.Choice(["graph", "eager"]), "CUDA graph or eager launches."),
        ("--batch", click.INT, "Batch size."),
        ("--phase", click.Choice(["prefill", "decode"]), "Prefill or decode."),
    ):
        command = click.option(name, type=kind, help=text)(command)
    return command


def analysed(run: str | None) -> tuple[Run, Analysis]:
    """Load and analyse RUN; what makes it doubtful goes to stderr."""
    from ssmprof.analysis import analyze

    loaded = load_run(run)
    return loaded, analyze(loaded)


def matches(facet: Facet, phase: str | None, batch: int | None, execution: str | None) -> bool:
    """Whether a facet is what the options ask for."""
    asked = (phase, batch, execution)
    have = (facet.phase, facet.batch, facet.execution)
    return all(want is None or want == got for want, got in zip(asked, have, strict=True))


def chosen_facet(run: Run, phase: str | None, batch: int | None, execution: str | None) -> Facet:
    """The first facet of the run that the options ask for, named on stderr."""
    from ssmprof.report.facets import facets

    every = facets(run)
    found = [facet for facet in every if matches(facet, phase, batch, execution)]
    if not found:
        have = "; ".join(facet.label() for facet in every) or "nothing"
        raise ConfigError("this run has no such points", cause=f"it holds: {have}")
    say(found[0].label())
    return found[0]


def say_trust(analysis: Analysis) -> None:
    """The grade and its reasons, on stderr."""
    trust = analysis.trust
    reasons = f": {'; '.join(trust.reasons)}" if trust.reasons else ""
    say(f"Trust {trust.grade}{reasons}")
