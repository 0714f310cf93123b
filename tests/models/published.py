"""Published configurations and what they must give: `tests/data/configs`, read once."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ssmprof.models.config.reader import of_values
from ssmprof.models.recipe import Recipe

FOLDER = Path(__file__).parents[1] / "data" / "configs"

# Files whose family has no reader yet.
UNREAD = {
    "deepseek-v3", "gated-deltanet-1.3b", "gla-1.3b", "gpt-oss-20b", "hymba-1.5b",
    "jamba-1.5-mini", "kimi-linear-48b-a3b", "lfm2-1.2b", "mamba-2.8b", "mamba2-2.7b",
    "mamba2attn-2.7b", "mamba3-1.5b", "minimax-text-01", "mixtral-8x7b", "olmo-hybrid-7b",
    "phi-4-mini-flash", "plamo-2-1b", "qwen3-next-80b-a3b", "qwen3.5-27b", "qwen3.5-9b",
    "recurrentgemma-2b", "retnet-1.3b", "rwkv7-1.5b", "xlstm-7b",
}  # fmt: skip


@cache
def _facts() -> dict[str, dict[str, Any]]:
    return {file.stem: json.loads(file.read_text("utf-8")) for file in FOLDER.glob("*.json")}


NAMES = tuple(sorted(_facts()))
READ = tuple(name for name in NAMES if name not in UNREAD)


def facts(name: str) -> dict[str, Any]:
    """What a file says, its own copy."""
    return copy.deepcopy(_facts()[name])


def config(name: str, **changes: Any) -> dict[str, Any]:
    """The keys of a published model, some of them changed."""
    return facts(name)["config"] | changes


def without(name: str, *keys: str) -> dict[str, Any]:
    """The keys of a published model but some."""
    return {key: value for key, value in config(name).items() if key not in keys}


def read(values: dict[str, Any]) -> Recipe:
    """The recipe of these keys."""
    return of_values(values, "model", "config.json")


def perturbed(value: Any) -> Iterator[Any]:
    """Other values of the same type."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value * 2 + 2)
    elif isinstance(value, float):
        yield value * 1.5 + 0.25
    elif isinstance(value, str):
        yield f"{value}-"
    elif isinstance(value, list) and value:
        yield value[:-1]
        yield [*value[:-1], *perturbed(value[-1])][: len(value)]
