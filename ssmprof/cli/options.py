"""Shared arguments and options: a run folder (the latest without one), and table formats.

Data goes to stdout (or `-o FILE`), everything else to stderr.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from ssmprof.cli.streams import tell
from ssmprof.errors import ConfigError, cannot_write
from ssmprof.harmless import terminal

if TYPE_CHECKING:
    from ssmprof.records import Run
    from ssmprof.report.tables import Table

Function = TypeVar("Function", bound=Callable[..., Any])
RUN_PARENTS = ("reports", "runs")
_MOST_DROPPED = 10  # lines named on stderr


def say(text: str) -> None:
    """A line for people, on stderr; nothing with --quiet, or where nobody can read it."""
    context = click.get_current_context(silent=True)
    if not (context and (context.find_root().obj or {}).get("quiet")):
        tell(terminal(text))


def run_argument(command: Function) -> Function:
    """RUN: a run folder; without one, the latest below reports/ or runs/."""
    return click.argument("run", required=False, shell_complete=_complete_runs)(command)


def _complete_runs(_ctx: Any, _param: Any, incomplete: str) -> list[str]:
    return [str(path) for path in run_folders() if str(path).startswith(incomplete)]


def run_folders() -> list[Path]:
    """Run folders below reports/ and runs/ of the current folder."""
    return [file.parent for parent in RUN_PARENTS for file in Path(parent).glob("*/run.json")]


def run_folder(run: str | None) -> Path:
    """The folder of RUN; without one the run created last, named on stderr. Raises ConfigError."""
    if run is not None:
        path = Path(run)
        if path.name == "run.json":
            path = path.parent
        if not path.is_dir():
            raise ConfigError(
                f"{run}: no such run folder", fix="ssmprof sweep quickstart makes one"
            )
        return path
    from ssmprof.errors import StoreError
    from ssmprof.store.folder import read_header

    def created(folder: Path) -> float:
        try:
            return read_header(folder).created_unix_s
        except StoreError as error:
            say(f"skipped {error}")
            return float("-inf")

    dated = [(created(folder), str(folder)) for folder in run_folders()]
    dated = [found for found in dated if found[0] > float("-inf")]
    if not dated:
        raise ConfigError(
            "no run folder below reports/ or runs/ here",
            fix="ssmprof sweep quickstart makes one; or name a folder",
        )
    latest = max(dated)[1]
    say(f"run: {latest} (the latest; name another as RUN)")
    return Path(latest)


def load_run(run: str | None) -> Run:
    """Read RUN, and say on stderr what had to be dropped."""
    from ssmprof.store.folder import load

    folder = run_folder(run)
    loaded = load(folder)
    say_dropped(folder, loaded)
    return loaded


def load_device(asked: str) -> Run:
    """Read `RUN`, or of `RUN@DEVICE` what one of its devices measured; any part of a name that
    only one of them has will do. Raises ConfigError where none or several have it.
    """
    from ssmprof.analysis.compare.conditions import of_device

    folder, at, wanted = asked.rpartition("@")
    if not at or Path(asked).exists():
        return load_run(asked)
    run = load_run(folder)
    names = sorted({machine.device for machine in run.environments.values()})
    exact = [name for name in names if name.lower() == wanted.lower()]
    found = exact or [name for name in names if wanted.lower() in name.lower()]
    if len(found) != 1:
        raise ConfigError(
            f"{asked}: {'no device' if not found else 'more than one device'} of that name",
            cause=f"the run holds {', '.join(names)}",
            fix=f"{folder}@{names[0]}" if names else None,
        )
    return of_device(run, found[0])


def say_dropped(folder: object, loaded: Run) -> None:
    """What could not be read of a run, on stderr."""
    for dropped in loaded.dropped[:_MOST_DROPPED]:
        say(f"! {folder}: left out {dropped}")
    if len(loaded.dropped) > _MOST_DROPPED:
        say(f"! {folder}: left out {len(loaded.dropped) - _MOST_DROPPED} more")
    if loaded.dropped_lines:
        say(f"! {folder}: {loaded.dropped_lines} points are missing; sweep --resume repeats them")


def table_options(command: Function) -> Function:
    """--json, --jsonl, --csv, --md and -o FILE."""
    for form, text in (
        ("md", "Markdown."),
        ("csv", "Comma-separated values, raw numbers in SI units."),
        ("jsonl", "One JSON object per line."),
        ("json", "A JSON array, raw numbers in SI units."),
    ):
        command = click.option(f"--{form}", "form", flag_value=form, help=f"Write {text}")(command)
    return click.option(
        "-o", "--output", metavar="FILE", callback=_file_type, help="Write there, not to stdout."
    )(command)


def _file_type(_ctx: Any, _param: Any, value: str | None) -> str | None:
    """Callback of --output: a file that cannot be there is refused before anything is loaded."""
    if value not in (None, "-"):
        folder = Path(value).parent
        if not folder.is_dir():
            raise ConfigError(
                f"{value}: cannot be written: no such folder", fix=f"mkdir -p {folder}"
            )
        if Path(value).is_dir():
            raise ConfigError(
                f"{value}: cannot be written: it is a folder", fix=f"-o {Path(value) / 'table.txt'}"
            )
    return value


def refuse(names: Iterable[str], why: str, fix: str | None = None) -> None:
    """Refuse options that were typed and would do nothing here. Raises ConfigError."""
    context = click.get_current_context()
    for one in context.command.params:
        typed = context.get_parameter_source(one.name or "") is ParameterSource.COMMANDLINE
        if one.name in names and typed:
            form = f"--{context.params['form']}" if one.name == "form" else ""
            raise ConfigError(f"{form or max(one.opts, key=len)} {why}", fix=fix)


def emit(table: Table, form: str | None, output: str | None) -> None:
    """Write a table to stdout or a file in the format asked for."""
    from ssmprof.report.tables import render

    width = room() if output is None else None
    write(render(table, form or "text", width), output)  # type: ignore[arg-type]


def room() -> int | None:
    """Columns of the screen that stdout is; None where it is none."""
    if not sys.stdout.isatty():
        return None
    return max(20, shutil.get_terminal_size().columns)


def answer(text: str, form: str | None, output: str | None) -> None:
    """What was asked for, in words: on stdout beside a table for people, else on stderr."""
    if form is not None or output not in (None, "-"):
        say(text)
        return
    from ssmprof.report.terminal import wrapped

    width = room()
    write(f"{text}\n" if width is None else wrapped(text, width), None)


def write(text: str, output: str | None) -> None:
    """Text to stdout, or to a file that is named on stderr. Raises ConfigError if it cannot be."""
    if output is None or output == "-":
        click.echo(_printable(terminal(text)), nl=False)
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise cannot_write(output, error) from None
    say(f"wrote {output}")


def _printable(text: str) -> str:
    """ASCII stand-ins where the locale cannot show a sign: data must not die of a micro sign."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        signs = {"µ": "u", "–": "-", "·": "-", "×": "x", "≈": "~", "…": "...", "²": "2", "→": "->"}
        text = "".join(signs.get(sign, sign) for sign in text)
        return text.encode(encoding, "replace").decode(encoding)
    return text


