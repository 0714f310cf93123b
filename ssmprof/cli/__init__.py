"""The command line: words to functions. The only place that prints, exits or turns errors to codes.

Commands are found in one literal table and imported when asked for; the libraries they need are
imported when they run, so that `ssmprof --help` starts fast. On a terminal rich-click dresses help
and errors; a pipe gets plain text, and does not wait for rich to be imported.
"""

from __future__ import annotations

import atexit
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from ssmprof.cli import streams, wrong
from ssmprof.cli.meant import command_meant
from ssmprof.errors import (
    EXIT_DONE,
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_NO_DEVICE,
    EXIT_NOT_KEPT,
    EXIT_USAGE,
    ConfigError,
    SsmprofError,
    is_of_the_medium,
    nearest,
    reason,
)
from ssmprof.harmless import terminal

# What --exit-zero does not turn into 0: nothing came out of it, or not all of it.
_KEPT_CODES = (EXIT_USAGE, EXIT_NO_DEVICE, EXIT_INTERNAL, EXIT_NOT_KEPT, EXIT_INTERRUPTED)

# Group -> command -> module in this package; the order is that of the help page.
COMMANDS: dict[str, dict[str, str]] = {
    "Prepare": {
        "doctor": "doctor",
        "devices": "devices",
        "scenarios": "scenarios",
        "models": "models",
        "new": "new",
        "plan": "plan",
    },
    "Measure": {
        "sweep": "sweep",
        "fit": "fit",
        "memory": "memory",
        "trace": "trace",
    },
    "Ask a run": {
        "report": "report",
        "crossover": "crossover",
        "kernels": "kernels",
        "decide": "decide",
        "advise": "advise",
        "claims": "claims",
        "project": "project",
        "compare": "compare",
    },
    "Serve": {
        "serving": "serving",
    },
    "Exchange": {
        "gallery": "gallery",
        "share": "share",
        "export": "export",
        "import": "import_",
        "schema": "schema",
        "config": "config",
        "completion": "completion",
        "help": "topics",
    },
}
MODULES = {name: module for group in COMMANDS.values() for name, module in group.items()}


def _dress() -> bool:
    """Let rich-click draw help and errors of everything defined from here on."""
    streams.ensure()
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        return False
    from rich_click import rich_click
    from rich_click.patch import patch

    rich_click.COMMAND_GROUPS = {
        "ssmprof": [{"name": group, "commands": list(names)} for group, names in COMMANDS.items()]
    }
    rich_click.MAX_WIDTH = 100
    patch()
    return True


DRESSED = _dress()


