"""Name of a sub-layer -> what it is: found in the folders beside this file, named nowhere else."""

from __future__ import annotations

import pkgutil
from functools import cache, reduce
from importlib import import_module
from importlib.util import find_spec
from operator import or_
from typing import TYPE_CHECKING, Any

from ssmprof import mixers
from ssmprof.errors import ConfigError, nearest
from ssmprof.mixers.part import Part, kind


@cache
def folders() -> tuple[str, ...]:
    """Names of the folders that hold sub-layers."""
    return tuple(
        sorted(module.name for module in pkgutil.iter_modules(mixers.__path__) if module.ispkg)
    )


@cache
def parts() -> dict[str, type[Part]]:
    """Every kind of sub-layer by its name."""
    found: dict[str, type[Part]] = {}
    for folder in folders():
        if find_spec(f"{mixers.__name__}.{folder}.shape") is None:
            continue
        module = import_module(f"{mixers.__name__}.{folder}.shape")
        for value in vars(module).values():
            if _is_kind(value) and value.__module__ == module.__name__:
                found[kind(value)] = value
    return found


def _is_kind(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Part) and value is not Part


def named(name: str) -> type[Part]:
    """The kind of sub-layer of this name; ConfigError with the nearest known name otherwise."""
    if name not in parts():
        raise ConfigError(f'unknown sub-layer "{name[:40]}"{nearest(name, parts())}')
    return parts()[name]


def files(name: str) -> tuple[str, ...]:
    """Modules of this name (`block`, `ops`, `hf`) in all folders that have one."""
    every = (f"{mixers.__name__}.{folder}.{name}" for folder in folders())
    return tuple(module for module in every if find_spec(module) is not None)


def runs(name: str) -> bool:
    """Whether a call of this kind of sub-layer can be made, without importing torch."""
    return named(name).__module__.replace(".shape", ".block") in files("block")


def block(name: str) -> type[Any]:
    """The module class that runs a kind of sub-layer: `Class(part, context)`; imports torch.

    Raises ConfigError where it can only be counted.
    """
    if not runs(name):
        raise ConfigError(f"{named(name).label}: cannot be run yet, only counted and planned")
    module = import_module(named(name).__module__.replace(".shape", ".block"))
    return module.BLOCKS[name]


if TYPE_CHECKING:
    AnyPart = Part
else:  # msgspec decodes by the tag of each kind
    AnyPart = reduce(or_, parts().values())
