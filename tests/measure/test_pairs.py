"""Samples in turn, the log ratio they give, and when they are enough."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from ssmprof.measure.timing.pairs import LogRatio, alternate, enough_for, log_ratio, worst_error
from ssmprof.records import Sampling


class Device:
    """A clock that samples move, and what was asked of it in order."""

    def __init__(self, *seconds: float, drift: float = 0.0, noise: float = 0.0) -> None:
        self.now = 0.0
        self.asked: list[int] = []
        self.samples = [self.sampler(index, s, drift, noise) for index, s in enumerate(seconds)]

    def sampler(self, index: int, seconds: float, drift: float, noise: float):
        draw = random.Random(index)

        def sample() -> float:
            self.asked.append(index)
            taken = seconds * (1 + drift * self.now) * math.exp(noise * draw.gauss(0, 1))
            self.now += taken
            return taken

        return sample

    def run(self, asked: Sampling):
        return alternate(self.samples, enough_for(asked), clock=lambda: self.now)


def test_contenders_take_turns_and_the_order_is_turned_each_time():
    device = Device(1.0, 2.0, 3.0)
    times = device.run(Sampling(pairs=4, length_s=1e9))
    assert device.asked == [0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0]
    assert times == ((1.0,) * 4, (2.0,) * 4, (3.0,) * 4)


def test_a_drift_of_the_clock_leaves_the_ratio_alone():
    device = Device(1.0, 1.1, drift=0.01)
    apart = math.log(device.samples[0]() / device.samples[1]())
    found = log_ratio(*Device(1.0, 1.1, drift=0.01).run(Sampling(pairs=10, length_s=1e9)))
    assert found.mean == pytest.approx(math.log(1 / 1.1), abs=5e-4)
    assert abs(found.mean - math.log(1 / 1.1)) < abs(apart - math.log(1 / 1.1)) / 10


@pytest.mark.parametrize(
    ("asked", "pairs"),
    [
        (Sampling(pairs=10, length_s=1e9), 10),
        (Sampling(pairs=9, length_s=1e9), 10),
        (Sampling(pairs=10, length_s=0.1), 4),
        (Sampling(pairs=2, length_s=0.1), 2),
        (Sampling(pairs=50, length_s=13.0), 8),
        (Sampling(pairs=50, length_s=1e9, target_error=1e-9), 6),
    ],
)
def test_sampling_ends_by_pairs_by_budget_or_by_precision_at_an_even_number(asked, pairs):
    assert len(Device(1.0, 0.99).run(asked)[0]) == pairs


def test_sampling_goes_on_until_every_ratio_is_as_precise_as_asked():
    asked = Sampling(pairs=400, length_s=1e9, target_error=0.002)
    times = Device(1.0, 2.0, 3.0, noise=0.01).run(asked)
    assert worst_error(times) <= 0.002
    assert 6 < len(times[0]) < 400
    assert worst_error([taken[:-2] for taken in times]) > 0.002


def test_one_contender_alone_takes_as_many_samples():
    assert len(Device(1.0).run(Sampling(pairs=6, target_error=0.1, length_s=1e9))[0]) == 6


def test_what_is_done_between_samples_is_not_timed():
    device, between = Device(1.0, 1.0), []
    alternate(
        device.samples, lambda taken, _: len(taken[0]) == 2, between=lambda: between.append(1)
    )
    assert len(between) == 4


def test_the_standard_error_and_the_interval_are_students():
    found = log_ratio((1.0, math.e, 1.0, math.e), (1.0,) * 4)
    assert found.mean == pytest.approx(0.5)
    assert found.error == pytest.approx(math.sqrt(1 / 3 / 4))
    assert found.half_width == pytest.approx(3.182 * found.error)


def test_half_widths_shrink_to_the_normal_one_without_a_step():
    factors = [LogRatio(0.0, 1.0, pairs).half_width for pairs in range(2, 200)]
    assert all(wide >= narrow for wide, narrow in pairwise(factors))
    assert factors[-1] == pytest.approx(1.972, abs=2e-3)
