"""`ssmprof config show`: which settings apply here, and where each comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import click
from click.core import ParameterSource

from ssmprof.cli.options import emit, say, table_options
from ssmprof.errors import ConfigError, nearest

_GLOBAL = "ssmprof"
_PLAIN = (str, int, float, bool, list, tuple)


@click.group("config", short_help="Settings in force and where they come from.")
def command() -> None:
    """Settings: flags, variables, files and defaults.

    Example: ssmprof config show sweep
    """


@command.command("show", short_help="Settings in force and where they come from.")
@click.argument("name", required=False, metavar="[COMMAND]")
@click.option("--all", "everything", is_flag=True, help="Options that nothing sets, too.")
@table_options
@click.pass_context
def show(
    ctx: click.Context, name: str | None, everything: bool, form: str | None, output: str | None
) -> None:
    """Settings of COMMAND, or of all, each with its origin: flag, variable, file or default.

    Example: ssmprof config show sweep --json
    """
    from ssmprof.cli import MODULES
    from ssmprof.cli.settings import read
    from ssmprof.report.tables import Column, Table

    if name is not None and name not in MODULES:
        raise ConfigError(f'no command is named "{name}"{nearest(name, MODULES)}')
    root = ctx.find_root()
    files = read(root.params.get("config"))
    rows = [] if name else list(_global_rows(root))
    for one in [name] if name else MODULES:
        rows += _rows(root, one, files.get(one, {}))
    _say_unknown(root, files)
    shown = tuple(row for row in rows if everything or row["value"] not in (None, False))
    columns = (
        Column("command", "command"),
        Column("option", "option"),
        Column("value", "value", _text),
        Column("origin", "from"),
    )
    emit(Table("Settings", columns, shown), form, output)


def _global_rows(root: click.Context) -> Iterator[dict[str, Any]]:
    for option in _options(root.command):
        assert option.name is not None, "an option that is read has a name"
        value, origin = root.params.get(option.name), "default"
        source = root.get_parameter_source(option.name)
        if source is ParameterSource.COMMANDLINE:
            origin = f"flag {option.opts[-1]}"
        elif source is ParameterSource.ENVIRONMENT:
            origin = _variable(option.name)
        elif option.name == "color" and os.environ.get("NO_COLOR"):
            value, origin = "never", "NO_COLOR"
        yield {"command": _GLOBAL, "option": option.name, "value": value, "origin": origin}


def _rows(
    root: click.Context, name: str, files: dict[str, tuple[Any, str]]
) -> Iterator[dict[str, Any]]:
    """Resolved by click itself, as when the command runs without a flag."""
    found = _command(root, name)
    here = click.Context(found, parent=root, info_name=name)
    for option in _options(found):
        assert option.name is not None, "an option that is read has a name"
        value, source = option.consume_value(here, {})
        origin = "default"
        if source is ParameterSource.ENVIRONMENT:
            origin = _variable(name, option.name)
        elif source is ParameterSource.DEFAULT_MAP:
            origin = files[option.name][1]
        yield {
            "command": name,
            "option": option.name,
            "value": value if isinstance(value, _PLAIN) else None,
            "origin": origin,
        }


def _options(found: click.Command) -> list[click.Option]:
    """Options that files and variables can set, each name once."""
    named = {
        option.name: option
        for option in found.params
        if isinstance(option, click.Option) and option.expose_value
    }
    return list(named.values())


def _command(root: click.Context, name: str) -> click.Command:
    assert isinstance(root.command, click.Group)
    found = root.command.get_command(root, name)
    assert found is not None, "the name is one of the table of commands"
    return found


def _variable(*names: str) -> str:
    return "_".join(("ssmprof", *names)).replace("-", "_").upper()


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _say_unknown(root: click.Context, files: dict[str, dict[str, tuple[Any, str]]]) -> None:
    """Settings in files that no command reads: a misspelt one would silently do nothing."""
    from ssmprof.cli import MODULES

    for name, settings in files.items():
        if name not in MODULES:
            file = next((file for _, file in settings.values()), "settings")
            say(f"! {file}: [{name}]: no such command{nearest(name, MODULES)}")
            continue
        known = [option.name or "" for option in _options(_command(root, name))]
        for key, (_, file) in settings.items():
            if key not in known:
                say(f"! {file}: [{name}] {key}: no such option{nearest(key, known)}")
