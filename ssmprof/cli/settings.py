"""Defaults of options from files: `ssmprof.toml` or `[tool.ssmprof]` here, then the user's own.

Precedence: flag, environment (SSMPROF_<COMMAND>_<OPTION>), these files, the option's default. A
table per command: `[sweep]` with `min_trust = "B"`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssmprof import limits
from ssmprof.bounded import read_file, toml
from ssmprof.errors import ConfigError


def defaults(config: str | None) -> dict[str, Any]:
    """Command -> option -> default, as click's `default_map`. Raises ConfigError with the file."""
    return {
        command: {option: value for option, (value, _) in options.items()}
        for command, options in read(config).items()
    }


def read(config: str | None) -> dict[str, dict[str, tuple[Any, str]]]:
    """Command -> option -> its value and the file it is from. Raises ConfigError with the file."""
    import click

    user = Path(click.get_app_dir("ssmprof")) / "ssmprof.toml"
    files = (user, Path("pyproject.toml"), Path("ssmprof.toml"))
    if config is not None:
        if not Path(config).is_file():
            raise ConfigError(f"{config}: no such settings file")
        files = (Path(config),)
    found: dict[str, dict[str, tuple[Any, str]]] = {}
    for file in files:
        if file.is_file():
            for command, options in _options(file).items():
                mine = {option: (value, str(file)) for option, value in options.items()}
                found.setdefault(command, {}).update(mine)
    return found


def _options(file: Path) -> dict[str, Any]:
    try:
        table = toml(read_file(file, limits.SCENARIO_BYTES).decode("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read as TOML", cause=str(error)) from None
    if file.name == "pyproject.toml":
        tool = table.get("tool")
        mine = tool.get("ssmprof") if isinstance(tool, dict) else None
        table = mine if isinstance(mine, dict) else {}
    for command, options in table.items():
        if not isinstance(options, dict):
            raise ConfigError(
                f"{file}: {command}: settings stand in a table per command",
                fix=f"[sweep] with a line {command} = ... below it, or another command's name",
            )
    return table
