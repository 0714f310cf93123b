"""`ssmprof doctor`: is this machine fit to measure, and how far can its numbers be trusted?"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from ssmprof.cli.options import refuse, say, write
from ssmprof.errors import EXIT_DONE, EXIT_FINDING

if TYPE_CHECKING:
    from ssmprof.records import Calibration


@click.command("doctor", short_help="Is this machine fit to measure?")
@click.option("--device", type=click.Choice(["any", "cuda", "cpu"]), default="any")
@click.option("--quick", is_flag=True, help="Only what every sweep checks by itself.")
@click.option("--accuracy", is_flag=True, help="Also hold the timers against known quantities.")
@click.option("--folder", metavar="FOLDER", help="Where --accuracy keeps its raw data.")
@click.option("--json", "as_json", is_flag=True, help="Write the findings as JSON.")
@click.option("-o", "--output", metavar="FILE", help="Write there, not to stdout.")
def command(
    device: str, quick: bool, accuracy: bool, folder: str | None, as_json: bool, output: str | None
) -> int:
    """Check timers, clocks, memory and telemetry; each finding names the command that mends it.

    Exits 1 if a check found an error. Example: ssmprof doctor
    """
    from ssmprof.devices import detect
    from ssmprof.doctor import examination as doctor

    if not accuracy:
        refuse(("folder",), "goes with --accuracy", "ssmprof doctor --accuracy")
    opened = detect(device)  # type: ignore[arg-type]
    kind, name = opened.kind, opened.name
    opened.close()
    say(f"examining {name}; this takes a while")
    found = doctor.in_child(kind, thorough=not quick)
    grade = doctor.grade(found)
    errors = sum(check.level == "error" for check in found.checks)
    failed = False
    if as_json and not accuracy:
        import msgspec

        data = {"device": name, "grade": grade} | msgspec.to_builtins(found)
        write(json.dumps(data, ensure_ascii=False, indent=1) + "\n", output)
    elif not as_json:
        write(_text(found, grade), output if not accuracy else None)
    if accuracy:
        from ssmprof.cli.accuracy import show

        failed = show(kind, name, as_json=as_json, output=output, folder=folder)
    return EXIT_FINDING if errors or failed else EXIT_DONE


def _text(found: Calibration, grade: str) -> str:
    from ssmprof import __version__
    from ssmprof.report.tables import width
    from ssmprof.report.theme import MARKS

    python = ".".join(map(str, sys.version_info[:3]))
    lines = [f"ssmprof {__version__} · Python {python}"]
    wide = max((width(check.name) for check in found.checks), default=0)
    for check in found.checks:
        gap = " " * (wide - width(check.name))
        lines.append(f" {MARKS[check.level]} {check.name}{gap}  {check.text}")
        if check.fix:
            lines.append(f"   {' ' * wide}  fix: {check.fix}")
    count = {level: sum(c.level == level for c in found.checks) for level in ("error", "warn")}
    lines.append(
        f"{count['error']} errors, {count['warn']} warnings. "
        f"Verdicts could reach grade {grade} at best."
    )
    return "\n".join(lines) + "\n"
