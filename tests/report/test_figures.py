"""Figures keep their parts apart: names inside their bands, bars beside each other, one shade."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ssmprof.records import TelemetrySample
from ssmprof.report.figures import memory, shares, telemetry

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
