"""`ssmprof share`: one run without names, as a file to give away."""

from __future__ import annotations

import re
from pathlib import Path

import click

from ssmprof.cli.options import run_argument, run_folder, say, say_dropped
from ssmprof.errors import ConfigError, cannot_write


@click.command("share", short_help="One run without names, as a file to give away.")
@run_argument
@click.option("-o", "--output", metavar="FILE.zip", help="By default RUN-shared.zip here.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def command(run: str | None, output: str | None, force: bool) -> None:
    """Write RUN, redacted, with its page into one archive: no users, hosts, paths, addresses or
    serial numbers. Commands read the unpacked folder as any other run.

    Example: ssmprof share RUN -o shared.zip
    """
    from ssmprof.report.share import packed
    from ssmprof.store.folder import load

    folder = run_folder(run)
    loaded = load(folder)
    say_dropped(folder, loaded)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", redacted_name(folder.resolve().name)) or "run"
    target = Path(output or f"{name}-shared.zip")
    if target.exists() and not force:
        raise ConfigError(f"{target}: already there", fix="--force replaces it; or -o with another")
    data, shown = packed(loaded, name)
    try:
        target.write_bytes(data)
    except OSError as error:
        raise cannot_write(target, error, fix="choose another file with -o") from None
    click.echo(target)
    say(
        f"{len(data) / 1000:,.0f} KB, {len(shown.outcomes):,} outcomes, data sha256 "
        f"{shown.sha256[:12]}; names redacted by patterns: look before you send it"
    )


def redacted_name(name: str) -> str:
    """The folder's name without what names somebody."""
    from ssmprof.private import redact, without_own

    return redact(without_own(name))
