"""`ssmprof scenarios`: what can be asked without writing a file."""

from __future__ import annotations

import click

from ssmprof.cli.options import emit, refuse, table_options


@click.command("scenarios", short_help="List the shipped scenarios, or print one.")
@click.argument("name", required=False)
@table_options
def command(name: str | None, form: str | None, output: str | None) -> None:
    """List the scenarios that come with ssmprof, or print one: its text explains itself.

    Example: ssmprof scenarios crossover > mine.toml
    """
    from ssmprof.cli.options import write
    from ssmprof.planning import library, scenario
    from ssmprof.report.tables import Column, Table
    from ssmprof.units import format_context

    if name is not None:
        refuse(("form",), "goes with the list; one scenario is printed as it is, in TOML")
        write(library.find(name).read_text(encoding="utf-8"), output)
        return
    rows = []
    for key, path in library.shipped().items():
        found = scenario.load(path)
        contexts = found.sweep.contexts
        rows.append(
            {
                "scenario": key,
                "device": found.device,
                "contenders": len(found.blocks),
                "contexts": f"{format_context(min(contexts))}–{format_context(max(contexts))}",
                "question": found.question,
                "file": str(path),
            }
        )
    columns = (
        Column("scenario", "scenario"),
        Column("device", "device"),
        Column("contenders", "contenders", numeric=True),
        Column("contexts", "contexts"),
        Column("question", "question"),
    )
    emit(Table("Scenarios", columns, tuple(rows)), form, output)
