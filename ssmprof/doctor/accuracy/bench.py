"""What accuracy is measured on, and the form of its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from ssmprof.models.recipe import Recipe
from ssmprof.records import WORKLOADS, Point
from ssmprof.scalars import Phase, digest

LENGTHS = (512, 1000, 4096, 8192, 16_384, 32_768)


class Quantity(Struct, frozen=True, kw_only=True):
    """One figure of merit: smaller is better, and `value` should not exceed `bar`."""

    name: str
    value: float | None
    bar: float
    unit: str
    how: str
    reason: str | None = None


class Report(Struct, frozen=True, kw_only=True):
    """Everything, as it is written to accuracy.json."""

    device: str
    torch: str
    seconds: float
    quantities: tuple[Quantity, ...]


class Bench(Struct, frozen=True, kw_only=True):
    """What the quantities are measured on: blocks, their lengths, and where raw data go.

    `predict` gives a block's peak bytes at a point; `memory_contexts` are the contexts at which
    prediction and allocator are compared.
    """

    blocks: tuple[Recipe, ...]
    folder: Path
    memory_contexts: tuple[int, ...]
    memory_phases: tuple[Phase, ...] = ("prefill", "decode")
    lengths: tuple[int, ...] = LENGTHS


def keep(bench: Bench, name: str, raw: Any) -> None:
    """Write raw data beside the quantities."""
    (bench.folder / name).write_bytes(msgspec.json.encode(raw) + b"\n")


def point(spec: Recipe, context: int, phase: Phase = "prefill") -> Point:
    """The point of a block at a context; layers only, batch 1, bf16."""
    return Point(
        block=spec.name, block_digest=digest(spec), workload=WORKLOADS[phase](context=context)
    )
