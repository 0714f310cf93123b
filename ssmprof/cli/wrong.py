"""Whatever was typed wrongly, in one form: what is wrong, why, and what to `try:` instead.

Errors of click are turned into ours, so that there is one way to be told; an error that has no
advice of its own points to the help page of the command that was typed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

from ssmprof.cli.meant import option_meant
from ssmprof.errors import EXIT_USAGE, ConfigError, SsmprofError, nearest

_GUESS = re.compile(r"; (did you mean [^;?]*\?)$")
_NO_CHOICE = re.compile(r"^'(.*?)' is not one of", re.DOTALL)


def text_of(error: SsmprofError, command: str) -> str:
    """What is printed: `error: what`, `cause: ...`, `try: ...`; usage is never without a `try`."""
    what, fix = error.what, error.fix
    guess = _GUESS.search(what)
    if guess:
        what, fix = what[: guess.start()], guess[1] if fix is None else f"{guess[1]} Or: {fix}"
    if fix is None and error.exit_code == EXIT_USAGE:
        fix = f"{command} --help"
    return f"error: {SsmprofError(what, cause=error.cause, fix=fix)}"


def of_click(error: click.ClickException) -> SsmprofError:
    """The same error as ours."""
    if isinstance(error, click.NoSuchOption):
        return _no_option(error)
    if isinstance(error, click.MissingParameter):
        return ConfigError(f"{_named(error)} is missing")
    if isinstance(error, click.BadParameter):
        return _bad_value(error)
    return ConfigError(error.format_message().rstrip("."))


def command_typed(arguments: Sequence[str], known: Sequence[str]) -> str:
    """`ssmprof sweep`: the command that was asked for, as it is typed."""
    found = next((word for word in arguments if word in known), None)
    return "ssmprof" if found is None else f"ssmprof {found}"


def _no_option(error: click.NoSuchOption) -> ConfigError:
    context = error.ctx
    command = context.command_path if context else "ssmprof"
    options = [
        name
        for one in (context.command.params if context else [])
        if isinstance(one, click.Option)
        for name in one.opts
    ]
    what = f'{command} has no option "{error.option_name}"'
    root = context.find_root() if context else None
    if root is not None and root is not context:
        ahead = [name for one in root.command.params for name in one.opts]
        if error.option_name in ahead:
            words = command.split(" ", 1)
            fix = f"{words[0]} {error.option_name} {words[1]}: it stands before the command"
            return ConfigError(what, fix=fix)
    meant = option_meant(error.option_name, options)
    if meant is not None:
        return ConfigError(what, fix=meant)
    close = nearest(error.option_name, options)
    return ConfigError(what + (close if "did you mean" in close else ""))


def _bad_value(error: click.BadParameter) -> ConfigError:
    message = error.message.rstrip(".")
    kind = error.param.type if error.param else None
    found = _NO_CHOICE.match(message)
    if found and isinstance(kind, click.Choice):
        choices = [str(one) for one in kind.choices]
        message = f'"{found[1]}" is none of {", ".join(choices)}'
        close = nearest(found[1], choices)
        message += close if "did you mean" in close else ""
    what, _, advice = message.partition("; write ")
    return ConfigError(f"{_named(error)}: {what}", fix=f"{advice}" if advice else None)


def _named(error: click.BadParameter) -> str:
    """`--cap`, or `MODEL` of an argument."""
    if isinstance(error.param_hint, str):
        return error.param_hint
    if isinstance(error.param, click.Option):
        return max(error.param.opts, key=len)
    if error.param is not None:
        return error.param.make_metavar(error.ctx or click.Context(click.Command("ssmprof")))
    return "value"
