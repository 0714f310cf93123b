"""A replicate whose samples scatter far more than usual: little worth, and no word on processes.

Promises: means stay near the truth beside such a replicate and without a bias of their own; what
processes vary by is learnt from the others; a visit of two lengths tells no slope.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from ssmprof.analysis.compare.curve import Ratio
from ssmprof.analysis.compare.modes import ONE_MODE, modes
from ssmprof.analysis.compare.noise import noise_of
from ssmprof.analysis.compare.sign import readings
from ssmprof.analysis.compare.worth import usual_squares, weighed, worths

TIE = 0.02
USUAL, POOR = 0.004, 0.04
CONTEXTS = tuple(round(128 * 1.2**step) for step in range(20))
WAYS = {True: ONE_MODE, False: ONE_MODE}


def visits(rng, count=5, spoilt=(), truth=0.0, between=0.004):
    """Visits of equal contenders; at `spoilt`, (visit, length) each, samples scatter ten times."""
    logs: dict[int, dict[int, Ratio]] = {}
    for index, at in enumerate(CONTEXTS):
        for visit in range(count):
            error = POOR if (visit, index) in spoilt else USUAL
            seen = truth + rng.normal(0, math.hypot(between, error))
            logs.setdefault(at, {})[visit] = Ratio(seen, True, error)
    return logs


def read(logs):
    return readings(logs, {True: noise_of(logs, True), False: None}, WAYS, TIE)


def test_a_replicate_weighs_by_what_its_samples_leave():
    logs = visits(np.random.default_rng(0), spoilt={(1, 3)})
    usual = usual_squares(logs, True)
    assert set(usual.values()) == {USUAL**2}
    variance = 2 * USUAL**2
    (poor, *others) = sorted(logs[CONTEXTS[3]].values(), key=lambda one: -one.error)
    excess = POOR**2 - 3 * USUAL**2
    assert worths([poor, *others], USUAL**2, variance) == pytest.approx(
        [variance / (variance + excess), 1, 1, 1, 1]
    )
    assert weighed(logs, True)[CONTEXTS[3]][1] == (
        poor.log, pytest.approx(USUAL**2 / (USUAL**2 + excess))
    )  # fmt: skip


def test_errors_of_few_samples_that_differ_by_chance_all_count():
    values = [Ratio(0.0, True, USUAL * factor) for factor in (0.2, 1.0, 1.7)]
    assert worths(values, USUAL**2, USUAL**2) == [1.0, 1.0, 1.0]
    assert worths(values, 0.0, 0.0) == [1.0, 1.0, 1.0]  # samples that tell no error


def test_equal_contenders_end_in_equal_beside_poor_replicates():
    """Three of a hundred replicates were disturbed; each alone would move a mean by 0.8 %."""
    rng = np.random.default_rng(1)
    whole = wrong = 0
    for _ in range(100):
        spoilt = {(int(rng.integers(5)), int(at)) for at in rng.choice(20, 3, replace=False)}
        found = read(visits(rng, spoilt=spoilt))
        whole += all(one.equal for one in found)
        wrong += any(one.sign for one in found)
    assert whole >= 98
    assert wrong <= 5  # 2.5 % either way


def test_a_pilot_of_few_pairs_is_no_mode():
    """It saw five of the lengths, one of them disturbed: its level lies 1.4 % off."""
    rng = np.random.default_rng(4)
    logs = visits(rng)
    for index in range(0, 20, 4):
        logs[CONTEXTS[index]][5] = Ratio(rng.normal(0, 0.004), True, USUAL)
    logs[CONTEXTS[16]][5] = Ratio(0.07, True, POOR)
    assert modes(logs, True) == ONE_MODE


def test_a_mean_keeps_its_coverage_beside_poor_replicates():
    rng = np.random.default_rng(2)
    inside = total = 0
    for _ in range(200):
        spoilt = {(0, index) for index in range(0, 20, 4)}
        for one in read(visits(rng, spoilt=spoilt, truth=0.012)):
            inside += one.low <= 0.012 <= one.high
            total += 1
    assert inside / total > 0.975


def test_a_visit_of_two_neighbours_tells_no_slope():
    """Its slope is the residuals of the two: taken for a slope over the range it is ten times
    that of the others."""
    rng = np.random.default_rng(3)
    tilts = []
    for _ in range(300):
        logs = visits(rng, count=4)
        for index in (9, 10):
            logs[CONTEXTS[index]][4] = Ratio(rng.normal(0, 0.006), True, USUAL)
        noise = noise_of(logs, True)
        assert noise is not None
        assert noise.slope.df == pytest.approx(3, abs=0.01)
        tilts.append(noise.at(CONTEXTS[0]).value)
    assert np.mean(tilts) == pytest.approx(USUAL**2 + 0.004**2, rel=0.15)