class LazyGroup(click.Group):
    """Imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Any:
        module = MODULES.get(cmd_name)
        if module is None:
            return None
        return importlib.import_module(f"ssmprof.cli.{module}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if DRESSED:
            super().format_commands(ctx, formatter)
            return
        for group, names in COMMANDS.items():
            with formatter.section(group):
                formatter.write_dl(
                    [(name, self.get_command(ctx, name).get_short_help_str(70)) for name in names]
                )

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in MODULES and not args[0].startswith("-"):
            raise _no_command(args[0])
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "SSMPROF"},
)
@click.option("-q", "--quiet", is_flag=True, help="Errors only on stderr.")
@click.option("-v", "--verbose", is_flag=True, help="More on stderr.")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="Colour on a terminal, always or never (NO_COLOR is obeyed too).",
)
@click.option("--config", metavar="FILE", help="Settings file instead of ./ssmprof.toml.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--exit-zero", is_flag=True, help="Exit 0 for all outcomes but 2, 3, 70, 74 and 130.")
@click.version_option(None, "--version", package_name="ssmprof", message="ssmprof %(version)s")
@click.pass_context
def cli(
    ctx: click.Context,
    quiet: bool,
    verbose: bool,
    color: str,
    config: str | None,
    debug: bool,
    exit_zero: bool,
) -> None:
    """Where a state-space model starts to beat attention on the GPU in front of you, and why.

    Start with: ssmprof sweep quickstart, then ssmprof report.
    """
    if color != "auto":
        ctx.color = color == "always"
    if color == "never":
        os.environ["NO_COLOR"] = "1"
    ctx.obj = {"quiet": quiet, "verbose": verbose, "debug": debug, "exit_zero": exit_zero}
    from ssmprof.cli.settings import defaults

    ctx.default_map = defaults(config)


def _no_command(word: str) -> ConfigError:
    """What is wrong with a word that is no command, and which command it means."""
    what = f'no command is named "{word[:60]}"'
    meant = command_meant(word)
    if meant is not None:
        return ConfigError(what, fix=f"ssmprof {meant}")
    close = nearest(word, MODULES)
    return ConfigError(what + close if "did you mean" in close else what)


def main(args: list[str] | None = None) -> None:
    """Entry point of `ssmprof`: runs a command and exits with its code (help exit-codes)."""
    arguments = sys.argv[1:] if args is None else args
    with _ended_as_by_ctrl_c(for_good=args is None):
        try:
            code = _code_of(arguments)
        except (KeyboardInterrupt, click.Abort):
            code = _fail("interrupted", EXIT_INTERRUPTED)
    sys.exit(code)


def _code_of(arguments: list[str]) -> int:
    """Run a command and say what went wrong. Raises KeyboardInterrupt or Abort if told to end."""
    debug = "--debug" in arguments
    typed = wrong.command_typed(arguments, list(MODULES))
    try:
        code = cli.main(args=arguments, prog_name="ssmprof", standalone_mode=False)
    except SsmprofError as error:
        code = _fail(wrong.text_of(error, typed), error.exit_code, debug)
    except click.ClickException as error:
        code = _fail(wrong.text_of(wrong.of_click(error), typed), error.exit_code, debug)
    except click.Abort:
        raise
    except BrokenPipeError:
        # The reader of a pipe (head, less) has seen enough; a second error at exit helps nobody.
        streams.mute(1)
        code = EXIT_DONE
    except OSError as error:
        if is_of_the_medium(error):
            streams.mute(1)
            where = error.filename or "output"
            code = _fail(f"error: {where}: {reason(error)}", EXIT_NOT_KEPT, debug)
        else:
            code = _internal(error, debug)
    except Exception as error:
        code = _internal(error, debug)
    code = code if isinstance(code, int) else EXIT_DONE
    if "--exit-zero" in arguments and code not in _KEPT_CODES:
        code = EXIT_DONE
    return code


def _fail(text: str, code: int, debug: bool = False) -> int:
    """Say what went wrong, with where if that was asked for, and give the code back."""
    if debug:
        streams.tell(traceback.format_exc().rstrip())
    streams.tell(terminal(text))
    return code


def _internal(error: Exception, debug: bool) -> int:
    """A bug of ours, in one line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(last.filename)}:{last.lineno}"
    said = " ".join(str(error).split())[:300]
    text = f"internal error: {type(error).__name__}: {said} (at {where}); a bug of ssmprof"
    return _fail(text if debug else f"{text}, --debug shows where", EXIT_INTERNAL, debug)


@contextmanager
def _ended_as_by_ctrl_c(for_good: bool) -> Iterator[None]:
    """SIGTERM and SIGHUP clean up as Ctrl-C does; under nohup SIGHUP stays ignored.

    `for_good`: the process ends after this, and what handles the signals stays until it is gone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, _told_to_end)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    }
    if for_good:
        # Python's last steps take every handler away, but leave ignored what is ignored.
        atexit.register(_handle, dict.fromkeys(before, signal.SIG_IGN))
    try:
        yield
    finally:
        if not for_good:
            _handle(before)


def _handle(handlers: dict[signal.Signals, Any]) -> None:
    """Give each signal its handler."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _told_to_end(number: int, frame: FrameType | None) -> None:
    """Interrupt the command; where none runs, end at once: nobody would catch an exception."""
    while frame is not None:
        if frame.f_code is _code_of.__code__:
            raise KeyboardInterrupt
        frame = frame.f_back
    os._exit(EXIT_INTERRUPTED)
