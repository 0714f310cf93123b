"""What a user typed -> a recipe: a preset, a slice of one, a config.json or its folder."""

from __future__ import annotations

from pathlib import Path

from ssmprof.errors import ConfigError
from ssmprof.models.config.reader import read
from ssmprof.models.recipe import Recipe
from ssmprof.models.slicing import sliced, split_name
from ssmprof.models.zoo import preset, zoo


def find(name: str) -> Recipe:
    """The recipe of this name. Raises ConfigError where nothing is called so."""
    whole, layers = split_name(name)
    found = preset(whole) if whole in zoo() else read(Path(whole))
    return found if layers is None else sliced(found, layers)


def preset_named(name: str) -> Recipe:
    """The preset of this name, or the slice of one. Raises ConfigError for anything else."""
    whole, layers = split_name(name)
    found = preset(whole)
    return found if layers is None else sliced(found, layers)


def is_named(name: str) -> bool:
    """Whether `find` has something of this name to look at."""
    try:
        whole, _ = split_name(name)
    except ConfigError:
        return True
    return whole in zoo() or Path(whole).suffix == ".json" or Path(whole, "config.json").is_file()
