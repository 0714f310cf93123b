"""`ssmprof sweep`: measure, keep, look again."""

from __future__ import annotations

import re
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssmprof.cli.asking import asked, axis_options
from ssmprof.cli.options import say
from ssmprof.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_PARTIAL,
    EXIT_WITHHELD,
)

if TYPE_CHECKING:
    from ssmprof.devices.base import Device
    from ssmprof.records import Calibration, Run
    from ssmprof.spec import Scenario
    from ssmprof.store.folder import RunFolder
    from ssmprof.sweep import End

# A reading a second shows throttling and drift; faster ones would be seen in the measurement.
_TELEMETRY_HZ = 1.0


@click.command("sweep", short_help="Measure a scenario, or compare models.")
@click.argument("what", nargs=-1, metavar="SCENARIO | MODEL...")
@click.option("-o", "--output", metavar="FOLDER", help="Run folder; reports/DATE-NAME-DEVICE.")
@click.option("--resume", metavar="RUN", help="Go on with a run; nothing is measured twice.")
@click.option("--no-doctor", is_flag=True, help="Skip the examination; no verdict is given then.")
@click.option("--rerun-noisy", is_flag=True, help="With --resume: noisy points, one round more.")
@click.option("--pack", is_flag=True, help="Compress the journal of a finished run.")
@click.option("--dry-run", is_flag=True, help="Say what would be measured, as ssmprof plan does.")
@click.option(
    "--min-trust", type=click.Choice(["A", "B", "C", "D"]), default="C", show_default=True,
    help="Exit 5 if the run is graded lower.",
)  # fmt: skip
@axis_options
@click.pass_context
def command(
    ctx: click.Context,
    what: tuple[str, ...],
    output: str | None,
    resume: str | None,
    no_doctor: bool,
    rerun_noisy: bool,
    pack: bool,
    dry_run: bool,
    min_trust: str,
    **axes: Any,
) -> int:
    """Measure a SCENARIO, or compare MODELs, and keep every outcome in a run folder.

    Ctrl-C finishes the point and saves; twice stops now. Example: ssmprof sweep quickstart
    """
    from ssmprof.devices import detect
    from ssmprof.store import files
    from ssmprof.store import folder as store

    if resume and what:
        raise click.UsageError("--resume goes on with the scenario of the run; name no other")
    scenario = store.read_header(Path(resume)).scenario if resume else asked(what, **axes)
    if dry_run:
        from ssmprof.cli.plan import show

        return show(scenario, None, None)
    if rerun_noisy and not resume:
        raise click.UsageError("--rerun-noisy goes with --resume RUN")
    device = detect(scenario.device)
    try:
        if resume:
            opened = store.resume(Path(resume))
        else:
            path = Path(output) if output else _new_folder(scenario, device)
            opened = store.create(path, scenario, command=_command_line())
        with opened as run_folder:
            talk = ctx.find_root().obj or {}
            end = _measure(
                scenario, run_folder, device, talk, examine=not no_doctor, again=rerun_noisy
            )
    finally:
        device.close()
    if pack and end == "done":
        files.pack(opened.path)
    return _conclude(opened.path, end, min_trust)


def _examine(device: Device) -> Calibration:
    """The short examination that every run carries: without one no verdict is given."""
    from ssmprof.measure import doctor
    from ssmprof.report.theme import MARKS

    found = doctor.in_child(device.kind)
    doubtful = [check for check in found.checks if check.level != "ok"]
    for check in doubtful:
        say(f"{MARKS[check.level]} {check.name}: {check.text}")
    say(f"machine examined: {len(found.checks)} checks, {len(doubtful)} to note")
    return found


def _measure(
    scenario: Scenario,
    run_folder: RunFolder,
    device: Device,
    talk: dict[str, bool],
    *,
    examine: bool,
    again: bool,
) -> End:
    from msgspec.structs import replace

    from ssmprof.cli.progress import Reporter
    from ssmprof.devices.jetson.device import guard_of
    from ssmprof.measure.client import Client
    from ssmprof.measure.telemetry import Telemetry
    from ssmprof.planning import feasible
    from ssmprof.planning.again import noisy_again
    from ssmprof.planning.expand import expand
    from ssmprof.planning.refine import refine
    from ssmprof.sweep import sweep

    journal = run_folder.journal
    reporter = Reporter(quiet=talk.get("quiet", False), verbose=talk.get("verbose", False))
    wanted = noisy_again(scenario, journal.outcomes) if again else []
    jobs = reporter.expect([*expand(scenario, device=device.kind), *wanted])
    reporter.skip(journal.done)
    missing = sum(job.key not in journal.done for job in jobs)
    say(
        f"{len(jobs)} points on {device.name}, {missing} to measure, run folder {run_folder.path} "
        f"(Ctrl-C saves; go on with --resume {run_folder.path})"
    )
    calibration = _examine(device) if examine and missing else None
    if not examine:
        say("! machine not examined: this run can carry no verdict")
    machine = feasible.Machine.of_device(device.name, device.kind, device.memory_bytes())
    guard = guard_of(device)
    client = Client(
        device.kind,
        known=journal.outcomes,
        on_environment=lambda found: run_folder.add_environment(
            replace(found, calibration=calibration)
        ),
        watch=guard,
        room=guard.room_bytes if guard is not None else None,
        predict=lambda job: feasible.peak_bytes(job, machine),
        folder=run_folder.path,
    )
    with reporter, client, Telemetry(device, run_folder.add_telemetry, hz=_TELEMETRY_HZ):
        return sweep(
            scenario,
            journal,
            client,
            lambda asked, outcomes: reporter.expect(refine(asked, outcomes)),
            expand=lambda _: jobs,
            on_outcome=reporter.outcome,
        )


def _new_folder(scenario: Scenario, device: Device) -> Path:
    """reports/<date>-<scenario>-<device>, numbered where that is taken."""
    words = "cpu" if device.kind == "cpu" else device.name
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower().replace("nvidia", "")).strip("-")
    name = re.sub(r"[^a-zA-Z0-9]+", "-", scenario.name).strip("-").lower()
    base = f"{time.strftime('%Y-%m-%d', time.gmtime())}-{name}-{slug}"
    path, number = Path("reports") / base, 2
    while path.exists():
        path, number = Path("reports") / f"{base}-{number}", number + 1
    return path


def _command_line() -> str:
    return shlex.join(["ssmprof", *sys.argv[1:]])


def _conclude(path: Path, end: End, min_trust: str) -> int:
    """Print what was found, and turn how it ended into an exit code."""
    from ssmprof.analysis import analyze
    from ssmprof.report.text import summary
    from ssmprof.store.folder import load

    run = load(path)
    if end == "interrupted":
        say(f"interrupted; {len(run.outcomes)} outcomes saved. Resume: sweep --resume {path}")
        return EXIT_INTERRUPTED
    if end == "out-of-time":
        say(f"time budget used up. Resume: ssmprof sweep --resume {path}")
    analysis = analyze(run)
    click.echo(summary(run, analysis), nl=False)
    say(f"Next: ssmprof report {path}")
    if analysis.withheld or analysis.grade > min_trust:
        return EXIT_WITHHELD
    return EXIT_PARTIAL if end == "out-of-time" or _partial(run) else EXIT_DONE


def _partial(run: Run) -> bool:
    """Whether a point crashed or timed out, or a contender has no measurement at all."""
    measured = {one.point.block for one in run.measurements()}
    if any(block.name not in measured for block in run.scenario.blocks):
        return True
    return any(failure.reason in ("crash", "timeout") for failure in run.failures())
