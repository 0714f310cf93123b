"""The ledger of published claims, `claims.toml`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from ssmprof.units import format_context


class Value(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number of a claim."""

    what: str
    value: float
    unit: str = ""
    relation: Literal["=", "<=", ">=", "<", ">", "~"] = "="
    context: int | None = None

    def __str__(self) -> str:
        relation = "" if self.relation == "=" else f"{self.relation} "
        where = f" at {format_context(self.context)}" if self.context else ""
        return f"{relation}{self.value:g} {self.unit}".rstrip() + f" ({self.what}{where})"


class Claim(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One published statement; the head of claims.toml explains the fields."""

    id: str
    statement: str
    source: tuple[str, ...]
    device: str
    models: tuple[str, ...]
    phase: str
    context: tuple[int, ...]
    kind: str
    testable: Literal["exact", "on-device", "in-kind", "no"]
    values: tuple[Value, ...] = ()
    how: str = ""
    note: str = ""


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    claim: tuple[Claim, ...]


@cache
def ledger() -> tuple[Claim, ...]:
    """Every claim, in the order of the file."""
    text = Path(__file__).with_name("claims.toml").read_bytes()
    return msgspec.toml.decode(text, type=_File).claim
