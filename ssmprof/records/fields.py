"""Many records field by field, with the names and the omissions that JSON has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

ABSENT = object()  # stands for a field that is at its default


class _Field(NamedTuple):
    """A field as it is encoded: at which place, its constant or default, kind of an empty table."""

    place: int
    constant: Any = NODEFAULT
    default: Any = NODEFAULT
    empty: Callable[[], Any] | None = None

    def of(self, record: Struct, name: str) -> Any:
        """Its value, or ABSENT where JSON leaves it out."""
        if self.constant is not NODEFAULT:
            return self.constant
        value = getattr(record, name)
        if value is self.default or (self.empty is type(value) and not value):
            return ABSENT
        return value


def fields_of(records: Sequence[Struct]) -> Iterator[tuple[str, list[Any]]]:
    """(name, a value of each record) of every field, in the order in which JSON first has them."""
    kinds = list(dict.fromkeys(map(type, records)))
    tables = {kind: _fields(kind) for kind in kinds}
    order: dict[str, tuple[int, int]] = {}
    for name in dict.fromkeys(name for kind in kinds for name in tables[kind]):
        place = _first(records, tables, name)
        if place is not None:
            order[name] = place
    for name in sorted(order, key=lambda one: order[one]):
        yield name, _values(records, tables, name)


def _values(
    records: Sequence[Struct], tables: dict[type, dict[str, _Field]], name: str
) -> list[Any]:
    if len(tables) == 1:
        (table,) = tables.values()
        field = table[name]
        return [field.of(one, name) for one in records]
    absent = _Field(0, constant=ABSENT)
    return [tables[type(one)].get(name, absent).of(one, name) for one in records]


def _first(
    records: Sequence[Struct], tables: dict[type, dict[str, _Field]], name: str
) -> tuple[int, int] | None:
    """The first record that has a field, and the field's place there."""
    for index, one in enumerate(records):
        field = tables[type(one)].get(name)
        if field is not None and field.of(one, name) is not ABSENT:
            return index, field.place
    return None


@cache
def _fields(kind: type[Struct]) -> dict[str, _Field]:
    config = kind.__struct_config__
    found: dict[str, _Field] = {}
    if config.tag_field is not None:
        found[config.tag_field] = _Field(0, constant=config.tag)
    for place, one in enumerate(fields(kind), start=1):
        if not config.omit_defaults:
            found[one.encode_name] = _Field(place)
        else:
            empty = one.default_factory
            found[one.encode_name] = _Field(
                place, default=one.default, empty=None if empty is NODEFAULT else empty
            )
    return found
