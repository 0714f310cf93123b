"""Answers are right as often as promised, on every kind of curve; `make simulate` runs more.

Promises: zones hold at least 95 % of the planted changes; a block under two names never crosses
itself; and none of that is won by leaving everything open.
"""

from __future__ import annotations

import pytest
from scipy.stats import binom
from scoring import Score
from simulations import TRUTHS, WAYS, answer_of, shot_of, simulate

from ssmprof import limits

MISSED = 0.05  # of planted changes, and of zones told
CLAIMED = 0.05  # of sweeps: 2.5 % for each of two directions, over all lengths of a pair
EQUALS = [kind for kind in TRUTHS if kind.startswith("A/A")]
CURVES = [kind for kind in TRUTHS if kind not in (*EQUALS, "within the tie", "h200, usual")]


def times(kind: str, way: str) -> int:
    """About 200 sweeps of each kind: rounds cost little, five contenders in turns very much."""
    if way.endswith("rounds"):
        return 60
    return 4 if kind == "five contenders" else 20


def at_most(errors: int, tried: int, chance: float) -> bool:
    """Whether so many errors may be chance (1 in 1,000)."""
    return errors <= binom.ppf(0.999, tried, chance)


def together(kind: str) -> Score:
    """Sweeps of one kind, measured in every way."""
    every = Score()
    for way in WAYS:
        one = simulate(kind, way, times(kind, way), seed=1)
        for name in ("sweeps", "held", "open", "missed", "false", "claims", "unresolved", "equal"):
            setattr(every, name, getattr(every, name) + getattr(one, name))
        every.widths += one.widths
    return every


@pytest.mark.parametrize("kind", CURVES)
def test_an_answer_holds_what_was_planted(kind: str):
    found = together(kind)
    assert at_most(found.errors, found.changes, MISSED), (found.missed, found.false, found.changes)
    assert at_most(found.claims, found.sweeps, CLAIMED), (found.claims, found.sweeps)
    if kind != "never":
        assert found.held >= 0.75 * found.changes  # the rest may be open
    assert found.unresolved <= 0.25 * found.sweeps


@pytest.mark.parametrize("kind", [*EQUALS, "within the tie"])
def test_equal_contenders_do_not_cross(kind: str):
    found = together(kind)
    assert found.false == 0
    assert at_most(found.claims, found.sweeps, CLAIMED), (found.claims, found.sweeps)


def test_one_block_under_two_names_ends_in_equal():
    # With the noise of one H200; 18 of 20 is what the project asks for.
    found = simulate("A/A, usual", "3 of all", 40, seed=1)
    assert found.equal >= 0.9 * found.sweeps


@pytest.mark.parametrize(("way", "least"), [("3 visits", 0.3), ("5 visits", 0.85)])
def test_the_measured_curve_is_resolved_to_one_number(way: str, least: float):
    found = simulate("h200, usual", way, 60, seed=1)
    assert found.unresolved <= 0.03 * found.sweeps
    assert found.narrow >= least
    assert found.width <= 1.06


def test_more_visits_make_zones_narrower():
    few, many = (simulate("smooth", way, 30, seed=1).width for way in ("3 visits", "7 visits"))
    assert many < few


def test_the_bounds_would_notice_a_careless_engine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "END_ERROR", 0.5)
    found = simulate("A/A, drift", "3 rounds", 60, seed=1)
    assert not at_most(found.claims, found.sweeps, CLAIMED)
    assert found.false > 0


def test_a_sweep_is_the_same_every_time():
    first, second = (answer_of(shot_of("jagged", "3 visits", 5)) for _ in range(2))
    assert first == second
    assert first != answer_of(shot_of("jagged", "3 visits", 6))
