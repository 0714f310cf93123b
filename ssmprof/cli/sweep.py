"""`ssmprof sweep`: measure, keep, look again."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssmprof.cli.asking import asked, axis_options, refuse_untyped
from ssmprof.cli.concluding import conclude, resume_command
from ssmprof.cli.options import refuse, say
from ssmprof.errors import EXIT_INTERRUPTED
from ssmprof.private import without_own

if TYPE_CHECKING:
    from ssmprof.store.folder import RunFolder


@click.command("sweep", short_help="Measure a scenario, or compare models.")
@click.argument("what", nargs=-1, metavar="SCENARIO | MODEL...")
@click.option("-o", "--output", metavar="FOLDER", help="Run folder; reports/DATE-NAME-DEVICE.")
@click.option("--resume", metavar="RUN", help="Go on with a run; nothing is measured twice.")
@click.option("--no-doctor", is_flag=True, help="Skip the examination; no verdict is given then.")
@click.option("--no-decide", is_flag=True, help="The first provider runs each op; none is tried.")
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
@click.option(
    "--fleet",
    metavar="FLEET",
    help="Measure on a scheduler's workers (ADDRESS), on ssh:HOST,HOST, or as a FILE.toml says.",
)
@click.option("--json", "form", flag_value="json", help="Write the answers as JSON at the end.")
@axis_options
@click.pass_context
def command(
    ctx: click.Context,
    what: tuple[str, ...],
    output: str | None,
    resume: str | None,
    no_doctor: bool,
    no_decide: bool,
    rerun_noisy: bool,
    until_decided: bool,
    pack: bool,
    dry_run: bool,
    min_trust: str,
    fleet: str | None,
    form: str | None,
    **axes: Any,
) -> int:
    """Measure a SCENARIO, or compare MODELs, and keep every outcome in a run folder.

    With --resume, name again the models that are code of your own: only then it runs. --device all
    measures on every GPU of this host at once, --device each asks every GPU for its own answer.
    Ctrl-C finishes the point and saves; twice stops now. Example: ssmprof sweep quickstart
    """
    from ssmprof.cli.progress import Reporter
    from ssmprof.report.redact import recorded_scenario
    from ssmprof.session.asking import agree, decided
    from ssmprof.session.executors import executor_for
    from ssmprof.session.run import conduct, new_folder
    from ssmprof.store import files
    from ssmprof.store import folder as store

    if resume:
        mine = [name for name in axes if name != "device" or axes[name] not in ("all", "each")]
        refuse((*mine, "output"), "does not go with --resume: a run keeps what it was asked")
        scenario = store.read_header(Path(resume)).scenario
    else:
        refuse(("rerun_noisy", "until_decided"), "goes with --resume RUN", "--resume RUN")
        scenario = recorded_scenario(asked(what, **axes))
    if fleet is not None and axes["device"] in ("all", "each"):
        refuse(("device",), "and --fleet both say where; leave one of them out")
    if dry_run and (fleet is not None or axes["device"] in ("all", "each")):
        from ssmprof.cli import fleet_plan

        return fleet_plan.show(scenario, fleet, None, None, axes["device"], decide=not no_decide)
    if dry_run:
        from ssmprof.cli.plan import show

        return show(scenario, form, None, decide=not no_decide)
    if resume:
        refuse_untyped(what)
        agree(scenario, what, resume)
    if until_decided:
        scenario = decided(scenario)
    executor = executor_for(
        scenario.device, every=axes["device"] == "all", each=axes["device"] == "each", fleet=fleet
    )
    opened: RunFolder | None = None
    try:
        if resume:
            opened = store.resume(Path(resume))
        else:
            path = Path(output) if output else new_folder(scenario, executor.name)
            opened = store.create(path, scenario, command=_command_line())
        with opened as run_folder:
            if not run_folder.locked:
                say(f"! {opened.path}: no locks on this file system; let nothing else write there")
            for dropped in run_folder.journal.dropped:
                say(f"! {opened.path}: {dropped}; its point is measured again")
            talk = ctx.find_root().obj or {}
            reporter = Reporter(quiet=talk.get("quiet", False), verbose=talk.get("verbose", False))
            end = conduct(
                run_folder, scenario, executor, reporter, examine=not no_doctor, again=rerun_noisy,
                decide=not no_decide,
            )  # fmt: skip
    except KeyboardInterrupt:
        how = f"; go on with: {resume_command(opened.path, until_decided)}" if opened else ""
        say(f"stopped{how}")
        return EXIT_INTERRUPTED
    finally:
        executor.close()
    if pack and end == "done":
        files.pack(opened.path)
    return conclude(opened.path, end, min_trust, scenario, form)


def _command_line() -> str:
    return without_own(shlex.join(["ssmprof", *sys.argv[1:]]))
