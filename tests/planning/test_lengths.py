"""The lengths that a deciding sweep may choose."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from ssmprof.planning.strategies.lengths import around, guards, neighbours, pilot, zoom


def test_a_zoom_steps_by_one_and_a_half_percent_or_sixteen_tokens_and_by_tiles_from_4096() -> None:
    fine = zoom(512, 131_072)
    assert fine[0] == 512
    assert 4096 in fine
    for low, high in pairwise(fine):
        if high <= 4096:
            assert high - low <= max(16, 0.016 * low)
        else:
            assert high % 64 == 0
            assert 64 <= high - low <= max(64, low * 0.015 + 32)
    assert {4288, 4352, 4416, 4480} <= set(fine)


def test_a_pilot_has_ten_lengths_at_most_with_both_ends() -> None:
    many = tuple(range(1000, 100_000, 100))
    found = pilot(many)
    assert len(found) <= 10
    assert (found[0], found[-1]) == (1000, 99_900)
    assert set(found) <= set(many)
    assert max(b / a for a, b in pairwise(found)) < 2
    assert pilot((512, 4096)) == (512, 4096)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_guards_are_drawn_one_per_quarter_octave_and_half_are_no_multiples_of_64(
    stride: int,
) -> None:
    found = guards(512, 131_072, seed=3, stride=stride)
    quarters = [math.floor(math.log2(at / 512) * 4) for at in found]
    assert len(found) >= 32 / stride - 2
    assert max(b - a for a, b in pairwise(quarters)) <= stride + 1
    odd = sum(at % 64 != 0 for at in found)
    assert abs(odd - len(found) / 2) <= 1
    assert guards(512, 131_072, seed=3, stride=stride) == found
    assert guards(512, 131_072, seed=4, stride=stride) != found


def test_a_range_of_one_length_has_no_guards() -> None:
    assert guards(4096, 4096, seed=0) == ()
    assert zoom(4096, 4096) == (4096,)


def test_lengths_next_to_one_and_beyond_a_zone() -> None:
    fine = [100, 200, 300, 400, 500]
    assert around(290, fine, 3) == [200, 300, 400]
    assert neighbours(fine, 200, 300, 1) == [100, 400]
    assert neighbours(fine, 100, 500, 2) == []
