"""`ssmprof new`: a commented scenario to start from."""

from __future__ import annotations

from pathlib import Path

import click

from ssmprof.cli.options import say
from ssmprof.errors import ConfigError, cannot_write


@click.command("new", short_help="Write a commented scenario to start from.")
@click.argument("file", metavar="FILE")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def command(file: str, force: bool) -> None:
    """Write a starter scenario to FILE, every key explained.

    Example: ssmprof new depth.toml, then ssmprof plan depth.toml
    """
    from ssmprof.planning.library import starter

    path = Path(file)
    if path.exists() and not force:
        raise ConfigError(f"{file}: already there", fix="--force replaces it")
    try:
        path.write_text(starter(), encoding="utf-8")
    except OSError as error:
        raise cannot_write(file, error) from None
    say(f"wrote {file} (every key explained). Next: ssmprof plan {file}")
