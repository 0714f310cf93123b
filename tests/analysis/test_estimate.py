"""Intervals cover what they promise, on simulated processes."""

import math
import random

import pytest

from ssmprof.analysis.compare import estimate as stats


@pytest.mark.parametrize("rounds", [3, 5, 10])
@pytest.mark.parametrize("within", [0.003, 0.03])
def test_an_interval_of_a_median_over_rounds_covers_95_percent(rounds: int, within: float):
    draw = random.Random(rounds)
    hits, trials = 0, 1500
    for _ in range(trials):
        medians = [
            math.exp(draw.gauss(0, 0.01) + draw.gauss(0, within * 1.25 / math.sqrt(30)))
            for _ in range(rounds)
        ]
        low, high = stats.estimate(medians).interval
        hits += low <= 1.0 <= high
    assert 0.93 <= hits / trials <= 0.97


@pytest.mark.parametrize("rounds", [1, 2])
def test_fewer_than_three_rounds_give_a_range_and_no_interval(rounds: int):
    found = stats.estimate([1.0, 1.1][:rounds])
    assert found.interval is None
    assert found.spread == pytest.approx((1.0, [1.0, 1.1][rounds - 1]))


def test_half_widths_are_those_of_student():
    for rounds, half in ((3, 2.48), (5, 1.24), (10, 0.72)):
        assert stats.student(rounds - 1) / math.sqrt(rounds) == pytest.approx(half, abs=0.005)


def test_the_order_statistic_interval_of_a_median_covers_at_least_95_percent():
    draw = random.Random(4)
    hits = 0
    for _ in range(1000):
        low, high = stats.median_order_interval([draw.gauss(0, 1) for _ in range(25)])
        hits += low <= 0 <= high
    assert 0.94 <= hits / 1000 <= 0.99
