"""Inputs that somebody could send: good ones with a few things changed in bytes or structure."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

# What a reader did not think of: ends of number ranges, other types, text that something obeys.
EVIL: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 10**40,
    0.0, -0.0, 1e-320, -1e-9, 0.5, 1e18, 1.7e308, -1.7e308,
    "", " ", "0", "-1", "auto", "none", "null", "mamba2", "moe", "a" * 3000, "\u0000",
    "\u001b[31mx", "x\n| y |", "=1+1", "../../../etc/passwd", "/dev/zero", "\u202e", "1" * 5000,
    [], {}, [[]], [None], {"": None}, [0] * 300, ["attention"], {"a": {"b": {}}},
)  # fmt: skip
DEPTHS = (50, 500, 5_000, 100_000)


def data(rng: Random, good: bytes) -> bytes:
    """Bytes flipped, cut, doubled, moved, put in; numbers grown; brackets nested beyond reason."""
    found = bytearray(good)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        _BYTES[rng.randrange(len(_BYTES))](rng, found)
    return bytes(found)


def _place(rng: Random, found: bytearray) -> tuple[int, int]:
    start = rng.randrange(len(found) + 1)
    return start, min(len(found), start + rng.choice((1, 2, 8, 40, 400)))


def _flip(rng: Random, found: bytearray) -> None:
    if found:
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)


def _cut(rng: Random, found: bytearray) -> None:
    del found[rng.randrange(len(found) + 1) :]


def _drop(rng: Random, found: bytearray) -> None:
    start, end = _place(rng, found)
    del found[start:end]


def _double(rng: Random, found: bytearray) -> None:
    start, end = _place(rng, found)
    found[start:start] = found[start:end] * rng.choice((1, 2, 100))


def _noise(rng: Random, found: bytearray) -> None:
    start, _ = _place(rng, found)
    found[start:start] = rng.randbytes(rng.choice((1, 4, 64)))


def _grow(rng: Random, found: bytearray) -> None:
    """A digit becomes many."""
    places = [at for at, byte in enumerate(found) if 48 <= byte <= 57]
    if places:
        at = rng.choice(places)
        found[at : at + 1] = rng.choice(
            (b"9" * 25, b"9" * 5000, b"-1", b"0", b"1e999", b"0x1", b"1_0")
        )


def _nest(rng: Random, found: bytearray) -> None:
    start, _ = _place(rng, found)
    depth = rng.choice(DEPTHS)
    found[start:start] = rng.choice((b"[", b'{"a":', b"[[", b"a.")) * depth


_BYTES: tuple[Callable[[Random, bytearray], None], ...] = (
    _flip, _flip, _cut, _drop, _double, _noise, _grow, _grow, _nest,
)  # fmt: skip


def structure(rng: Random, good: Any) -> Any:
    """A copy of plain values with a few nodes replaced, removed, renamed, doubled or swapped."""
    changed = copy.deepcopy(good)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(changed))
        if not places:
            return rng.choice(EVIL)
        where, key = rng.choice(places)
        _STRUCTURE[rng.randrange(len(_STRUCTURE))](rng, where, key, places)
    return changed


def _places(value: Any) -> Any:
    """(container, key) of every node below a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        yield value, key
        if isinstance(item, (dict, list)):
            yield from _places(item)


def _replace(rng: Random, where: Any, key: Any, _: Any) -> None:
    where[key] = copy.deepcopy(rng.choice(EVIL))


def _remove(_: Random, where: Any, key: Any, __: Any) -> None:
    del where[key]


def _rename(rng: Random, where: Any, key: Any, _: Any) -> None:
    if isinstance(where, dict):
        where[rng.choice((f"{key}x", key[:-1], "\u001b[2J", "format", "name"))] = where.pop(key)


def _repeat(rng: Random, where: Any, key: Any, _: Any) -> None:
    if isinstance(where, list):
        where[key:key] = [copy.deepcopy(where[key]) for _ in range(rng.choice((1, 3, 300)))]
    else:
        where[key] = [copy.deepcopy(where[key])] * rng.choice((1, 3))


def _swap(rng: Random, where: Any, key: Any, places: Any) -> None:
    other, name = rng.choice(places)
    try:
        where[key] = copy.deepcopy(other[name])
    except (KeyError, IndexError):
        return


def _scale(rng: Random, where: Any, key: Any, _: Any) -> None:
    value = where[key]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        where[key] = value * rng.choice((-1, 0, 2, 1000, 10**9))
    else:
        where[key] = copy.deepcopy(rng.choice(EVIL))


_STRUCTURE: tuple[Callable[[Random, Any, Any, Any], None], ...] = (
    _replace, _replace, _replace, _remove, _rename, _repeat, _swap, _scale,
)  # fmt: skip


def as_json(rng: Random, good: Any, by_bytes: float = 0.4) -> bytes:
    """JSON of plain values, mutated one way or the other."""
    if rng.random() < by_bytes:
        return data(rng, json.dumps(good).encode())
    return json.dumps(structure(rng, good)).encode("utf-8", "surrogatepass")


_TOML = (
    "0", "-1", "2", "9223372036854775807", "9223372036854775808", "9" * 5000, "1e308", "inf", "nan",
    "-0.0", "true", '""', '"8K-1"', '"1-1000000000+1"', '"1-1G*1.0000001"', '"1-1024*1.0001"',
    '"1K"', '"\\u001b[31m"', "[]", "[[]]", "{}", '["attention"]', "1979-05-27T07:32:00Z", '"none"',
    "[1, 2, 3]", '"' + "a" * 3000 + '"', "'''\nx\n'''", "0x10", "{ a = { b = 1 } }", '"/dev/zero"',
)  # fmt: skip


def toml(rng: Random, good: str) -> bytes:
    """TOML with values, keys or lines changed, or its bytes."""
    if rng.random() < 0.3:
        return data(rng, good.encode())
    lines = good.splitlines()
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(lines))
        key, sign, _ = lines[at].partition("=")
        act = rng.randrange(5)
        if act < 3 and sign:
            lines[at] = f"{key}= {rng.choice(_TOML)}"
        elif act == 3:
            lines.insert(rng.randrange(len(lines) + 1), lines[at] if rng.random() < 0.5 else "")
        else:
            del lines[at]
        if not lines:
            break
    return "\n".join(lines).encode()
