"""Layers as one line: `(mamba2 mlp)*3 attention mlp`; side by side, `[attention mamba2]`.

A word is the name of a part and makes one residual layer; brackets put several on the same input;
parentheses group, `*N` repeats what stands before it.
"""

from __future__ import annotations

import re
from typing import Literal

from ssmprof import limits
from ssmprof.errors import ConfigError
from ssmprof.models.recipe import Layer

_TOKEN = re.compile(r"\s*(?:(\*)\s*(\d{1,9})|([()\[\]])|([\w.-]+))")

Group = list[tuple[str, ...]]


def parse_layers(text: str, merge: Literal["sum", "mean"] = "sum") -> tuple[Layer, ...]:
    """The layers of a line; `merge` is how parts side by side become one. Raises ConfigError."""
    stack: list[Group] = [[]]
    last: list[int] = [0]  # per group: how many layers its latest item has
    beside: list[str] | None = None
    place = 0
    text = text.rstrip()
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise ConfigError(f'layers: cannot read "{text[place:].strip()[:20]}"')
        place = found.end()
        star, times, bracket, word = found.groups()
        if beside is not None and word is None and bracket != "]":
            raise ConfigError(f'layers: only names stand in brackets, not "{found[0].strip()}"')
        if word is not None and beside is not None:
            beside.append(word)
        elif word is not None:
            stack[-1].append((word,))
            last[-1] = 1
        elif star:
            _repeat(stack[-1], last[-1], int(times))
            last[-1] = 0
        elif bracket == "[":
            beside = []
        elif bracket == "]":
            if not beside:
                raise ConfigError('layers: "]" closes nothing')
            stack[-1].append(tuple(beside))
            last[-1], beside = 1, None
        elif bracket == "(":
            stack.append([])
            last.append(0)
        else:
            if len(stack) == 1:
                raise ConfigError('layers: ")" closes nothing')
            inner = stack.pop()
            last.pop()
            stack[-1] += inner
            last[-1] = len(inner)
        if len(stack[-1]) > limits.LAYERS:
            raise ConfigError(f"layers: more than {limits.LAYERS:,}")
    if len(stack) > 1 or beside is not None:
        raise ConfigError(f'layers: a "{"[" if beside is not None else "("}" is not closed')
    if not stack[0]:
        raise ConfigError("layers: empty; name at least one part")
    return tuple(Layer(parts=names, merge=merge if len(names) > 1 else "sum") for names in stack[0])


def _repeat(group: Group, size: int, times: int) -> None:
    """Repeat the latest `size` layers, `times` in all."""
    if not size:
        raise ConfigError('layers: "*" repeats nothing')
    if not times >= 1 or size * times > limits.LAYERS:
        raise ConfigError(f"layers: {times:,} times; at most {limits.LAYERS:,} layers, at least 1")
    group += group[-size:] * (times - 1)


def write_layers(layers: tuple[Layer, ...]) -> str:
    """The shortest line of repeated periods that `parse_layers` reads back."""
    words = [
        layer.parts[0] if len(layer.parts) == 1 else f"[{' '.join(layer.parts)}]"
        for layer in layers
    ]
    out: list[str] = []
    start = 0
    while start < len(words):
        size, times = _period(words, start)
        group = " ".join(words[start : start + size])
        out.append(
            group if times == 1 else f"({group})*{times}" if size > 1 else f"{group}*{times}"
        )
        start += size * times
    return " ".join(out)


def _period(words: list[str], start: int) -> tuple[int, int]:
    """(length, times) of the repetition from `start` on that covers most; (1, 1) for none."""
    best = (1, 1)
    for size in range(1, (len(words) - start) // 2 + 1):
        times, unit = 1, words[start : start + size]
        while words[start + size * times : start + size * (times + 1)] == unit:
            times += 1
        if times > 1 and size * times > best[0] * best[1]:
            best = (size, times)
    return best
