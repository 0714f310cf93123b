"""Who is compared: the facts of each contender that say what its times are times of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import to_builtins

from ssmprof.models.cost import parameters
from ssmprof.models.recipe import Recipe, Slice
from ssmprof.models.slicing import worded
from ssmprof.report.tables import Column, Table
from ssmprof.spec import Subject

# A slice is a table of three numbers for programs and a phrase for people.
PIECE = Column("slice", "what it is", lambda found: worded(Slice(**found)))


def facts(subject: Subject) -> dict[str, Any]:
    """Layers, parameters and the slice that it is; None where that is not known, or no slice."""
    if not isinstance(subject, Recipe):
        return {"layer_count": None, "params": None, "slice": None}
    return {
        "layer_count": subject.layer_count,
        "params": parameters(subject),
        "slice": to_builtins(subject.slice),
    }


def has_slices(blocks: Iterable[Subject]) -> bool:
    """Whether any contender is a piece of a model."""
    return any(isinstance(one, Recipe) and one.slice is not None for one in blocks)


def slices(blocks: Sequence[Subject]) -> Table | None:
    """Every contender where one is a slice, so that nobody takes it for its model; None else."""
    if not has_slices(blocks):
        return None
    columns = (
        Column("block", "contender"),
        PIECE,
        Column("params", "parameters", lambda count: f"{count / 1e6:,.1f} M", numeric=True),
    )
    rows = tuple({"block": one.name, **facts(one)} for one in blocks)
    return Table("Contenders, not all of them whole models", columns, rows)
