"""A TOML file -> Scenario, or one error with file, key and mend.

Scenario files are data: they name presets, configurations and numbers, and can run no code. A block
is written out, or taken from a preset with some keys changed; a nested table changes only the keys
it names (`models.written`). `contexts = "512-128K*2"` stands beside a list, and `vocab = "none"`
takes embedding and head off a preset.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import msgspec

from ssmprof import limits
from ssmprof.bounded import read_file, toml
from ssmprof.errors import ConfigError, nearest
from ssmprof.models.written import Table, expanded
from ssmprof.spec import Budget, Passes, Refine, Scenario, Sweep, check_scenario
from ssmprof.units import parse_contexts

# Which keys a table of the file may hold; those of a block are looked at when it is resolved.
_TABLES: dict[str, type[msgspec.Struct]] = {
    "": Scenario,
    "sweep": Sweep,
    "sweep.refine": Refine,
    "budget": Budget,
    "passes": Passes,
}


def load(path: Path) -> Scenario:
    """Read a scenario file. Raises ConfigError naming file, key and mend."""
    try:
        text = read_file(path, limits.SCENARIO_BYTES).decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", fix="ssmprof scenarios lists them") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    return parse(text, str(path), folder=path.parent)


def parse(text: str, source: str, *, folder: Path | None = None) -> Scenario:
    """Decode TOML text; `source` names it in errors, `folder` is where relative paths start."""
    try:
        table: Table = toml(text)
    except ValueError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from None
    table.setdefault("name", Path(source).stem)
    table.setdefault("question", "")
    _check_keys(table, source)
    sweep = table.get("sweep")
    if isinstance(sweep, dict):
        _expand_contexts(cast("Table", sweep), source)
    blocks = table.get("blocks")
    if isinstance(blocks, list):
        table["blocks"] = [
            _resolve(block, f"blocks[{position}]", source, folder or Path())
            for position, block in enumerate(cast("list[Any]", blocks))
        ]
    return _convert(table, source)


def checked(scenario: Scenario, source: str) -> Scenario:
    """A scenario whose values came from elsewhere, held against the same limits and rules."""
    return _convert(cast("Table", msgspec.to_builtins(scenario)), source)


def _check_keys(table: Table, source: str, path: str = "") -> None:
    """Refuse a key that no table of this place has, naming the nearest that it has."""
    plain = re.sub(r"\[\d+\]", "", path)
    record = _TABLES.get(plain)
    if record is None:
        return
    known = {field.name for field in msgspec.structs.fields(record)}
    for key, value in table.items():
        where = f"{path}.{key}" if path else key
        if key not in known:
            raise ConfigError(f"{source}: {where}: unknown key{nearest(key, known)}")
        if isinstance(value, dict):
            _check_keys(cast("Table", value), source, where)
        elif isinstance(value, list):
            for position, item in enumerate(cast("list[Any]", value)):
                if isinstance(item, dict):
                    _check_keys(cast("Table", item), source, f"{where}[{position}]")


def _expand_contexts(sweep: Table, source: str) -> None:
    """Turn `contexts` into ascending, distinct lengths; strings hold ranges."""
    contexts = sweep.get("contexts")
    if isinstance(contexts, list):
        for position, item in enumerate(cast("list[Any]", contexts)):
            if isinstance(item, int) and not isinstance(item, bool) and item < 1:
                raise ConfigError(
                    f"{source}: sweep.contexts[{position}]: {item} is not a length",
                    fix="lengths are tokens, 1 and more",
                )
    parts = cast("list[Any]", contexts if isinstance(contexts, list) else [contexts])
    lengths: set[int] = set()
    read = 0
    for part in parts:
        if isinstance(part, str):
            try:
                found = parse_contexts(part)
                lengths.update(found)
                read += len(found)
                if read > limits.CONTEXTS:
                    raise ValueError(f"{read:,} lengths; at most {limits.CONTEXTS:,}")
            except ValueError as error:
                raise ConfigError(
                    f"{source}: sweep.contexts: {error}",
                    fix='contexts = "512-128K*2", "512,1K,4K" or [512, 1024, 4096]',
                ) from None
        elif isinstance(part, int) and not isinstance(part, bool):
            lengths.add(part)
        else:
            return  # the wrong type or a missing key: the decoder says so
    sweep["contexts"] = sorted(lengths)


def _resolve(block: Any, where: str, source: str, folder: Path) -> Any:
    """A block's table with its preset or configuration file filled in."""
    if not isinstance(block, dict):
        return block
    table = dict(cast("Table", block))
    if "factory" in table:
        raise ConfigError(
            f"{source}: {where}.factory: a scenario file is data and runs no code",
            fix="name module:function on the command line: ssmprof sweep module:function",
        )
    base = _named(table, where, source, folder)
    try:
        return {"type": "recipe", **expanded(table, base)}
    except ConfigError as error:
        raise ConfigError(f"{source}: {where}.{error.what}", fix=error.fix) from None


def _named(table: Table, where: str, source: str, folder: Path) -> Table:
    """The model that `preset` or `hf` names, as plain values; takes both out of the table."""
    if "preset" in table and "hf" in table:
        raise ConfigError(f"{source}: {where}: preset and hf exclude each other")
    key = next((key for key in ("preset", "hf") if key in table), None)
    if key is None:
        return {}
    from ssmprof.models.find import find, preset_named

    name = table.pop(key)
    if not isinstance(name, str):
        raise ConfigError(f"{source}: {where}.{key}: expected the name of a model")
    try:
        found = preset_named(name) if key == "preset" else find(str(folder / name))
    except ConfigError as error:
        raise ConfigError(f"{source}: {where}.{key}: {error.what}", fix=error.fix) from None
    return cast("Table", msgspec.to_builtins(found))


def _convert(table: Table, source: str) -> Scenario:
    try:
        scenario = msgspec.convert(table, Scenario)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        where = path.rstrip("`").lstrip(".")
        missing = re.search(r"missing required field `(\w+)`", message)
        if missing:
            where = f"{where}.{missing[1]}" if where else missing[1]
            message = "missing"
        message = message[:1].lower() + message[1:].replace("`", "")
        raise ConfigError(
            f"{source}: {where + ': ' if where else ''}{message}",
            fix="ssmprof new FILE writes a scenario with every key explained",
        ) from None
    problem = check_scenario(scenario)
    if problem:
        raise ConfigError(f"{source}: {problem[0]}: {problem[1]}")
    return scenario
