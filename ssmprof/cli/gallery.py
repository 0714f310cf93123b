"""`ssmprof gallery`: a static site over many runs."""

from __future__ import annotations

from pathlib import Path

import click

from ssmprof.cli.options import say, say_dropped
from ssmprof.errors import ConfigError, cannot_write


@click.command("gallery", short_help="A static site over many runs.")
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...")
@click.option("-o", "--output", default="gallery", show_default=True, metavar="FOLDER",
              help="Where index.html and runs/ go.")  # fmt: skip
@click.option("--force", is_flag=True, help="Write into a folder that is not empty.")
def command(folders: tuple[str, ...], output: str, force: bool) -> None:
    """Write a site of static files over runs: devices and commits over each other, the history of
    each crossover, and every run's page. A FOLDER is a run, a report.html, or holds runs.

    Nothing is loaded from a network, and names are redacted. Example: ssmprof gallery reports
    """
    from ssmprof import __version__
    from ssmprof.report.again import load_any
    from ssmprof.report.gallery import write

    paths, target = _found(folders), Path(output)
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{output}: is a file", fix="-o with a folder")
    if target.is_dir() and any(target.iterdir()) and not force:
        raise ConfigError(f"{output}: not empty", fix="--force writes into it; or -o with another")
    runs = [(path.stem if path.suffix == ".html" else path.name, load_any(path)) for path in paths]
    for name, run in runs:
        say_dropped(name, run)
    try:
        written = write(runs, target, __version__, say)
    except OSError as error:
        raise cannot_write(target, error) from None
    click.echo(written[0])
    size = sum(file.stat().st_size for file in written)
    count = len(written) - 1
    say(f"{count} {'run' if count == 1 else 'runs'}, {size / 1e6:.1f} MB")


def _found(folders: tuple[str, ...]) -> list[Path]:
    """Run folders and pages that the arguments name, each once. Raises ConfigError."""
    found: dict[Path, None] = {}
    for text in folders:
        path = Path(text)
        if (path.is_file() and path.suffix == ".html") or (path / "run.json").is_file():
            mine = [path]
        else:
            mine = sorted(file.parent for file in path.glob("*/run.json"))
        if not mine:
            what = "holds no run" if path.is_dir() else "no such folder"
            raise ConfigError(f"{text}: {what}", fix="a run folder, or a folder of run folders")
        found.update(dict.fromkeys(one.resolve() for one in mine))
    return list(found)
