"""Figures keep their parts apart: names inside their bands, bars beside each other, one shade."""

from __future__ import annotations

from itertools import pairwise

import make
import numpy as np
import pytest
from msgspec.structs import replace

from ssmprof.analysis import analyze
from ssmprof.records import TelemetrySample
from ssmprof.report import placement
from ssmprof.report.figures import goodput, memory, shares, telemetry
from ssmprof.report.figures.curves import Drawing, draw_pair
from ssmprof.report.names import name_contenders
from ssmprof.report.verdicts import views_of

CONTEXTS = (512, 1024, 2048, 3000, 4096, 8192, 16384)


def test_a_band_is_named_inside_itself_and_off_the_half_line() -> None:
    steep = {at: {"attention": 0.08 * turn, "gemm": 0.1} for turn, at in enumerate(CONTEXTS, 2)}
    rest = {at: found | {"norm": 0.9 - found["attention"]} for at, found in steep.items()}
    figure = shares.draw([shares.Panel("one", rest)])
    figure.canvas.draw()
    (axes,) = figure.axes
    names = {text.get_text(): text for text in axes.texts}
    assert {"attention", "norm"} <= set(names)
    for name, text in names.items():
        if name in ("one", "share of time", "context, tokens"):
            continue
        box = text.get_window_extent().transformed(axes.transData.inverted())
        assert not box.y0 < 0.5 < box.y1
        for x in (box.x0, box.x1):
            nearest = min(CONTEXTS, key=lambda at, x=x: abs(at - x))
            floor = 0.0
            for band, values in shares.bands(shares.Panel("one", rest)):
                share = values[CONTEXTS.index(nearest)]
                if band.name.split(",")[0] == name:
                    assert floor - 0.09 <= box.y0
                    assert box.y1 <= floor + share + 0.09
                floor += share


@pytest.mark.parametrize("steep", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("apart", [0.0, 0.03, 0.2])
def test_no_label_of_a_line_stands_on_a_line_or_on_another(steep: float, apart: float) -> None:
    names = name_contenders([make.block(name) for name in ("attention", "mamba2", "mamba1")])
    rates = (50.0, 70.0, 100.0, 140.0, 200.0, 280.0)
    whole = {
        block: tuple((x, max(0.02, 1 - steep * (at / 5) ** 2 - turn * apart))
                     for at, x in enumerate(rates))
        for turn, block in enumerate(names)
    }  # fmt: skip
    found = {b: one[: len(one) - turn] for turn, (b, one) in enumerate(whole.items())}
    (axes,) = goodput.draw(found, names).axes
    labels = [text for text in axes.texts if text.get_text() in {n.label for n in names.values()}]
    assert len(labels) == len(names)
    boxes = [text.get_window_extent() for text in labels]
    for one, other in zip(boxes, boxes[1:] + boxes[:1], strict=True):
        assert not one.overlaps(other)
    for line in axes.lines:
        ends = line.get_transform().transform(line.get_xydata())
        for (x, y), (right, up) in pairwise(ends):
            along = np.linspace(0, 1, 200)
            places = np.column_stack((x + along * (right - x), y + along * (up - y)))
            assert not any(box.contains(*place) for box in boxes for place in places)


def test_where_no_place_is_free_a_label_stands_on_as_little_as_can_be() -> None:
    room = placement.Box(0, 0, 100, 100)
    fence = [((0.0, float(y)), (100.0, float(y))) for y in range(0, 101, 5)]
    box = placement.beside((50, 50), (30, 10), room, [placement.Box(0, 0, 100, 50)], fence)
    assert room.holds(box)
    assert box.bottom >= 50
    assert placement.beside((50, 50), (30, 10), room, [], []) == (22, 58, 52, 68)


def test_a_band_too_thin_for_its_name_has_none() -> None:
    flat = {at: {"scan": 0.04, "gemm": 0.96} for at in CONTEXTS}
    figure = shares.draw([shares.Panel("one", flat)])
    assert "scan" not in {text.get_text() for text in figure.axes[0].texts}


def test_bars_of_near_contexts_do_not_overlap_and_nothing_is_drawn_for_nothing() -> None:
    parts = {at: {"weights": 2**30, "state": 0, "activations": at * 2**17} for at in CONTEXTS}
    figure = memory.draw([memory.Panel("one", parts)], None)
    (axes,) = figure.axes
    groups = {round(bar.get_y(), 6): bar for bar in axes.patches}
    assert groups
    floor = [bar for bar in axes.patches if bar.get_y() == 0]
    assert len(floor) == len(CONTEXTS)
    for left, right in pairwise(sorted(floor, key=lambda bar: bar.get_x())):
        assert left.get_x() + left.get_width() < right.get_x()
    assert len(axes.patches) == 2 * len(CONTEXTS)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["weights", "activations"]


@pytest.mark.parametrize(
    ("states", "spans"),
    [
        ("....", []),
        (".##.", [(1.0, 3.0)]),
        ("#..##.#.", [(0.0, 1.0), (3.0, 5.0), (6.0, 7.0)]),
        ("..##", [(2.0, 3.0)]),
    ],
)
def test_throttled_readings_in_a_row_are_one_span(
    states: str, spans: list[tuple[float, float]]
) -> None:
    samples = tuple(
        TelemetrySample(unix_s=float(second), throttle=("power cap",) if state == "#" else ())
        for second, state in enumerate(states)
    )
    assert telemetry.throttled(samples) == spans


def test_of_many_contenders_those_with_room_are_named_and_no_two_labels_meet() -> None:
    """23 of them: the transformer, who is best anywhere and the slowest have a name."""
    laws = {"attention": (1.0, 2.0)} | {f"ssm{turn}": (2e3 * 1.3**turn, 1.0) for turn in range(22)}
    blocks = [make.block(name, layers="attention" if name == "attention" else "mamba2")
              for name in laws]  # fmt: skip
    asked = replace(make.scenario(contexts=CONTEXTS), blocks=tuple(blocks))
    run = make.measured(asked, make.power_law(between=0.01, **laws))
    analysis = analyze(run)
    shown = views_of(run, analysis)[analysis.latencies[0].key]
    drawing = Drawing(shown, "time per prefill, ms", 1e3, reference="attention")
    figure = draw_pair(drawing)
    figure.canvas.draw()
    for axes, most in zip(figure.axes, (12, 7), strict=True):
        named = [text for text in axes.texts if text.get_text().split(" ")[0] in laws]
        boxes = sorted((text.get_window_extent() for text in named), key=lambda box: box.y0)
        assert len(named) == most
        assert all(one.y1 <= other.y0 + 1 for one, other in pairwise(boxes))
        assert {"ssm0", "ssm21"} <= {text.get_text().split(" ")[0] for text in named}
    assert "attention" in {text.get_text() for text in figure.axes[0].texts}
