"""A `config.json` of a known family -> Recipe: the sizes of a published model, without its code."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import msgspec

from ssmprof import limits
from ssmprof.bounded import read_file
from ssmprof.errors import ConfigError, nearest
from ssmprof.models.config import families
from ssmprof.models.config.keys import KeyProblem, decode, shown, strangers
from ssmprof.models.config.names import Source
from ssmprof.models.config.policy import MISSING, capability
from ssmprof.models.recipe import Recipe, check_recipe


@dataclass(frozen=True)
class Family:
    """One family: its keys as a struct, and how they become a recipe (keys, name).

    `names` (keys, recipe) says which published tensors each of our parameters is made of.
    """

    keys: type[msgspec.Struct]
    recipe: Callable[[Any, str], Recipe]
    names: Callable[[Any, Recipe], dict[str, Source]] | None = None


@cache
def known() -> dict[str, Family]:
    """`model_type` -> family; a file of `families/` has one table FAMILIES of such entries."""
    found: dict[str, Family] = {}
    for module in pkgutil.iter_modules(families.__path__):
        loaded = import_module(f"{families.__name__}.{module.name}")
        found.update(cast("dict[str, Family]", loaded.FAMILIES))
    return found


def read(path: Path | str, name: str | None = None) -> Recipe:
    """The recipe of a `config.json`, or of the folder that holds one, named like its folder.

    Raises ConfigError where the file cannot be read, its family is unknown or a key is missing,
    ill-typed, not understood or beyond the limits.
    """
    file, values = _opened(Path(path))
    if name is None:
        name = file.parent.name if file.name == "config.json" and file.parent.name else file.stem
    return of_values(values, name, str(file))


def of_values(values: dict[str, Any], name: str, source: str) -> Recipe:
    """The recipe of a configuration's keys; `source` names it in errors."""
    return _understood(values, name, source)[2]


def weight_names(values: dict[str, Any], source: str) -> dict[str, Source]:
    """Our parameters' names -> the published tensors of this configuration they are made of.

    Raises ConfigError where they cannot be said.
    """
    family, keys, recipe = _understood(values, "model", source)
    if family.names is None:
        raise ConfigError(f"{source}: weights of this family are not known by name")
    return family.names(keys, recipe)


def _understood(values: dict[str, Any], name: str, source: str) -> tuple[Family, Any, Recipe]:
    """A configuration's family, its keys and the recipe of them."""
    values = _text_model(values)
    kind = values.get("model_type", "state-spaces" if "ssm_cfg" in values else None)
    if not isinstance(kind, str):
        told = "missing" if kind is None else f"expected a string, got {shown(kind)}"
        raise ConfigError(f"{source}: model_type: {told}", fix="is this the config of a model?")
    if kind not in known():
        raise ConfigError(
            f"{source}: model_type: {_no_reader(kind, values)}",
            fix="write the sizes into a scenario, or name hf:FOLDER on the command line",
        )
    family = known()[kind]
    try:
        keys = decode(values, family.keys)
        found = family.recipe(keys, name)
    except KeyProblem as problem:
        raise ConfigError(f"{source}: {problem.key}: {problem.problem}") from None
    return family, keys, _within_limits(found, source)


def _no_reader(kind: str, values: dict[str, Any]) -> str:
    """Why a family cannot be read: what it needs, before what its name resembles.

    Another family is named only where none of the file's keys would be strange to it.
    """
    if kind in MISSING:
        return f'"{kind}" needs {MISSING[kind]}, which is not built'
    told = f"no reader for {shown(kind)}"
    fits = [name for name, family in known().items() if not strangers(values, family.keys)]
    close = nearest(kind[:60], fits)
    if close.startswith("; did you mean"):
        return f"{told}{close}"
    strange = set(values).intersection(*(strangers(values, f.keys) for f in known().values()))
    asked = {capability(key): key for key in sorted(strange, reverse=True)}
    spoken = [f"{what} ({key[:60]})" for what, key in asked.items() if what][:3]
    return f"{told}, whose keys speak of {', '.join(spoken)}" if spoken else f"{told}{close}"


def _text_model(values: dict[str, Any]) -> dict[str, Any]:
    """The keys of the language model in a file that describes more than it (vision, audio)."""
    inner = values.get("text_config")
    if not isinstance(inner, dict):
        return values
    below = cast("dict[str, Any]", inner)
    tied = values.get("tie_word_embeddings")
    if below.get("tie_word_embeddings") is None and tied is not None:
        below = {**below, "tie_word_embeddings": tied}
    return {"model_type": values.get("model_type"), **below}


def _within_limits(recipe: Recipe, source: str) -> Recipe:
    """The recipe, held against the bounds of its fields and against itself."""
    try:
        sound = msgspec.convert(msgspec.to_builtins(recipe), Recipe)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ConfigError(f"{source}: as a model: {error}".replace("`", "")) from None
    problem = check_recipe(sound)
    if problem:
        raise ConfigError(f"{source}: as a model: {problem[0]}: {problem[1]}")
    return sound


def _opened(path: Path) -> tuple[Path, dict[str, Any]]:
    """The file and its keys. Raises ConfigError where it cannot be read or is no object."""
    file = path
    try:
        if path.is_dir():
            file = path / "config.json"
        values = _decoded(read_file(file, limits.CONFIG_BYTES))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from error
    except RecursionError:
        raise ConfigError(f"{file}: no JSON that can be read: nested too deeply") from None
    except ValueError as error:  # a NUL in the name, too
        raise ConfigError(f"{file}: no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected an object of keys")
    return file, cast("dict[str, Any]", values)


def _decoded(data: bytes) -> Any:
    """JSON as Python writes it: Infinity, which JSON has not, is null (`time_step_limit`)."""
    if b"Infinity" not in data:
        return msgspec.json.decode(data)

    def constant(name: str) -> float | None:
        if name == "NaN":
            raise ValueError("NaN is no number")
        return None

    return msgspec.json.decode(msgspec.json.encode(json.loads(data, parse_constant=constant)))
