"""Floors, precision, budget; and an interval that covers what it says."""

from __future__ import annotations

import math
import random

import pytest

from ssmprof.measure.timing.stopping import Stopping, interval_ranks, median_interval, noise
from ssmprof.spec import Budget

BUDGET = Budget(min_samples=10, min_time_s=0.5, max_noise=0.01, point_s=10.0)


@pytest.mark.parametrize("n", [6, 7, 10, 30, 101, 200])
def test_the_ranks_enclose_the_median_with_at_least_95_percent_and_one_rank_less_would_not(n):
    def coverage(rank):
        return 1 - 2 * sum(math.comb(n, i) for i in range(rank + 1)) / 2**n

    low, high = interval_ranks(n)
    assert high == n - 1 - low
    assert coverage(low) >= 0.95
    assert coverage(low + 1) < 0.95


@pytest.mark.parametrize("n", [201, 1000, 5000])
def test_the_ranks_of_many_samples_are_those_of_the_normal_law(n):
    low, high = interval_ranks(n)
    assert high == n - 1 - low
    assert 1.96 <= (high - low) / math.sqrt(n) <= 2.2


def test_intervals_of_simulated_medians_cover_the_truth():
    draw = random.Random(1)
    covered = 0
    for _ in range(1000):
        low, high = median_interval([draw.lognormvariate(0, 0.3) for _ in range(20)])
        covered += low <= 1.0 <= high
    assert 940 <= covered <= 985


def test_few_samples_give_their_whole_range():
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_steady_samples_stop_at_the_floors():
    stopping, steady = Stopping(BUDGET), [1.0] * 10
    assert stopping.verdict(steady[:9], 9.0) == "go-on"
    assert stopping.verdict(steady, 0.4) == "go-on"
    assert stopping.verdict(steady, 0.6) == "precise"


def test_noisy_samples_go_on_until_the_budget_and_are_tagged():
    noisy = [1.0, 2.0] * 10
    assert noise(noisy) > 0.01
    assert Stopping(BUDGET).verdict(noisy, 9.9) == "go-on"
    assert Stopping(BUDGET).verdict(noisy, 10.0) == "noisy"


def test_a_call_longer_than_the_budget_is_measured_three_times():
    stopping = Stopping(BUDGET)
    assert stopping.verdict([20.0], 20.0) == "go-on"
    assert stopping.verdict([20.0, 20.0], 40.0) == "go-on"
    assert stopping.verdict([20.0, 20.0, 20.0], 60.0) == "precise"


def test_more_samples_are_looked_at_ever_less_often():
    looks = 0

    class Counting(Stopping):
        def _precise(self, samples):
            nonlocal looks
            looks += 1
            return False

    stopping = Counting(BUDGET)
    for count in range(1, 200):
        assert stopping.verdict([1.0] * count, 1.0) == "go-on"
    assert looks < 45


def test_samples_that_are_stored_are_not_endless():
    noisy = [1.0, 2.0] * 500
    assert Stopping(BUDGET).verdict(noisy[:199], 1.0) == "go-on"
    assert Stopping(BUDGET).verdict(noisy[:200], 1.0) == "noisy"
    assert Stopping(BUDGET).verdict(noisy[:200], 0.1) == "go-on"
    assert Stopping(BUDGET).verdict(noisy, 0.1) == "noisy"
