"""The model zoo: preset name -> BlockSpec, from `models.toml`, where every entry has its source."""

from __future__ import annotations

import sys
from functools import cache
from importlib import resources
from typing import Any, cast

import msgspec

from ssmprof.errors import ConfigError, nearest
from ssmprof.spec import Architecture, BlockSpec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Letters of a `layers` string, the notation of Nemotron-H and Megatron-LM.
LETTERS = {"M": "mamba2", "m": "mamba1", "*": "attention", "-": "mlp"}
FACTS = ("source", "params", "note")


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """A block of the zoo and what is known about the published model it follows."""

    spec: BlockSpec
    source: str
    params: int | None = None
    note: str | None = None


@cache
def zoo() -> dict[str, Preset]:
    """Every preset by name, in the order of the file."""
    text = resources.files("ssmprof.planning").joinpath("models.toml").read_text("utf-8")
    return {name: _preset(name, table) for name, table in tomllib.loads(text).items()}


def preset(name: str) -> BlockSpec:
    """The block of this name; ConfigError with the nearest known name otherwise."""
    return entry(name).spec


def entry(name: str) -> Preset:
    """The preset of this name with its source; ConfigError with the nearest known name."""
    if name not in zoo():
        raise ConfigError(
            f'unknown preset "{name}"{nearest(name, zoo())}', fix="ssmprof models lists them"
        )
    return zoo()[name]


def names(architecture: Architecture | None = None) -> tuple[str, ...]:
    """Names of all presets, or of one architecture's (transformer, ssm, hybrid)."""
    return tuple(
        name
        for name, found in zoo().items()
        if architecture is None or found.spec.architecture == architecture
    )


def from_letters(layers: str) -> tuple[str, ...]:
    """`"M-*"` -> `("mamba2", "mlp", "attention")`; ConfigError on another letter."""
    unknown = sorted(set(layers) - set(LETTERS))
    if unknown:
        raise ConfigError(f'layers: "{unknown[0]}" is none of {" ".join(LETTERS)}')
    return tuple(LETTERS[letter] for letter in layers)


def _preset(name: str, table: dict[str, Any]) -> Preset:
    facts = {key: table[key] for key in FACTS if key in table}
    block = {key: value for key, value in table.items() if key not in FACTS}
    if "layers" in block:
        block |= {"pattern": from_letters(block.pop("layers")), "depth": 1}
    attention = cast("dict[str, Any]", block.get("attention", {}))
    if attention.get("rope_theta") == "none":  # TOML has no null
        attention["rope_theta"] = None
    spec = msgspec.convert({"type": "block", "name": name, "preset": name, **block}, BlockSpec)
    return Preset(spec=spec, **facts)
