"""Keys of a `config.json`, typed by the struct of its family, or one error that names the key.

null is read like a key that is not there, except where the type of a key allows it
(`sliding_window` of Mistral: null is none, absent is 4,096). What a key of no struct may mean is
said in `policy`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from types import NoneType
from typing import Annotated, Any, TypeVar, cast, get_args

import msgspec
from msgspec import Meta, Struct

from ssmprof import limits
from ssmprof.errors import nearest
from ssmprof.models.config.policy import capability, speaks_of_shape
from ssmprof.scalars import Size

Count = Annotated[int, Meta(ge=1, le=limits.LAYERS)]
Whole = Annotated[int, Meta(ge=0, le=limits.WIDTH)]
Real = Annotated[float, Meta(ge=-limits.ROPE_BASE, le=limits.ROPE_BASE)]
Positive = Annotated[float, Meta(gt=0, le=limits.ROPE_BASE)]
Share = Annotated[float, Meta(gt=0, le=1)]
Factor = Annotated[float, Meta(ge=1 / limits.SCALE, le=limits.SCALE)]
Epsilon = Annotated[float, Meta(gt=0, le=1)]
Text = Annotated[str, Meta(max_length=limits.NAME_CHARACTERS)]
Layers = Annotated[tuple[Text, ...], Meta(max_length=limits.LAYERS)]

Keys = TypeVar("Keys", bound=Struct)


class KeyProblem(ValueError):
    """A key whose value cannot be what the model has; `key` is its path."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key
        self.problem = problem


def shown(value: Any) -> str:
    """A value as it stands in a message: short, on one line."""
    return repr(value)[:60]


def decode(values: dict[str, Any], struct: type[Keys], inside: str = "") -> Keys:
    """The keys of an object as a struct of their types.

    `inside` is the path of the object in the file, with a dot behind. Raises KeyProblem for a key
    that is ill-typed, out of bounds, missing, or not known although its name speaks of a shape.
    """
    known = _nullable(struct)
    given = {key: value for key, value in values.items() if value is not None or known.get(key)}
    for key, value in given.items():
        if key not in known and _matters(key, value):
            raise KeyProblem(
                f"{inside}{key[:60]}", _unknown(key, value, known.keys() - given.keys())
            )
    try:
        return msgspec.convert({key: given[key] for key in known if key in given}, struct)
    except (msgspec.ValidationError, OverflowError) as error:
        raise _problem(str(error), given, inside) from None


def strangers(values: dict[str, Any], struct: type[Struct]) -> list[str]:
    """Keys that a struct does not have and that may change a model's shape."""
    known = _nullable(struct)
    return [key for key, value in values.items() if key not in known and _matters(key, value)]


def _matters(key: str, value: Any) -> bool:
    """Whether a key that a struct does not have may change the model: what is off does not."""
    return speaks_of_shape(key) and value not in (None, False, 0, "", [], {})


@cache
def _nullable(struct: type[Struct]) -> dict[str, bool]:
    """Key -> whether null is a value of its own."""
    fields = msgspec.structs.fields(struct)
    return {field.encode_name: NoneType in get_args(field.type) for field in fields}


def _unknown(key: str, value: Any, absent: set[str]) -> str:
    """A sentence on a key that no field has: what it asks for, or what it may have meant."""
    close = nearest(key, absent)
    if close.startswith("; did you mean"):
        return f"{shown(value)} is not understood{close}"
    asked = capability(key)
    if asked is not None:
        return f"{shown(value)}: {asked}, which this family is not known to have"
    return f"{shown(value)} is not understood, and may change the model's shape"


def _problem(text: str, given: dict[str, Any], inside: str) -> KeyProblem:
    """msgspec's message as a key and a sentence."""
    message, _, path = text.partition(" - at `$")
    where = path.rstrip("`").lstrip(".")
    missing = re.search(r"missing required field `(\w+)`", message)
    if missing:
        return KeyProblem(f"{inside}{where + '.' if where else ''}{missing[1]}", "missing")
    wanted = re.sub(r", got \w+$", "", message.replace("`", "").lower())
    return KeyProblem(f"{inside}{where or 'the file'}", f"{wanted}, got {shown(_at(given, where))}")


def _at(given: dict[str, Any], path: str) -> Any:
    """The value at a path like `layer_types[3]`."""
    value: Any = given
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(value, dict) and step in value:
            value = cast("dict[str, Any]", value)[step]
        elif isinstance(value, list) and step.isdigit():
            value = cast("list[Any]", value)[int(step)]
    return cast("Any", value)


def heads_of(size: int, heads: int, key: str = "num_attention_heads") -> int:
    """Width of a head where a file does not say it. Raises KeyProblem where none is left."""
    if size < heads:
        raise KeyProblem(key, f"{heads} heads do not fit {size} features")
    return size // heads


def kinds(layers: Sequence[str] | None, known: Mapping[str, str], key: str) -> list[str]:
    """What each layer of a list is, by a table of the names it may have."""
    if not layers:
        raise KeyProblem(key, "empty: a model without layers")
    for layer in layers:
        if layer not in known:
            asked = capability(layer)
            told = f": {asked}, which this family is not known to have" if asked else ""
            raise KeyProblem(key, f"cannot build {shown(layer)}{told or nearest(layer, known)}")
    return [known[layer] for layer in layers]


def held_against(layers: Sequence[Any], count: int | None, key: str) -> None:
    """A list of layers has as many as the file says."""
    if count is not None and len(layers) != count:
        raise KeyProblem(key, f"{len(layers)} layers, but num_hidden_layers is {count}")


def chosen(value: int | str | None, default: Size, key: str) -> int:
    """A positive integer, where nothing and "auto" leave the choice to a rule."""
    if value is None or value == "auto":
        return default
    if isinstance(value, str) or value < 1:
        raise KeyProblem(key, f'expected a positive integer or "auto", got {shown(value)}')
    return value


def must_be(value: Any, only: Any, key: str, needs: str) -> None:
    """The one value of a key that can be built; `needs` says what another one asks for."""
    if value != only:
        raise KeyProblem(key, f"{shown(value)}: {needs}, which is not built")


def agree(value: Any, other: Any, key: str, than: str) -> None:
    """Two keys that say the same thing say the same value; nothing agrees with anything."""
    if value is not None and other is not None and value != other:
        raise KeyProblem(key, f"{shown(value)}, but {than} is {shown(other)}")
