"""`ssmprof report`: the decision report, one offline HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from ssmprof.cli.options import run_folder, say, say_dropped
from ssmprof.errors import EXIT_DONE, EXIT_WITHHELD, ConfigError, cannot_write

# Budgets of the page: past these a browser or a mail server stops being comfortable.
_WARN_BYTES, _MOST_BYTES = 2_000_000, 20_000_000


@click.command("report", short_help="The decision report: one offline HTML file.")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("-o", "--output", metavar="FILE", help="By default report.html in the run folder.")
@click.option(
    "--include-identifiers", is_flag=True, help="Keep host, user and path names in the page."
)
@click.option("--force", is_flag=True, help="Write the page even if it exceeds 20 MB.")
def command(
    runs: tuple[str, ...], output: str | None, include_identifiers: bool, force: bool
) -> int:
    """Write the decision report of RUN, or of several joined, as one self-contained HTML file.

    RUN may also be an older report.html: it carries its data. Example: ssmprof report
    """
    from ssmprof import __version__
    from ssmprof.report.again import load_any
    from ssmprof.report.build import build
    from ssmprof.report.html import render
    from ssmprof.store.folder import merge

    paths = [Path(run) if run.endswith(".html") else run_folder(run) for run in runs]
    paths = paths or [run_folder(None)]
    loaded = [load_any(path) for path in paths]
    for path, one in zip(paths, loaded, strict=True):
        say_dropped(path, one)
    run = loaded[0] if len(loaded) == 1 else merge(loaded, allow_different=True)
    target = Path(output) if output else _beside(paths)
    page = build(run, identifiers=include_identifiers)
    data = render(page, __version__).encode()
    if len(data) > _MOST_BYTES and not force:
        raise ConfigError(
            f"{target}: {len(data) / 1e6:.0f} MB are too much for a page",
            fix="a run with fewer points, or --force",
        )
    try:
        target.write_bytes(data)
    except OSError as error:
        raise cannot_write(target, error, fix="choose another file with -o") from None
    click.echo(target)
    size = f"{len(data) / 1000:,.0f} KB"
    big = "; large: fewer points would load faster" if len(data) > _WARN_BYTES else ""
    named = "included" if include_identifiers else "redacted"
    say(f"{size}, data sha256 {run.sha256[:12]}, identifiers {named}{big}")
    for hero in page.heroes[:1]:
        say(hero.sentence)
    for line in page.changes:
        say(line)
    return EXIT_WITHHELD if page.grade == "D" else EXIT_DONE


def _beside(paths: list[Path]) -> Path:
    if len(paths) == 1 and paths[0].is_dir():
        return paths[0] / "report.html"
    return Path("report.html")
