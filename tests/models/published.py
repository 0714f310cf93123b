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


@cache
def _facts() -> dict[str, dict[str, Any]]:
    return {file.stem: json.loads(file.read_text("utf-8")) for file in FOLDER.glob("*.json")}


NAMES = tuple(sorted(_facts()))


def facts(name: str) -> dict[str, Any]:
    """What a file says, its own copy."""
    return copy.deepcopy(_facts()[name])


def config(name: str, **changes: Any) -> dict[str, Any]:
    """The keys of a published model, some of those of its text half changed."""
    values = facts(name)["config"]
    inner = values.get("text_config")
    return values | ({"text_config": inner | changes} if inner and changes else changes)


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
