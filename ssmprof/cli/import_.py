"""`ssmprof import`: published results as a run of their own, marked as not measured here."""

from __future__ import annotations

from pathlib import Path

import click

from ssmprof.cli.options import say
from ssmprof.errors import ConfigError, nearest

# Format -> function in ssmprof.store.imports that turns a folder into a Run.
FORMATS: dict[str, str] = {"ssm-scope": "ssm_scope"}


@click.command("import", short_help="Published results as a run, marked as such.")
@click.argument("form", metavar="FORMAT")
@click.argument("source", required=False)
@click.option("-o", "--output", metavar="FOLDER", required=True, help="The run folder to write.")
def command(form: str, source: str | None, output: str) -> None:
    """Read published results (FORMAT: ssm-scope) into a run folder, origin "published".

    Example: ssmprof import ssm-scope -o runs/ssm-scope
    """
    from importlib import import_module

    from ssmprof.store.folder import write

    if form not in FORMATS:
        raise ConfigError(f'no format is named "{form}"{nearest(form, FORMATS)}')
    read = getattr(import_module("ssmprof.store.imports"), FORMATS[form])
    run = read(Path(source)) if source else read()
    write(Path(output), run)
    say(f"{len(run.outcomes)} published outcomes. Next: ssmprof report {output}")
