"""Makes a figure's SVG small without changing what it shows: short paths, shared attributes.

matplotlib writes every tick, bar and marker with a path and a paint of its own. Here paths become
relative with a tenth of a point, neighbours painted alike become one path or one group, and what
paints nothing goes. Presentation attributes stay attributes, as a strict policy wants them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from xml.etree.ElementTree import Element

_SVG = "{http://www.w3.org/2000/svg}"
_TOKEN = re.compile(r"[A-Za-z]|-?(?:\d+\.?\d*|\.\d+)(?:e-?\d+)?")
# A tenth of a point is a sixth of a pixel at the widest a figure is shown; marks and hatches are
# so small that they keep a hundredth.
_PLACES = 1
_PLACES_OF_MARKS = 2
# Inherited, so that a group may say it once; a clip acts on a group as on each of its members.
_SHARED = (
    "clip-path", "fill", "fill-opacity", "font-size", "font-weight", "stroke", "stroke-dasharray",
    "stroke-dashoffset", "stroke-linecap", "stroke-linejoin", "stroke-opacity", "stroke-width",
    "text-anchor",
)  # fmt: skip
_SIZES = {"M": 2, "L": 2, "C": 6, "Q": 4, "Z": 0}
_MANY = 9  # circles from which they are a hatch and no mark
_NOTHING = "M"  # what `short_path` leaves of a path without any length


def slim(root: Element) -> None:
    """Shrink a cleaned figure in place."""
    _inline(root)
    for defs in root.iter(f"{_SVG}defs"):
        for path in defs.iter(f"{_SVG}path"):
            _as_dots(path)
            path.set("d", short_path(path.get("d", ""), _PLACES_OF_MARKS))
            _drop_paint_of(path)
    for parent, child in list(_outside_defs(root)):
        _short_position(child)
        if child.tag == f"{_SVG}path":
            child.set("d", short_path(child.get("d", ""), _PLACES))
        if _empty(child):
            parent.remove(child)
    _share(root)


def short_path(data: str, places: int) -> str:
    """Absolute path data in its shortest relative form, rounded to `places` decimals.

    Differences are taken between rounded positions, so that errors do not add up. Raises ValueError
    at a command that matplotlib does not write.
    """
    unit = 10**places
    steps: list[tuple[str, list[int]]] = []
    here = start = (0, 0)
    for command, numbers in _segments(data):
        if command == "Z":
            steps.append(("z", []))
            here = start
            continue
        ends = [round(float(number) * unit) for number in numbers]
        pairs = list(zip(ends[::2], ends[1::2], strict=True))
        letter, values = _relative(command, [(x - here[0], y - here[1]) for x, y in pairs])
        here = pairs[-1]
        if command == "M":
            start = here
        if letter in "hv" and steps and steps[-1][0] == letter and steps[-1][1][0] * values[0] >= 0:
            steps[-1][1][0] += values[0]
        elif letter not in "hvl" or any(values):
            steps.append((letter, values))
    if all(letter in "mz" for letter, _ in steps):
        return _NOTHING
    return _written(steps, places)


def _segments(data: str) -> Iterator[tuple[str, list[str]]]:
    tokens = _TOKEN.findall(data)
    at = 0
    while at < len(tokens):
        command = tokens[at].upper()
        size = _SIZES.get(command)
        if size is None or (tokens[at] != command and command != "Z"):
            raise ValueError(f"a path command that is not understood: {tokens[at]}")
        yield command, tokens[at + 1 : at + 1 + size]
        at += 1 + size


def _relative(command: str, moves: list[tuple[int, int]]) -> tuple[str, list[int]]:
    x, y = moves[0]
    if command == "L" and y == 0:
        return "h", [x]
    if command == "L" and x == 0:
        return "v", [y]
    return command.lower(), [value for pair in moves for value in pair]


def _written(steps: list[tuple[str, list[int]]], places: int) -> str:
    text = before = ""
    for letter, values in steps:
        # A move keeps its letter, and so does a line after it: paths are put behind each other.
        if letter != before or letter == "m":
            text += letter
        before = letter
        for value in values:
            text = _with_number(text, _decimal(value, places))
    return text


def _with_number(text: str, number: str) -> str:
    """A space only where the number would run into the one before it."""
    runs_in = text[-1:].isdigit() and number[0] != "-"
    return f"{text} {number}" if runs_in else text + number


def _decimal(value: int, places: int) -> str:
    """`-12`, `.5`, `3.2`: no zero that can be left out."""
    sign, whole, rest = "-" if value < 0 else "", *divmod(abs(value), 10**places)
    tail = f".{rest:0{places}d}".rstrip("0") if rest else ""
    return f"{sign}{whole if whole or not tail else ''}{tail}"


def _outside_defs(parent: Element) -> Iterator[tuple[Element, Element]]:
    """(parent, child) below an element, children before their parents."""
    for child in parent:
        if child.tag != f"{_SVG}defs":
            yield from _outside_defs(child)
        yield parent, child


def _inline(root: Element) -> None:
    """A path that is placed once stands where it is placed."""
    uses: dict[str, list[tuple[Element, Element]]] = {}
    homes: dict[str, tuple[Element, Element]] = {}
    for parent in root.iter():
        for child in parent:
            if child.tag == f"{_SVG}use":
                uses.setdefault(child.get("href", "")[1:], []).append((parent, child))
            elif child.tag == f"{_SVG}path" and parent.tag == f"{_SVG}defs" and child.get("id"):
                homes[child.get("id", "")] = (parent, child)
    for name, (home, path) in homes.items():
        placed = uses.get(name, [])
        if len(placed) != 1:
            continue
        parent, use = placed[0]
        across, down = float(use.get("x", "0")), float(use.get("y", "0"))
        drawn = Element(f"{_SVG}path", {"d": _moved(path.get("d", ""), across, down)})
        drawn.attrib |= {
            key: value for key, value in use.attrib.items() if key not in ("x", "y", "href")
        }
        parent[list(parent).index(use)] = drawn
        home.remove(path)


def _moved(data: str, across: float, down: float) -> str:
    parts = []
    for command, numbers in _segments(data):
        shifts = (across, down) * (len(numbers) // 2)
        ends = [f"{float(n) + by:.2f}" for n, by in zip(numbers, shifts, strict=True)]
        parts.append(" ".join((command, *ends)))
    return " ".join(parts)


def _drop_paint_of(path: Element) -> None:
    """A path that is placed takes its paint from the place."""
    if path.get("id"):
        for name in ("fill", "stroke", "stroke-width"):
            path.attrib.pop(name, None)


def _as_dots(path: Element) -> None:
    """A hatch of circles, each of them eight curves, becomes strokes of no length with round ends.

    matplotlib writes 144 circles for one hatch: 30 KB.
    """
    circles: list[list[tuple[float, float]]] = [[]]
    for command, numbers in _segments(path.get("d", "")):
        if command == "Z":
            circles.append([])
        elif command in "MC":
            circles[-1].append((float(numbers[-2]), float(numbers[-1])))
        else:
            return
    circles = [circle for circle in circles if circle]
    if len(circles) < _MANY or any(len(circle) != 9 for circle in circles):
        return
    boxes = [(min(c), max(c), min(y for _, y in c), max(y for _, y in c)) for c in circles]
    spots = [((left[0] + right[0]) / 2, (low + high) / 2) for left, right, low, high in boxes]
    wide = max(right[0] - left[0] for left, right, _, _ in boxes)
    path.set("d", "".join(f"M {x:.2f} {y:.2f} L {x + 0.01:.2f} {y:.2f} " for x, y in spots))
    path.set("stroke", path.get("fill", path.get("stroke", "")))
    path.set("stroke-width", f"{wide + float(path.get('stroke-width', 0)):.2f}")
    path.set("stroke-linecap", "round")
    path.set("fill", "none")


def _short_position(element: Element) -> None:
    for name in ("x", "y"):
        value = element.get(name)
        if value and element.tag in (f"{_SVG}use", f"{_SVG}text"):
            element.set(name, _decimal(round(float(value) * 10**_PLACES), _PLACES))


def _empty(element: Element) -> bool:
    """Paints nothing: no length, no fill and no stroke, or nothing inside."""
    if element.tag in (f"{_SVG}defs", f"{_SVG}g"):
        return len(element) == 0
    if element.tag != f"{_SVG}path":
        return False
    unpainted = element.get("fill") == "none" and element.get("stroke", "none") == "none"
    return unpainted or element.get("d") == _NOTHING


def _share(parent: Element) -> None:
    """Below an element: paths painted alike as one, and attributes that neighbours share once."""
    for child in parent:
        if child.tag not in (f"{_SVG}defs", f"{_SVG}text"):
            _share(child)
    if parent.tag in (f"{_SVG}defs", f"{_SVG}pattern", f"{_SVG}clipPath"):
        return
    _merge_paths(parent)
    _group(parent, _SHARED)
    _group(parent, ("clip-path",))
    _lift(parent)


def _group(parent: Element, names: tuple[str, ...]) -> None:
    """Neighbours that agree in `names`, absent ones included, say them once, in a group."""
    children = list(parent)
    parent[:] = []
    for common, run in groupby(children, lambda child: _paint(child, names)):
        members = list(run)
        if len(members) == 1 or not common:
            parent.extend(members)
            continue
        for member in members:
            for name, _ in common:
                del member.attrib[name]
        group = Element(f"{_SVG}g", dict(common))
        group.extend(members)
        parent.append(group)


def _paint(element: Element, names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """What neighbours may share; an element that is turned would turn its clip as well."""
    if element.tag in (f"{_SVG}title", f"{_SVG}desc", f"{_SVG}defs"):
        return ()
    turned = "transform" in element.attrib
    return tuple(
        (name, element.attrib[name])
        for name in names
        if name in element.attrib and not (turned and name == "clip-path")
    )


def _merge_paths(parent: Element) -> None:
    """Paths painted alike become one; a text between them stays on top of all.

    Not where paint is translucent, since overlaps would show, and not across another shape.
    """
    last: Element | None = None
    for child in list(parent):
        if child.tag == f"{_SVG}text":
            continue
        if child.tag != f"{_SVG}path" or {"id", "opacity", "fill-opacity"} & set(child.attrib):
            last = None
            continue
        if last is not None and _without_data(last) == _without_data(child):
            last.set("d", _followed_by(last.get("d", ""), child.get("d", "")))
            parent.remove(child)
        else:
            last = child


def _without_data(path: Element) -> dict[str, str]:
    return {name: value for name, value in path.attrib.items() if name != "d"}


def _followed_by(first: str, second: str) -> str:
    """Both paths as one; the second starts at its own place, so its first move is absolute."""
    return f"{first}M{second[1:]}"


def _lift(group: Element) -> None:
    """A group whose only child is a group, or that only groups, is one level too many."""
    if group.tag != f"{_SVG}g" or len(group) != 1:
        return
    (inner,) = group
    if inner.tag != f"{_SVG}g" or "id" in inner.attrib or set(inner.attrib) & set(group.attrib):
        return
    if "transform" in group.attrib or "transform" in inner.attrib or "opacity" in group.attrib:
        return
    group.attrib |= inner.attrib
    group[:] = list(inner)
