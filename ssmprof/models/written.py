"""A recipe as people write it in TOML -> its plain values.

A sub-layer's table stands under the name of its kind (`mamba2 = { d_inner = 2048, ... }`), or under
`parts.NAME` with its `kind`, where a model has two of one kind; `layers` is a line of such names.
`"none"` stands for nothing, which TOML has no word for.
"""

from __future__ import annotations

import re
from typing import Any, cast, get_args

import msgspec

from ssmprof.errors import ConfigError, nearest
from ssmprof.mixers import registry
from ssmprof.mixers.part import Part
from ssmprof.models.notation import parse_layers
from ssmprof.models.recipe import Layer, Recipe, Shared

Table = dict[str, Any]

# What a table may hold beside sub-layers. `merge` says how layers side by side become one; a slice
# is asked for by its name.
KEYS = frozenset({field.name for field in msgspec.structs.fields(Recipe)} - {"slice"} | {"merge"})


def expanded(table: Table, base: Table | None = None) -> Table:
    """The plain values of a recipe: `base` (those of another), changed by a table as written.

    Raises ConfigError with the key, relative to the table, where one is not known.
    """
    found = dict(base or {})
    parts: dict[str, Any] = {name: dict(part) for name, part in found.get("parts", {}).items()}
    _refuse_former(table)
    for name, value in table.get("parts", {}).items():
        if not isinstance(value, dict):
            raise ConfigError(f"parts.{name}: expected a table with a kind and sizes")
        parts[name] = _changed(parts.get(name), cast("Table", value), f"parts.{name}", None)
    for key, value in table.items():
        if key in ("parts", "merge", "layers"):
            continue
        if key in KEYS:
            found[key] = None if value == "none" else value
        elif key in parts or key in registry.parts():
            if not isinstance(value, dict):
                raise ConfigError(f"{key}: expected a table of sizes")
            parts[key] = _changed(parts.get(key), cast("Table", value), key, key)
        else:
            raise ConfigError(
                f"{key}: unknown key{nearest(key, {*KEYS, *parts, *registry.parts()})}"
            )
    found["parts"] = parts
    if found.get("slice"):
        _refuse_hidden(found, table)
    if "layers" in table:
        found["layers"] = _layers(table["layers"], table.get("merge", "sum"))
    elif "merge" in table:
        raise ConfigError("merge: says nothing without layers")
    return found


def read_table(name: str, table: Table) -> Recipe:
    """The recipe of a table as written. Raises ConfigError with the key."""
    values = {"type": "recipe", "name": name, **expanded(table)}
    try:
        return msgspec.convert(values, Recipe)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ConfigError(_told(str(error), name)) from None


def _refuse_former(table: Table) -> None:
    """Pattern and depth were another way to say what `layers` says."""
    if "pattern" not in table and "depth" not in table and "state" not in table:
        return
    key = next(key for key in ("pattern", "depth", "state") if key in table)
    raise ConfigError(
        f"{key}: a form of earlier releases",
        fix='layers = "(mamba2 mlp)*4 attention mlp" with mamba2 = { ... } and so on, or the first '
        'layers of a preset: preset = "mamba2-130m@4"',
    )


def _refuse_hidden(found: Table, table: Table) -> None:
    """A block taken from a slice has its layers, and a name that says so."""
    mark = f"@{found['slice']['layers']}"
    if "layers" in table:
        raise ConfigError(
            f"layers: a slice has those of its model, the first {found['slice']['layers']}",
            fix=f'preset = "{found["slice"]["of"]}" and a name of its own',
        )
    name = found["name"]
    if isinstance(name, str) and not re.search(rf"{mark}(?!\d)", name):
        raise ConfigError(
            f'name: "{name[:60]}" hides that this is a slice', fix=f'name = "{name[:60]}{mark}"'
        )


def _changed(before: Any, change: Table, where: str, name: str | None) -> Table:
    """A part with some keys changed; its kind is that of its name unless it says so."""
    table = {**(before or {}), **change}
    table.setdefault("kind", name)
    kind = table["kind"]
    if not isinstance(kind, str):
        raise ConfigError(f'{where}.kind: missing; say which sub-layer it is, as kind = "mamba2"')
    try:
        part = registry.named(kind)
    except ConfigError as error:
        raise ConfigError(f"{where}.kind: {error.what}") from None
    known = {"kind", *part.__struct_fields__}
    for key in change:
        if key not in known:
            raise ConfigError(f"{where}.{key}: unknown key{nearest(key, known)}")
    words = {field.name for field in msgspec.structs.fields(part) if "none" in get_args(field.type)}
    given = {
        key: None if value == "none" and key not in words else value for key, value in table.items()
    }
    try:
        msgspec.convert(given, part)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ConfigError(_told(str(error), where)) from None
    return given


def _told(text: str, where: str) -> str:
    """msgspec's message as key and problem."""
    message, _, path = text.partition(" - at `$")
    where += path.rstrip("`")
    missing = re.search(r"missing required field `(\w+)`", message)
    if missing:
        return f"{where}.{missing[1]}: missing"
    return f"{where}: {message[:1].lower()}{message[1:]}".replace("`", "")


def _layers(value: Any, merge: Any) -> Any:
    if merge not in ("sum", "mean"):
        raise ConfigError(f'merge: "{str(merge)[:40]}" is neither "sum" nor "mean"')
    return msgspec.to_builtins(parse_layers(value, merge)) if isinstance(value, str) else value


def recipe(
    name: str,
    d_model: int,
    layers: str | tuple[Layer, ...],
    parts: dict[str, Part],
    *,
    merge: str = "sum",
    **values: Any,
) -> Recipe:
    """A recipe from values: layers as a line, parts by name; `merge` as in `parse_layers`."""
    found = parse_layers(layers, cast("Any", merge)) if isinstance(layers, str) else layers
    used = {part for layer in found for part in _named_by(layer)}
    kept = {part: shape for part, shape in parts.items() if part in used}
    return Recipe(name=name, d_model=d_model, layers=found, parts=kept, **values)


def _named_by(layer: Layer) -> tuple[str, ...]:
    shared: Shared | None = layer.shared
    return (*layer.parts, *(shared.parts if shared else ()))
