"""`ssmprof schema`: JSON Schema of the records on disk."""

from __future__ import annotations

import json

import click

from ssmprof.cli.options import write


@click.command("schema", short_help="JSON Schema of the records on disk.")
@click.argument("record", required=False)
@click.option("-o", "--output", metavar="FILE", help="Write there, not to stdout.")
def command(record: str | None, output: str | None) -> None:
    """Print the JSON Schema of RECORD; without one, the names of all records.

    Example: ssmprof schema measurement
    """
    from ssmprof.store.schema import RECORDS, json_schema

    if record is None:
        write("".join(f"{name}\n" for name in sorted(RECORDS)), output)
        return
    write(json.dumps(json_schema(record), indent=1) + "\n", output)
