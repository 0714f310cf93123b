"""What a user typed -> a recipe: a preset, a slice, a config.json, its folder, an id of the hub.

`sweep`, `plan`, `memory`, `models`, `fit` and `trace` all ask here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ssmprof.errors import ConfigError, nearest
from ssmprof.models.config.policy import MISSING
from ssmprof.models.config.reader import read
from ssmprof.models.hub import config_of, is_id
from ssmprof.models.recipe import Recipe
from ssmprof.models.slicing import sliced, split_name
from ssmprof.models.zoo import preset, zoo

# From the first size on, a name says nothing about its family: `olmo-3-7b-instruct`.
_SIZE = re.compile(r"[-_. ]?\d+(\.\d+)?[bmk]\b.*$", re.IGNORECASE)


def find(name: str) -> Recipe:
    """The recipe of this name. Raises ConfigError where nothing is called so."""
    if _is_file(name):  # an @ in a path is no slice
        return read(Path(name))
    whole, layers = split_name(name)
    found = _whole(whole)
    return found if layers is None else sliced(found, layers)


def _whole(name: str) -> Recipe:
    if name in zoo():
        return preset(name)
    if _is_file(name) or _is_path(name):
        return read(Path(name))
    if is_id(name):
        return read(config_of(name), name.rpartition("/")[2])
    raise ConfigError(
        f'"{name[:60]}" is no preset, file, folder or id of a model{suggestion(name, zoo())}',
        fix="ssmprof models lists presets; ORG/NAME is an id of the Hugging Face hub",
    )


def preset_named(name: str) -> Recipe:
    """The preset of this name, or the slice of one. Raises ConfigError for anything else."""
    whole, layers = split_name(name)
    found = preset(whole)
    return found if layers is None else sliced(found, layers)


def is_named(name: str) -> bool:
    """Whether `find` has something of this name to look at."""
    if _is_file(name):
        return True
    if _stands_there(name):
        return False  # something else, as a run
    try:
        whole, _ = split_name(name)
    except ConfigError:
        return True
    return whole in zoo() or _is_file(whole) or Path(whole).suffix == ".json" or is_id(whole)


def suggestion(name: str, known: Iterable[str]) -> str:
    """What a family needs that cannot be built, or else which known name is near."""
    family = re.sub(r"[^a-z0-9]", "", _SIZE.sub("", name.rpartition("/")[2]).lower())
    for kind, needs in MISSING.items():
        if kind.replace("_", "") == family:
            return f'; "{kind}" needs {needs}, which is not built'
    return nearest(name[:60], known)


def _is_file(name: str) -> bool:
    """Whether a config.json, or a folder with one, stands there."""
    try:
        path = Path(name)
        return path.joinpath("config.json").is_file() or (path.suffix == ".json" and path.is_file())
    except (OSError, ValueError):  # a name too long, a NUL
        return False


def _stands_there(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False


def _is_path(name: str) -> bool:
    """Whether a name can only be a path, though nothing may stand there."""
    return Path(name).suffix == ".json" or name.startswith((".", "/", "~")) or "\\" in name
