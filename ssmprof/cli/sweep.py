"""`ssmprof sweep`: measure, keep, look again."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssmprof.cli.asking import agree, asked, axis_options
from ssmprof.cli.concluding import conclude, resume_command
from ssmprof.cli.options import refuse, say
from ssmprof.errors import EXIT_INTERRUPTED
from ssmprof.private import without_own

if TYPE_CHECKING:
    from ssmprof.devices.base import Device
    from ssmprof.measure.client import Client
    from ssmprof.records import Calibration, Decision, Job, Outcome, Visit
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
@click.option(
    "--until-decided", is_flag=True, help="With --resume: measure until it is known who wins where."
)
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
    until_decided: bool,
    pack: bool,
    dry_run: bool,
    min_trust: str,
    **axes: Any,
) -> int:
    """Measure a SCENARIO, or compare MODELs, and keep every outcome in a run folder.

    With --resume, name again the models that are code of your own: only then it runs.
    Ctrl-C finishes the point and saves; twice stops now. Example: ssmprof sweep quickstart
    """
    from ssmprof.devices import detect
    from ssmprof.report.redact import recorded_scenario
    from ssmprof.store import files
    from ssmprof.store import folder as store

    if resume:
        refuse((*axes, "output"), "does not go with --resume: a run keeps what it was asked")
        scenario = store.read_header(Path(resume)).scenario
    else:
        refuse(("rerun_noisy", "until_decided"), "goes with --resume RUN", "--resume RUN")
        scenario = recorded_scenario(asked(what, **axes))
    if dry_run:
        from ssmprof.cli.plan import show

        return show(scenario, None, None)
    if resume:
        agree(scenario, what, resume)
    if until_decided:
        scenario = decided(scenario)
    device = detect(scenario.device)
    opened: RunFolder | None = None
    try:
        if resume:
            opened = store.resume(Path(resume))
        else:
            path = Path(output) if output else _new_folder(scenario, device)
            opened = store.create(path, scenario, command=_command_line())
        with opened as run_folder:
            if not run_folder.locked:
                say(f"! {opened.path}: no locks on this file system; let nothing else write there")
            for dropped in run_folder.journal.dropped:
                say(f"! {opened.path}: {dropped}; its point is measured again")
            talk = ctx.find_root().obj or {}
            end = _measure(
                scenario, run_folder, device, talk, examine=not no_doctor, again=rerun_noisy
            )
    except KeyboardInterrupt:
        how = f"; go on with: {resume_command(opened.path, until_decided)}" if opened else ""
        say(f"stopped{how}")
        return EXIT_INTERRUPTED
    finally:
        device.close()
    if pack and end == "done":
        files.pack(opened.path)
    return conclude(opened.path, end, min_trust, scenario)


def decided(scenario: Scenario) -> Scenario:
    """The scenario with the strategy that measures until it is decided."""
    from msgspec.structs import replace

    return replace(scenario, sweep=replace(scenario.sweep, strategy="decide"))


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
    from ssmprof.measure.client import Client
    from ssmprof.measure.telemetry import Telemetry
    from ssmprof.planning import feasible
    from ssmprof.planning.again import noisy_again
    from ssmprof.planning.left import Left, any_compiled
    from ssmprof.planning.strategies import STRATEGIES
    from ssmprof.report.redact import cleaned, recorded
    from ssmprof.sweep import sweep

    journal = run_folder.journal
    machine = feasible.Machine.of_device(device.name, device.kind, device.memory_bytes())
    left = Left(scenario, device.kind, machine, compiled=any_compiled())
    reporter = Reporter(
        quiet=talk.get("quiet", False), verbose=talk.get("verbose", False), left=left
    )
    strategy = STRATEGIES[scenario.sweep.strategy]
    begun = strategy.begin(scenario, journal.outcomes, run_folder.environments, device.kind)

    def go_on(asked: Scenario, outcomes: Sequence[Outcome]) -> Sequence[Job | Visit]:
        step = strategy.go_on(asked, outcomes, run_folder.environments, device.kind)
        reporter.narrowed(step.answers)
        return reporter.expect(step.asked, step.answers)

    wanted = noisy_again(scenario, journal.outcomes) if again else []
    first = reporter.expect([*begun, *wanted]) or go_on(scenario, journal.outcomes)
    reporter.skip(journal.done)
    points = [job.key for one in first for job in one.jobs()]
    missing = sum(key not in journal.done for key in points)
    more = ", then until it is decided" if missing and scenario.sweep.strategy == "decide" else ""
    say(
        f"{len(points)} points on {device.name}, {missing} to measure{more}, run folder "
        f"{run_folder.path} (Ctrl-C saves; go on with --resume {run_folder.path})"
    )
    calibration = _examine(device) if examine and missing else None
    if not examine:
        say("! machine not examined: this run can carry no verdict")
    guard = device.onboard.guard() if device.onboard is not None else None
    client = Client(
        device.kind,
        known=journal.outcomes,
        decisions=run_folder.decisions,
        on_environment=lambda found: run_folder.add_environment(
            replace(found, calibration=cleaned(calibration, without_own))
        ),
        watch=guard,
        room=guard.room_bytes if guard is not None else None,
        predict=lambda job: feasible.peak_bytes(job, machine),
        folder=run_folder.path,
    )
    beside = Telemetry(device, run_folder.add_telemetry, hz=_TELEMETRY_HZ)
    with reporter, client, beside:
        if missing:
            _decide(scenario, run_folder, client)
        reporter.started()
        end = sweep(
            scenario,
            journal,
            lambda todo: (recorded(outcome) for outcome in client(todo)),
            go_on,
            expand=lambda _: first,
            on_outcome=reporter.outcome,
        )
    if beside.error is not None:
        say(f"! readings beside the run ended after {beside.samples}: {beside.error}")
    return end


def _decide(scenario: Scenario, run_folder: RunFolder, client: Client) -> None:
    """Decide who runs which op, once per run; it is kept before the first point is measured."""
    from ssmprof.planning.deciding import questions

    begin = time.monotonic()
    asked = questions(scenario, device=client.device, known=run_folder.decisions)
    found = client.decide(asked)
    for problem in found.problems:
        say(f"! providers of {problem}")
    if found.decisions:
        run_folder.add_decisions(found.decisions)
        say(f"{decided_text(found.decisions)} ({time.monotonic() - begin:.0f} s)")


def decided_text(decisions: Sequence[Decision]) -> str:
    """`providers of 24 ops decided: transformer decode rotary torch up to 2,896, ssmprof above`."""
    from ssmprof.records import spans_text

    moved = [
        f"{one.block} {one.conditions.phase} {one.op} {spans_text(one.spans)}"
        for one in decisions
        if set(one.providers) != {one.incumbent}
    ]
    doubtful = [f"{one.block} {one.op}" for one in decisions if not one.agreed]
    text = f"providers of {len(decisions)} ops decided on the block: "
    text += "; ".join(moved) if moved else "the first of each stays"
    if doubtful:
        text += f"; two processes disagree on {', '.join(dict.fromkeys(doubtful))}: unchanged there"
    return text


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
    return without_own(shlex.join(["ssmprof", *sys.argv[1:]]))
