"""The engines' rules by name and version, from `engines.toml`."""

from __future__ import annotations

import sys
from functools import cache
from importlib import resources
from typing import Literal

import msgspec

from ssmprof.errors import ConfigError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Prefix = Literal["none", "align"]
Radix = Literal["no_buffer", "extra_buffer", "extra_buffer_overlap"]
GdnPrefill = Literal["triton", "flashinfer"]


class Engine(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="name", forbid_unknown_fields=True
):
    """What both engines have: a release, the files it was read from, tokens of a block."""

    version: str
    files: tuple[str, ...]
    block_tokens: int

    @property
    def name(self) -> str:
        """`vllm` or `sglang`."""
        tag = self.__struct_config__.tag
        assert isinstance(tag, str)
        return tag


class Vllm(Engine, frozen=True, kw_only=True, tag="vllm"):
    """One pool of pages for keys and states; what each field means stands in `engines.toml`."""

    latent_block_tokens: int
    uneven_ratio: float
    gdn_chunk_tokens: dict[GdnPrefill, int]
    gdn_checkpoint_blocks: dict[GdnPrefill, int]
    state_blocks: dict[Prefix, int]


class Sglang(Engine, frozen=True, kw_only=True, tag="sglang"):
    """A pool of state slots beside one of key/value tokens, in a fixed ratio."""

    state_ratio: float
    window_ratio: float
    running_scale: int
    running_least: int
    running_most: int
    slots: dict[str, int]


@cache
def engines() -> tuple[Vllm | Sglang, ...]:
    """Every release that is known, oldest first."""
    text = resources.files("ssmprof.serving").joinpath("engines.toml").read_text("utf-8")
    return tuple(msgspec.convert(tomllib.loads(text)["engine"], list[Vllm | Sglang]))


def engine(name: str) -> Vllm | Sglang:
    """The release called `vllm` (the last one known) or `vllm@0.33.0`. Raises ConfigError."""
    wanted, _, version = name.partition("@")
    releases = [one for one in engines() if one.name == wanted]
    if not releases:
        known = dict.fromkeys(one.name for one in engines())
        raise ConfigError(f'unknown engine "{wanted[:40]}"{nearest(wanted, known)}')
    found = [one for one in releases if not version or one.version == version]
    if not found:
        known = ", ".join(one.version for one in releases)
        raise ConfigError(f'unknown version "{version[:40]}" of {wanted}; known: {known}')
    return found[-1]