def contexts_type(_ctx: Any, _param: Any, value: str | None) -> tuple[int, ...] | None:
    """Callback of --contexts: `512-128K*2`, `1K-9K+2K`, `512,1K,4K`."""
    from ssmprof.units import parse_contexts

    return _parsed(parse_contexts, value)


def batch_type(_ctx: Any, _param: Any, value: str | None) -> tuple[int, ...] | None:
    """Callback of --batch: `1,4`."""
    from ssmprof.units import parse_batches

    return _parsed(parse_batches, value)


def phases_type(_ctx: Any, _param: Any, value: str | None) -> tuple[str, ...] | None:
    """Callback of --phase: `prefill,decode`."""
    from ssmprof.session.asking import parse_phases

    return _parsed(parse_phases, value)


def bytes_type(_ctx: Any, _param: Any, value: str | None) -> int | None:
    """Callback of a size: `8GiB`."""
    from ssmprof.units import parse_bytes

    return _parsed(parse_bytes, value)


def stored_options(command: Function) -> Function:
    """In which dtype weights, caches and states are kept: counted, not run."""
    kept = click.Choice(["bfloat16", "float16", "float32", "float8", "int8", "int4"])
    for name, text in (
        ("--state-dtype", "Of recurrent states; what the model says by default."),
        (
            "--cache-dtype",
            "Of keys, values and (16 bits at least) convolution windows; bfloat16 by default.",
        ),
        ("--weights-dtype", "Of weights; bfloat16 by default."),
    ):
        command = click.option(name, type=kept, help=text)(command)
    return command


def duration_type(_ctx: Any, _param: Any, value: str | None) -> float | None:
    """Callback of a duration: `20m`, `500ms`."""
    from ssmprof.units import parse_duration

    return _parsed(parse_duration, value)


def tokens_type(_ctx: Any, _param: Any, value: str | None) -> int | None:
    """Callback of one length: `8K`, `3,000`."""
    from ssmprof.units import parse_tokens

    return _parsed(parse_tokens, value)


def _parsed(parse: Callable[[str], Any], value: str | None) -> Any:
    if value is None:
        return None
    try:
        return parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
