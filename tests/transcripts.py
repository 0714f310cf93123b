"""The code blocks of README and docs: found, run, and held against what they print.

    console   `$ command` and what it prints, a line of ... for what is left out; run in order
    python    run as it stands
    toml      a scenario, or settings with a table per command
    sh        what installs or needs a device: its ssmprof commands must parse, its targets exist
    text      shown, not run

`python -m transcripts` writes into the console blocks what they print today.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner

from ssmprof.analysis import analyze
from ssmprof.cli import cli
from ssmprof.report.text import summary
from ssmprof.store.folder import load

ROOT = Path(__file__).parents[1]
RUN = Path("reports/2026-11-30-crossover-h200")  # what the transcripts read
PAGES = sorted(
    path
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "reports/README.md",
        *(ROOT / "docs").rglob("*.md"),
    )
    if path.is_file()
)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LEFT_OUT = "..."
# Of a measurement only its run is kept: the sweep of these transcripts is that run.
_SWEEP = "ssmprof sweep crossover"


def blocks(page: Path, kind: str) -> list[str]:
    """Every block of a kind in a page."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [body for language, body in found if language == kind]


def commands(body: str) -> list[tuple[str, list[str]]]:
    """(command, lines it is said to print) of a console block."""
    found: list[tuple[str, list[str]]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


@contextmanager
def folder() -> Iterator[Path]:
    """A working folder that looks like a checkout, in which commands may write."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        shutil.copytree(ROOT / RUN, here / RUN)
        (here / "scenarios").symlink_to(ROOT / "scenarios")
        os.chdir(here)
        try:
            yield here
        finally:
            os.chdir(before)


def printed(command: str) -> list[str]:
    """What a command prints, on either stream, without blank lines at the end."""
    if command == _SWEEP:
        run = load(ROOT / RUN)
        text = summary(run, analyze(run)).partition("\n\n")[0]
    else:
        program, *words = command.split()
        assert program == "ssmprof", command
        text = CliRunner().invoke(cli, words).output
    return text.rstrip().splitlines()


def agrees(said: list[str], shown: list[str]) -> bool:
    """Whether what a command said is what the page shows, parts left out skipped."""
    pieces: list[list[str]] = [[]]
    for line in shown:
        if line == _LEFT_OUT:
            pieces.append([])
        else:
            pieces[-1].append(line)
    if len(pieces) == 1:
        return said == shown
    at = 0
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        starts = [at] if number == 0 else range(at, len(said) - len(piece) + 1)
        if last and piece:
            starts = [start for start in starts if start == len(said) - len(piece)]
        found = next((start for start in starts if said[start : start + len(piece)] == piece), None)
        if found is None:
            return False
        at = found + len(piece)
    return True


def _written(body: str) -> str:
    lines = []
    for command, shown in commands(body):
        while shown and not shown[-1]:
            shown.pop()
        said = printed(command)
        lines += [f"$ {command}", *(shown if agrees(said, shown) else said), ""]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write what every console block prints into its page."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        with folder():
            made = _BLOCK.sub(
                lambda found: (
                    f"```console\n{_written(found[2])}```" if found[1] == "console" else found[0]
                ),
                text,
            )
        if made != text:
            page.write_text(made, encoding="utf-8")
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
