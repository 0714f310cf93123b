"""How a sweep ends: what it found, what it left open, how to go on, and the exit code."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ssmprof.cli.options import room, say, write
from ssmprof.cli.streams import mute
from ssmprof.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_PARTIAL, EXIT_WITHHELD
from ssmprof.harmless import terminal

if TYPE_CHECKING:
    from ssmprof.analysis import Analysis
    from ssmprof.records import Run
    from ssmprof.session.loop import End
    from ssmprof.spec import Scenario


def resume_command(path: Path, until_decided: bool = False) -> str:
    """How to go on with a run."""
    more = ["--until-decided"] if until_decided else []
    return shlex.join(["ssmprof", "sweep", "--resume", str(path), *more])


def conclude(
    path: Path, end: End, min_trust: str, scenario: Scenario, form: str | None = None
) -> int:
    """Print what was found, as text or JSON, and turn how it ended into an exit code."""
    from ssmprof.analysis import analyze
    from ssmprof.store.folder import load

    run = load(path)
    resume = resume_command(path, scenario.sweep.strategy != run.scenario.sweep.strategy)
    if end == "interrupted":
        say(f"interrupted; {len(run.outcomes)} outcomes saved. Resume: {resume}")
        return EXIT_INTERRUPTED
    if end == "out-of-time":
        say(f"time budget used up{_too_small(scenario, run)}. Resume: {resume}")
    if transient := sum(failure.transient for failure in run.failures()):
        say(f"! processes of {transient} points were killed. Measure them again: {resume}")
    analysis = analyze(run)
    _print(_found(run, analysis, form))
    say(f"Next: ssmprof report {path}")
    if analysis.withheld or analysis.grade > min_trust:
        return EXIT_WITHHELD
    return EXIT_PARTIAL if end == "out-of-time" or _partial(run) else EXIT_DONE


def _found(run: Run, analysis: Analysis, form: str | None) -> str:
    """The answers, for people or for programs."""
    if form == "json":
        from ssmprof.report import exchange

        return exchange.to_json(exchange.crossover(run, analysis, analysis.latencies))
    from ssmprof.report.text import summary

    return terminal(summary(run, analysis, room()))


def _too_small(scenario: Scenario, run: Run) -> str:
    """What a budget that ended within the pilot means."""
    from ssmprof.planning.strategies.decide import pilot_left

    if scenario.sweep.strategy != "decide" or len(scenario.blocks) < 2:
        return ""
    kinds = {machine.kind for machine in run.environments.values()}
    left, whole = pilot_left(scenario, run.outcomes, "cpu" if kinds == {"cpu"} else "cuda")
    if not left:
        return ""
    return (
        f": it is too small for the pilot ({left} of {whole} lengths are missing), without which "
        "nothing is decided; give it more with --time-budget, or go on"
    )


def _print(text: str) -> None:
    """Data that nobody can read any more: the exit code still tells how the measurement ended."""
    try:
        write(text, None)
    except (OSError, ValueError):
        mute(1)


def _partial(run: Run) -> bool:
    """Whether a point crashed or timed out, or a contender has no measurement at all."""
    measured = {one.point.block for one in run.measurements()}
    if any(block.name not in measured for block in run.scenario.blocks):
        return True
    return any(failure.reason in ("crash", "timeout") for failure in run.failures())
