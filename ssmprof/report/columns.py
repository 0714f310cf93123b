"""Many alike objects as columns: names once, equal values side by side, where gzip finds them.

A column is a plain list, or an object that says how to read the list `of`: `n` objects of these
keys; parts of these `lengths`; numbers of `words`; only the rows whose `mask` is 1. The script of a
page reads the same (`templates/report.js`).
"""

from __future__ import annotations

import json
from typing import Any

from ssmprof import limits

Column = list[Any] | dict[str, Any]
_ABSENT = object()
_REPEATS = 3  # how often a value must occur on average for a list of words to pay


def to_columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Objects, which need not have the same keys, as one column."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return {
        "n": len(rows),
        "of": {key: _column([row.get(key, _ABSENT) for row in rows]) for key in keys},
    }


def from_columns(column: Column) -> list[Any]:
    """What `to_columns` was given.

    Raises KeyError, IndexError, StopIteration or TypeError where it is something else, and
    IndexError where a short column stands for more values than a run can have.
    """
    if isinstance(column, list):
        return column
    if "mask" in column:
        present = iter(from_columns(column["of"]))
        return [next(present) if bit == "1" else _ABSENT for bit in column["mask"]]
    if "lengths" in column:
        values = iter(from_columns(column["of"]))
        return [[next(values) for _ in range(length)] for length in column["lengths"]]
    if "words" in column:
        return _written_out(column["words"], from_columns(column["of"]))
    columns = {key: from_columns(values) for key, values in column["of"].items()}
    if column["n"] > max(map(len, columns.values()), default=limits.CONTEXTS):
        raise IndexError(f"{column['n']} rows of shorter columns")
    return [
        {key: values[row] for key, values in columns.items() if values[row] is not _ABSENT}
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


def _column(values: list[Any]) -> Column:
    present = [value for value in values if value is not _ABSENT]
    if len(present) < len(values):
        mask = "".join("0" if value is _ABSENT else "1" for value in values)
        return {"mask": mask, "of": _column(present)}
    kinds = {type(value) for value in values}
    if kinds & {str, dict} or kinds == {list}:
        names = [json.dumps(value) for value in values]
        words = {name: index for index, name in enumerate(dict.fromkeys(names))}
        if len(words) * _REPEATS <= len(values):
            return {
                "words": [json.loads(name) for name in words],
                "of": [words[name] for name in names],
            }
    if kinds == {dict}:
        return to_columns(values)
    if kinds == {list}:
        flat = [item for value in values for item in value]
        return {"lengths": [len(value) for value in values], "of": _column(flat)}
    return values
