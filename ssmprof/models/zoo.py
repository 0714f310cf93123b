"""The presets: name -> recipe of a real model, from `presets/NAME.toml`, each with its source.

A file holds a recipe as scenarios write it, or the keys of the published configuration under
`config`; beside it `source` (where the sizes were checked), `params` (of the published model) and
`note` (where the recipe differs from it).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, cast

import msgspec

from ssmprof.errors import ConfigError, nearest
from ssmprof.models.recipe import Recipe, check_recipe
from ssmprof.models.written import read_table
from ssmprof.scalars import Architecture

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FACTS = ("source", "params", "note")


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe of the zoo and what is known about the published model it follows."""

    recipe: Recipe
    source: str
    params: int | None = None
    note: str | None = None


class _Zoo(Mapping[str, Preset]):
    """Presets by name; a file is read when its preset is asked for."""

    def __init__(self) -> None:
        folder = resources.files("ssmprof.models").joinpath("presets")
        self._files = {
            file.name.removesuffix(".toml"): file
            for file in sorted(folder.iterdir(), key=lambda file: file.name)
            if file.name.endswith(".toml")
        }
        self._read: dict[str, Preset] = {}

    def __getitem__(self, name: str) -> Preset:
        if name not in self._read:
            text = self._files[name].read_text("utf-8")
            self._read[name] = _preset(name, tomllib.loads(text))
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


@cache
def zoo() -> Mapping[str, Preset]:
    """Every preset by name."""
    return _Zoo()


def preset(name: str) -> Recipe:
    """The recipe of this name; ConfigError with the nearest known name otherwise."""
    return entry(name).recipe


def entry(name: str) -> Preset:
    """The preset of this name with its source; ConfigError with the nearest known name."""
    if name not in zoo():
        raise ConfigError(
            f'unknown preset "{name[:60]}"{nearest(name, zoo())}', fix="ssmprof models lists them"
        )
    return zoo()[name]


def names(architecture: Architecture | None = None) -> tuple[str, ...]:
    """Names of all presets, or of one architecture's (transformer, ssm, hybrid)."""
    return tuple(
        name
        for name in zoo()
        if architecture is None or zoo()[name].recipe.architecture == architecture
    )


def _preset(name: str, table: dict[str, Any]) -> Preset:
    facts = {key: table.pop(key) for key in FACTS if key in table}
    if "config" in table:
        from ssmprof.models.config.reader import of_values

        found = of_values(cast("dict[str, Any]", table["config"]), name, f"preset {name}")
        found = msgspec.structs.replace(found, preset=name)
    else:
        found = read_table(name, {"preset": name, **table})
    problem = check_recipe(found)
    if problem:
        raise ConfigError(f"preset {name}: {problem[0]}: {problem[1]}")
    return Preset(recipe=found, **facts)
