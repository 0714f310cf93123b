"""`ssmprof export`: a run in other tools' formats."""

from __future__ import annotations

from pathlib import Path

import click

from ssmprof.cli.options import load_run, run_argument, say
from ssmprof.errors import ConfigError, cannot_write, nearest


@click.command("export", short_help="csv, jsonl, sqlite, parquet, traces, figures, metrics.")
@run_argument
@click.option(
    "--to", "forms", required=True, metavar="LIST",
    help="csv, jsonl, markdown, answer, picture, figures, chrome-trace, speedscope, sqlite, "
    "parquet, openmetrics; several with commas.",
)  # fmt: skip
@click.option("-o", "--output", default="export", show_default=True, metavar="FOLDER")
@click.option("--force", is_flag=True, help="Replace files that are there.")
def command(run: str | None, forms: str, output: str, force: bool) -> None:
    """Write RUN as other formats into a folder; prints the files written.

    Example: ssmprof export RUN --to csv,chrome-trace -o out
    """
    from ssmprof.report.export import EXPORTS, Source

    names = [name.strip() for name in forms.split(",")]
    for name in names:
        if name not in EXPORTS:
            raise ConfigError(f'--to: "{name}"{nearest(name, EXPORTS)}')
    source = Source(load_run(run))
    folder = Path(output)
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise ConfigError(f"{output}: not empty", fix="--force replaces what is there")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = [path for name in names for path in EXPORTS[name](source, folder)]
    except OSError as error:
        raise cannot_write(output, error) from None
    for path in written:
        click.echo(path)
    viewers = {"trace.json": "ui.perfetto.dev", "run.speedscope.json": "speedscope.app"}
    for path in written:
        if path.name in viewers:
            say(f"{path.name} opens in {viewers[path.name]}; it stays on this machine")
