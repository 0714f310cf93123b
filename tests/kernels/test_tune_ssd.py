"""Fitting the time model of the Mamba-2 scan: on times made by a known model."""

from __future__ import annotations

import pytest
from benchmarks import tune_ssd
from ssmprof_kernels.ssd import plan as ssd_plan

TRUTH = ssd_plan.Times(2, 3, 2.4, 1.3, 0.6, 0.5, 4.0, 2.0)
START = ssd_plan.Times(*(ssd_plan.DEFAULT[name] for name in ssd_plan.Times._fields))


@pytest.fixture
def observed() -> dict[tune_ssd.Shape, dict[int, float]]:
    return {
        shape: {count: tune_ssd.modelled(shape, count, 64, 132, TRUTH) for count in counts}
        for shape, counts in tune_ssd.CANDIDATES.items()
    }


def test_the_true_model_misses_nothing(observed):
    assert tune_ssd.badness(observed, 64, 132, TRUTH) == 0.0
    assert tune_ssd.badness(observed, 64, 132, START) > 1.0


def test_a_fit_chooses_as_the_true_model_does(observed):
    found = tune_ssd.fit(observed, 64, 132, START)
    assert tune_ssd.badness(observed, 64, 132, found) < 0.5
    for shape, seen in observed.items():
        pick = tune_ssd.chosen(shape, seen, 64, 132, found)
        assert seen[pick] <= 1.02 * min(seen.values())


def test_a_chosen_cut_is_one_that_was_measured(observed):
    for shape, seen in observed.items():
        assert tune_ssd.chosen(shape, seen, 64, 132, START) in seen
