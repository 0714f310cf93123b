"""A `config.json` of a known family -> Recipe: the sizes of a published model, without its code."""

from __future__ import annotations

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
from ssmprof.models.config.keys import KeyProblem, decode, shown
from ssmprof.models.recipe import Recipe, check_recipe


@dataclass(frozen=True)
class Family:
    """One family: its keys as a struct, and how they become a recipe (keys, name)."""

    keys: type[msgspec.Struct]
    recipe: Callable[[Any, str], Recipe]


@cache
def known() -> dict[str, Family]:
    """`model_type` -> family; a file of `families/` has one table FAMILIES of such entries."""
    found: dict[str, Family] = {}
    for module in pkgutil.iter_modules(families.__path__):
        loaded = import_module(f"{families.__name__}.{module.name}")
        found.update(cast("dict[str, Family]", loaded.FAMILIES))
    return found


def read(path: Path | str) -> Recipe:
    """The recipe of a `config.json`, or of the folder that holds one.

    Raises ConfigError where the file cannot be read, its family is unknown or a key is missing,
    ill-typed, not understood or beyond the limits.
    """
    file, values = _opened(Path(path))
    name = file.parent.name if file.name == "config.json" and file.parent.name else file.stem
    return of_values(values, name, str(file))


def of_values(values: dict[str, Any], name: str, source: str) -> Recipe:
    """The recipe of a configuration's keys; `source` names it in errors."""
    values = _text_model(values)
    kind = values.get("model_type", "state-spaces" if "ssm_cfg" in values else None)
    if not isinstance(kind, str):
        told = "missing" if kind is None else f"expected a string, got {shown(kind)}"
        raise ConfigError(f"{source}: model_type: {told}", fix="is this the config of a model?")
    if kind not in known():
        raise ConfigError(
            f'{source}: model_type: no reader for "{kind[:60]}"{nearest(kind, known())}',
            fix="write the sizes into a scenario, or name hf:FOLDER on the command line",
        )
    family = known()[kind]
    try:
        found = family.recipe(decode(values, family.keys), name)
    except KeyProblem as problem:
        raise ConfigError(f"{source}: {problem.key}: {problem.problem}") from None
    return _within_limits(found, source)


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
        values = msgspec.json.decode(read_file(file, limits.CONFIG_BYTES))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from error
    except RecursionError:
        raise ConfigError(f"{file}: no JSON that can be read: nested too deeply") from None
    except ValueError as error:  # a NUL in the name, too
        raise ConfigError(f"{file}: no JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected an object of keys")
    return file, cast("dict[str, Any]", values)
