"""`ssmprof schema`: JSON Schema of the records on disk and of what commands print."""

from __future__ import annotations

import json

import click

from ssmprof.cli.options import write

_CROSSOVER = "crossover"  # what `ssmprof crossover --json` prints


@click.command("schema", short_help="JSON Schema of records and of answers.")
@click.argument("record", required=False)
@click.option("-o", "--output", metavar="FILE", help="Write there, not to stdout.")
def command(record: str | None, output: str | None) -> None:
    """Print the JSON Schema of RECORD; without one, the names of all records.

    `crossover` is the object of `ssmprof crossover --json`. Example: ssmprof schema measurement
    """
    from ssmprof.store.schema import RECORDS, json_schema

    if record is None:
        write("".join(f"{name}\n" for name in sorted([*RECORDS, _CROSSOVER])), output)
        return
    if record == _CROSSOVER:
        from ssmprof.report.exchange import schema

        found = schema()
    else:
        found = json_schema(record)
    write(json.dumps(found, indent=1) + "\n", output)
