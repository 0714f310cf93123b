"""Figures lose bytes and nothing else: positions, paint and order of what is drawn stay."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmprof.report.slim import short_path, slim

SVG = "http://www.w3.org/2000/svg"
SIZES = {"m": 2, "l": 2, "c": 6, "q": 4, "h": 1, "v": 1, "z": 0}


def positions(data: str) -> list[tuple[float, float]]:
    """Where a relative path goes, as a browser reads it: end points only."""
    tokens = re.findall(r"[A-Za-z]|-?(?:\d+\.?\d*|\.\d+)", data)
    here = start = (0.0, 0.0)
    found: list[tuple[float, float]] = []
    at, command = 0, ""
    while at < len(tokens):
        if tokens[at].isalpha():
            command = tokens[at]
            at += 1
        size = SIZES[command.lower()]
        numbers = [float(token) for token in tokens[at : at + size]]
        at += size
        if command == "z":
            here = start
        elif command == "M":
            here = start = (numbers[0], numbers[1])
            command = "L"
        elif command == "h":
            here = (here[0] + numbers[0], here[1])
        elif command == "v":
            here = (here[0], here[1] + numbers[0])
        else:
            here = (here[0] + numbers[-2], here[1] + numbers[-1])
            start = here if command == "m" else start
        found.append(here)
    return found


@pytest.mark.parametrize(
    ("long", "short"),
    [
        ("M 38.02 62.2 L 627.26 62.2", "m38 62.2h589.3"),
        ("M 0 0 L 10.04 0 L 20 0 L 20 5", "m0 0h20v5"),
        ("M 1 1 L 2 3 L 4 4 z", "m1 1l1 2 2 1z"),
        ("M 1 1 L 1.01 1.02 L 5 -0.5", "m1 1l4-1.5"),
        ("M 3 3 L 3 3 z", "M"),
    ],
)
def test_paths_in_their_shortest_form(long: str, short: str) -> None:
    assert short_path(long, 1) == short


def test_a_command_that_is_not_understood_is_refused() -> None:
    with pytest.raises(ValueError, match="not understood"):
        short_path("M 0 0 A 1 1 0 0 1 2 2", 1)


@given(st.lists(st.tuples(st.floats(-900, 900), st.floats(-900, 900)), min_size=2, max_size=40))
def test_rounding_does_not_add_up(points: list[tuple[float, float]]) -> None:
    data = "M " + " L ".join(f"{x:.2f} {y:.2f}" for x, y in points)
    short = short_path(data, 1)
    if short == "M":
        return
    x, y = positions(short)[-1]
    assert abs(x - points[-1][0]) <= 0.06
    assert abs(y - points[-1][1]) <= 0.06


def slimmed(inside: str) -> ElementTree.Element:
    root = ElementTree.fromstring(f'<svg xmlns="{SVG}">{inside}</svg>')
    slim(root)
    return root


def written(root: ElementTree.Element) -> str:
    ElementTree.register_namespace("", SVG)
    return ElementTree.tostring(root, encoding="unicode")


def test_grid_lines_become_one_path_and_tick_labels_one_group() -> None:
    lines = "".join(
        f'<path d="M 0 {y} L 9 {y}" stroke="#123456" />'
        f'<text x="1" y="{y}" fill="#000001">{y}</text>'
        for y in (1, 2, 3)
    )
    text = written(slimmed(lines))
    assert text.count("<path") == 1
    assert text.count("#000001") == 1
    assert re.findall(r"<text[^>]*>(\d)", text) == ["1", "2", "3"]


def test_paths_painted_alike_stay_apart_across_another_shape() -> None:
    one, other = (
        '<path d="M 0 0 L 9 {}" fill="#111111" />',
        '<path d="M 0 0 L 5 5" fill="#222222" />',
    )
    text = written(slimmed(one.format(1) + other + one.format(2)))
    assert text.index("#222222") < text.rindex("#111111")
    assert text.count("<path") == 3


def test_translucent_shapes_are_not_merged() -> None:
    shade = '<path d="M 0 0 L 9 9 L 0 9 z" fill="#111111" fill-opacity="0.2" />'
    assert written(slimmed(shade * 2)).count("<path") == 2


def test_a_path_placed_once_stands_where_it_is_placed() -> None:
    text = written(
        slimmed(
            '<g id="band"><defs><path id="p" d="M 1 -8 L 5 -8 L 5 -2 z" stroke="#333333" /></defs>'
            '<g><use x="0" y="10" fill="#444444" href="#p" /></g></g>'
        )
    )
    assert "<use" not in text
    assert 'd="m1 2h4v6z"' in text
    assert "#444444" in text


def test_what_paints_nothing_is_left_out_and_a_named_group_stays() -> None:
    text = written(
        slimmed(
            '<path d="M 0 0 L 9 0" fill="none" /><defs /><g id="series">'
            '<path d="M 0 0 L 3 1" stroke="#333333" fill="none" /></g>'
        )
    )
    assert text.count("<path") == 1
    assert "<defs" not in text
    assert 'id="series"' in text


def test_a_hatch_of_circles_becomes_dots_at_the_same_places() -> None:
    circle = (
        "M {x} {b} C 0 0 0 0 {x} {b} C 0 0 0 0 {r} {m} C 0 0 0 0 {r} {m} C 0 0 0 0 {x} {t} "
        "C 0 0 0 0 {x} {t} C 0 0 0 0 {l} {m} C 0 0 0 0 {l} {m} C 0 0 0 0 {x} {b} z "
    )
    spots = [(float(x), 6.0) for x in range(3, 63, 6)]
    data = "".join(
        circle.format(x=x, m=y, b=y + 0.6, t=y - 0.6, l=x - 0.6, r=x + 0.6) for x, y in spots
    )
    root = slimmed(
        f'<defs><pattern id="h"><path d="{data}" fill="#555555" stroke="#555555" /></pattern>'
        "</defs>"
    )
    path = next(root.iter(f"{{{SVG}}}path"))
    assert path.get("stroke-linecap") == "round"
    assert path.get("stroke") == "#555555"
    starts = positions(path.get("d", ""))[::2]
    assert [x for x, _ in starts] == pytest.approx([x for x, _ in spots])
    assert {y for _, y in starts} == {6.0}
    assert len(path.get("d", "")) < 12 * len(spots)
