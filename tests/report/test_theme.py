"""The palette: contrast and distance recomputed from the hexes, so nobody improves it by eye."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from ssmprof.records import Family
from ssmprof.report import theme

THEMES = ("light", "dark")
# Machado et al. 2009, doi:10.1109/TVCG.2009.113, severity 1.0, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protan": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deutan": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritan": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    lights = sorted(float(TO_XYZ[1] @ linear(colour)) + 0.05 for colour in (one, other))
    return lights[1] / lights[0]


def lab(rgb: np.ndarray) -> tuple[float, float, float]:
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


def ciede2000(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    """Sharma, Wu, Dalal 2005, doi:10.1002/col.20070."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    mean_c = (math.hypot(a1, b1) + math.hypot(a2, b2)) / 2
    g = 0.5 * (1 - math.sqrt(mean_c**7 / (mean_c**7 + 25**7)))
    a1, a2 = a1 * (1 + g), a2 * (1 + g)
    c1, c2 = math.hypot(a1, b1), math.hypot(a2, b2)
    h1, h2 = (math.degrees(math.atan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    turn = 0.0 if c1 * c2 == 0 else (h2 - h1 + 180) % 360 - 180
    d_h = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(turn / 2))
    mean_l, mean_c, mean_h = (l1 + l2) / 2, (c1 + c2) / 2, (h1 + turn / 2) % 360
    t = (
        1
        - 0.17 * math.cos(math.radians(mean_h - 30))
        + 0.24 * math.cos(math.radians(2 * mean_h))
        + 0.32 * math.cos(math.radians(3 * mean_h + 6))
        - 0.2 * math.cos(math.radians(4 * mean_h - 63))
    )
    s_l = 1 + 0.015 * (mean_l - 50) ** 2 / math.sqrt(20 + (mean_l - 50) ** 2)
    s_c, s_h = 1 + 0.045 * mean_c, 1 + 0.015 * mean_c * t
    turn_term = 60 * math.exp(-(((mean_h - 275) / 25) ** 2))
    rotate = -2 * math.sqrt(mean_c**7 / (mean_c**7 + 25**7)) * math.sin(math.radians(turn_term))
    l_, c_, h_ = (l2 - l1) / s_l, (c2 - c1) / s_c, d_h / s_h
    return math.sqrt(l_**2 + c_**2 + h_**2 + rotate * c_ * h_)


def least_distance(colours: list[str]) -> float:
    return min(
        ciede2000(lab(matrix @ linear(one)), lab(matrix @ linear(other)))
        for matrix in VISION.values()
        for one, other in itertools.combinations(colours, 2)
    )


def hexes(names: tuple[str, ...], mode: str) -> list[str]:
    return [getattr(theme.TOKENS[name], mode) for name in names]


def test_the_distance_agrees_with_a_published_pair() -> None:
    # First pair of the test data of Sharma et al.
    found = ciede2000((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485))
    assert found == pytest.approx(2.0425, abs=1e-4)


@pytest.mark.parametrize("mode", THEMES)
def test_text_lines_and_fills_stand_out_from_the_page(mode: str) -> None:
    page = getattr(theme.TOKENS["bg"], mode)
    for name in (*theme.SERIES, "fg", "muted", "link"):
        assert contrast(getattr(theme.TOKENS[name], mode), page) >= 4.5, name
    for name in theme.FILLS:
        assert contrast(getattr(theme.TOKENS[name], mode), page) >= 2.95, name
    for name in theme.PILLS:
        pair = (getattr(theme.TOKENS[part], mode) for part in (name, f"{name}-bg"))
        assert contrast(*pair) >= 6.5, name


@pytest.mark.parametrize("mode", THEMES)
def test_text_on_every_band_is_readable(mode: str) -> None:
    for band in theme.BANDS:
        if band.token:
            fill, text = (getattr(theme.TOKENS[name], mode) for name in (band.token, band.text))
            assert contrast(fill, text) >= 4.5, band.name


def test_text_on_the_winner_map_is_readable_and_neighbours_differ() -> None:
    for fill, text in zip(theme.WINNER_FILLS, theme.WINNER_TEXT, strict=True):
        assert contrast(fill, text) >= 4.5, fill
    for pair in itertools.pairwise(theme.WINNER_FILLS):
        assert least_distance(list(pair)) >= 15, pair


@pytest.mark.parametrize(("mode", "series", "fills"), [("light", 19, 15), ("dark", 22, 18)])
def test_series_and_fills_differ_for_every_kind_of_vision(
    mode: str, series: float, fills: float
) -> None:
    assert least_distance(hexes(theme.SERIES, mode)) >= series
    assert least_distance(hexes(theme.FILLS, mode)) >= fills


def test_every_family_is_drawn_in_exactly_one_band() -> None:
    drawn = [family for band in theme.BANDS for family in band.families]
    assert sorted(drawn) == sorted(Family.__args__)


def test_sentinels_are_unlike_any_real_colour() -> None:
    sentinels = set(theme.by_sentinel())
    real = {colour.lower() for token in theme.TOKENS.values() for colour in token}
    assert len(sentinels) == len(theme.TOKENS)
    assert not sentinels & real
