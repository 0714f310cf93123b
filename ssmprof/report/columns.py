"""Many alike objects as columns: names once, equal values side by side, where gzip finds them.

A column is a plain list, or an object that says how to read the list `of`: `n` objects of these
keys; parts of these `lengths`; numbers of `words`; only the rows whose `mask` is 1. The script of a
page reads the same (`templates/report.js`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct, to_builtins
from msgspec.json import encode

from ssmprof import limits
from ssmprof.records import ABSENT, fields_of

Column = list[Any] | dict[str, Any]
Plain = Callable[[Any], Any]
_REPEATS = 3  # how often a value must occur on average for a list of words to pay


def to_columns(rows: Sequence[Any], plain: Plain = to_builtins) -> dict[str, Any]:
    """Objects, which need not have the same keys, as one column.

    Records are taken apart field by field: those of a large run are never held as tables. `plain`
    turns what is kept into plain values.
    """
    if rows and isinstance(rows[0], Struct):
        columns = fields_of(rows)
    else:
        keys = dict.fromkeys(key for row in rows for key in row)
        columns = ((key, [row.get(key, ABSENT) for row in rows]) for key in keys)
    return {"n": len(rows), "of": {key: _column(values, plain) for key, values in columns}}


def from_columns(column: Column) -> list[Any]:
    """What `to_columns` was given.

    Raises KeyError, IndexError, StopIteration or TypeError where it is something else, and
    IndexError where a short column stands for more values than a run can have.
    """
    if isinstance(column, list):
        return column
    if "mask" in column:
        present = iter(from_columns(column["of"]))
        return [next(present) if bit == "1" else ABSENT for bit in column["mask"]]
    if "lengths" in column:
        values = iter(from_columns(column["of"]))
        return [[next(values) for _ in range(length)] for length in column["lengths"]]
    if "words" in column:
        return _written_out(column["words"], from_columns(column["of"]))
    columns = {key: from_columns(values) for key, values in column["of"].items()}
    if column["n"] > max(map(len, columns.values()), default=limits.CONTEXTS):
        raise IndexError(f"{column['n']} rows of shorter columns")
    return [
        {key: values[row] for key, values in columns.items() if values[row] is not ABSENT}
        for row in range(column["n"])
    ]


def _written_out(words: list[Any], indices: list[Any]) -> list[Any]:
    """The words that the indices name; counted first, since one of them may be long."""
    sizes = [_size(word) for word in words]
    if sum(sizes[index] for index in indices) > limits.PAGE_VALUES:
        raise IndexError(f"more than {limits.PAGE_VALUES:,} values")
    return [words[index] for index in indices]


def _size(value: Any) -> int:
    """Values in a value, itself counted."""
    if isinstance(value, dict):
        return 1 + sum(map(_size, value.values()))
    return 1 + sum(map(_size, value)) if isinstance(value, list) else 1


def _column(values: list[Any], plain: Plain) -> Column:
    present = [value for value in values if value is not ABSENT]
    if len(present) < len(values):
        mask = "".join("0" if value is ABSENT else "1" for value in values)
        return {"mask": mask, "of": _column(present, plain)}
    kinds = {_kind(kind) for kind in set(map(type, values))}
    if kinds & {str, dict} or kinds == {list}:
        words = _in_words(values, plain)
        if words is not None:
            return words
    if kinds == {dict}:
        return to_columns(values, plain)
    if kinds == {list}:
        flat = [item for value in values for item in value]
        return {"lengths": [len(value) for value in values], "of": _column(flat, plain)}
    return [plain(value) for value in values]


def _kind(kind: type) -> type:
    """What a value is in JSON."""
    return dict if issubclass(kind, Struct) else list if kind is tuple else kind


def _in_words(values: list[Any], plain: Plain) -> Column | None:
    """Each value once, and which of them stand where; None where too few repeat."""
    words: dict[bytes, int] = {}
    same: dict[int, int] = {}  # what a large run repeats is one object, as a rule
    found: list[Any] = []
    indices: list[int] = []
    for value in values:
        index = same.get(id(value))
        if index is not None:
            indices.append(index)
            continue
        word = plain(value)
        index = words.setdefault(encode(word), len(words))
        if index == len(found):
            if (index + 1) * _REPEATS > len(values):
                return None
            found.append(word)
        same[id(value)] = index
        indices.append(index)
    return {"words": found, "of": indices}
