"""Intervals cover what they promise, on simulated processes."""

import math
import random

import numpy as np
import pytest

from ssmprof.analysis import stats


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


@pytest.mark.parametrize(
    ("value", "interval", "sign"),
    [
        (1.10, (1.05, 1.15), 1),
        (0.90, (0.85, 0.95), -1),
        (1.10, (0.95, 1.25), 0),  # the interval holds 1
        (1.02, (1.015, 1.025), 0),  # certain, but nothing to act on
    ],
)
def test_a_difference_needs_an_interval_beyond_one_and_three_percent(value, interval, sign):
    ratio = stats.Estimate(value=value, rounds=5, interval=interval, spread=interval, method="")
    assert stats.certain_sign(ratio) == sign


def test_resampled_medians_are_distributed_as_by_resampling():
    values = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
    quick = stats.bootstrap_medians([values], 40_000, seed=1)[:, 0]
    slow = np.median(np.random.default_rng(2).choice(values, (40_000, 7)), axis=1)
    for value in values:
        assert (quick == value).mean() == pytest.approx((slow == value).mean(), abs=0.01)


def test_the_order_statistic_interval_of_a_median_covers_at_least_95_percent():
    draw = random.Random(4)
    hits = 0
    for _ in range(1000):
        low, high = stats.median_order_interval([draw.gauss(0, 1) for _ in range(25)])
        hits += low <= 0 <= high
    assert 0.94 <= hits / 1000 <= 0.99
