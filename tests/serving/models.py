"""Recipes of published models for the tests here, some with a size changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ssmprof.models.config.reader import of_values
from ssmprof.models.recipe import Recipe

CONFIGS = Path(__file__).parents[1] / "data" / "configs"
PUBLISHED = tuple(sorted(path.stem for path in CONFIGS.glob("*.json")))


def config(name: str) -> dict[str, Any]:
    """The keys of a published config.json."""
    return json.loads((CONFIGS / f"{name}.json").read_text("utf-8"))["config"]


def published(name: str, **changes: Any) -> Recipe:
    """A published model, some keys of its config.json changed."""
    return of_values(config(name) | changes, name, name)


def qwen3_5_4b() -> Recipe:
    """Gated delta of 16 key and 32 value heads of 128, attention of 4 key/value heads of 256."""
    return published("qwen3.5-9b")  # which has the same heads


def qwen3_5_35b_a3b() -> Recipe:
    """The heads of Qwen3-Next in 40 layers, every fourth of them attention."""
    return published("qwen3-next-80b-a3b", num_hidden_layers=40)
