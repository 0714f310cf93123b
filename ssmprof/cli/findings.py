"""Options and steps shared by the commands that ask a run one question."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ssmprof.cli.options import load_run, say
from ssmprof.errors import ConfigError

if TYPE_CHECKING:
    from ssmprof.analysis import Analysis
    from ssmprof.analysis.compare.answer import Answer
    from ssmprof.records import Conditions, Run

Function = TypeVar("Function", bound=Callable[..., Any])


def facet_options(command: Function) -> Function:
    """--phase, --batch and --execution narrow a question to one set of conditions."""
    for name, kind, text in (
        ("--execution", click.Choice(["graph", "eager"]), "CUDA graph or eager launches."),
        ("--batch", click.INT, "Batch size."),
        ("--phase", click.Choice(["prefill", "decode"]), "Prefill or decode."),
    ):
        command = click.option(name, type=kind, help=text)(command)
    return command


def analysed(run: str | None, *fields: str) -> tuple[Run, Analysis]:
    """Load and analyse RUN, for these fields of the analysis; what was left out goes to stderr."""
    from ssmprof.analysis import analyze

    loaded = load_run(run)
    return loaded, analyze(loaded, fields)


def matches(found: Conditions, phase: str | None, batch: int | None, execution: str | None) -> bool:
    """Whether conditions are what the options ask for."""
    asked = (phase, batch, execution)
    have = (found.phase, found.batch, found.execution)
    return all(want is None or want == got for want, got in zip(asked, have, strict=True))


def chosen(run: Run, phase: str | None, batch: int | None, execution: str | None) -> Conditions:
    """The first conditions of the run that the options ask for, named on stderr."""
    from ssmprof.analysis.compare.conditions import by_conditions

    every = list(by_conditions(run.outcomes, run.environments))
    found = [one for one in every if matches(one, phase, batch, execution)]
    if not found:
        have = "; ".join(one.label() for one in every) or "nothing"
        raise ConfigError("this run has no such points", cause=f"it holds: {have}")
    say(found[0].label())
    return found[0]


def say_trust(answers: Iterable[Answer]) -> None:
    """The grade of each answer and the facts that limit it most, on stderr."""
    from ssmprof.report.text import trust

    for one in answers:
        say(f"{one.conditions.label()}: {trust(one)}")
