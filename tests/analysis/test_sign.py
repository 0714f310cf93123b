"""Signs: 2.5 % of error over all lengths and looks; equality at each length; modes kept apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ssmprof import limits
from ssmprof.analysis.compare.chances import spent
from ssmprof.analysis.compare.curve import Ratio
from ssmprof.analysis.compare.modes import ONE_MODE, modes, within_modes
from ssmprof.analysis.compare.noise import Noise, Square, noise_of
from ssmprof.analysis.compare.sign import Reading, exact, readings

TIE = 0.02
ONE = {True: ONE_MODE, False: ONE_MODE}


def flat(sd: float, df: float = 1e6) -> Noise:
    """Residuals only, of a known size."""
    return Noise(Square(0.0, 0), Square(0.0, 0), Square(sd**2, df), 8.0, 0.0, 10**9)


def logs_of(values, turns=False):
    """context -> values of its replicates."""
    return {at: {n: Ratio(v, turns) for n, v in enumerate(row)} for at, row in values.items()}


def read(values, noise, turns=False, ways=ONE, floor=0.0) -> dict[int, Reading]:
    found = readings(logs_of(values, turns), {turns: noise}, ways, TIE, floor)
    return {one.context: one for one in found}


def test_a_sign_is_certain_where_the_interval_excludes_zero():
    found = read({1000: [-0.05] * 3, 2000: [0.001] * 3, 3000: [0.04] * 3}, flat(0.01))
    assert [one.sign for one in found.values()] == [-1, 0, 1]
    for one in found.values():
        assert (one.low > 0 or one.high < 0) == bool(one.sign)
        assert one.low <= one.log <= one.high


def test_holm_takes_the_surest_length_first():
    # One-sided chances against 0.025 / 3, / 2, / 1: the third passes only since the others did.
    error = 0.01 / math.sqrt(3)
    at = {1: 0.007, 2: 0.011, 3: 0.02}
    values = {n: [error * stats.norm.isf(chance)] * 3 for n, chance in at.items()}
    assert [one.sign for one in read(values, flat(0.01)).values()] == [1, 1, 1]
    values[2] = [error * stats.norm.isf(0.014)] * 3  # 0.014 > 0.025 / 2 stops the steps
    assert [one.sign for one in read(values, flat(0.01)).values()] == [1, 0, 0]


@pytest.mark.parametrize("replicates", [3, 5])
def test_the_error_over_all_lengths_is_what_was_promised(replicates: int):
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(600):
        rows = rng.normal(0, 0.003, (replicates, 1)) + rng.normal(0, 0.002, (replicates, 12))
        values = {round(1000 * 1.1**k): rows[:, k].tolist() for k in range(12)}
        noise = noise_of(logs_of(values), False)
        wrong += any(one.sign for one in read(values, noise).values())
    # Either direction is wrong where the truth is 0: twice 2.5 % at most.
    assert wrong / 600 <= stats.binom.ppf(0.999, 600, 2 * limits.END_ERROR) / 600


def test_the_looks_spend_the_error_and_no_more():
    looks = range(limits.FIRST_LOOK, limits.LAST_LOOK + 1)
    assert math.fsum(spent(look) for look in looks) == pytest.approx(limits.END_ERROR)
    assert all(spent(a) < spent(a + 1) for a in looks if a < limits.LAST_LOOK)
    assert spent(1) == spent(2) == spent(limits.FIRST_LOOK)


def test_looking_after_every_visit_is_wrong_as_seldom_as_promised():
    # Also where a run goes on for two visits after the last look that was planned.
    rng = np.random.default_rng(1)
    times, wrong = 20_000, 0
    seen = rng.normal(0, 1, (times, limits.LAST_LOOK + 2))
    for look in range(limits.FIRST_LOOK, limits.LAST_LOOK + 3):
        least = stats.norm.isf(spent(look))
        seen[np.isnan(seen)] = 0
        over = seen[:, :look].sum(axis=1) / math.sqrt(look) > least
        wrong += int(over.sum())
        seen = seen[~over]
    assert wrong / times <= limits.END_ERROR


def test_more_visits_find_what_fewer_do_not():
    value = 0.0051
    signs = [read({1000: [value] * count}, flat(0.003), turns=True)[1000].sign for count in (3, 5)]
    assert signs == [1, 1]
    value = 0.0042
    signs = [read({1000: [value] * count}, flat(0.003), turns=True)[1000].sign for count in (3, 5)]
    assert signs == [0, 1]


def test_equal_is_the_whole_interval_within_the_tie():
    near = read({1000: [0.001] * 3, 2000: [0.019] * 3, 3000: [0.1] * 3}, flat(0.003))
    assert [one.equal for one in near.values()] == [True, False, False]
    edge = math.log1p(TIE)
    assert -edge <= near[1000].low <= 0 <= near[1000].high <= edge
    assert near[1000].sign == 0


def test_a_certain_difference_may_be_too_small_to_matter():
    one = read({1000: [0.01] * 3}, flat(0.003))[1000]
    assert one.sign == 1
    assert one.equal
    assert 0 < one.low < one.log < one.high <= math.log1p(TIE)


def test_equality_does_not_depend_on_how_many_lengths_were_measured():
    alone = read({1000: [0.004] * 3}, flat(0.012))[1000]
    among = read({1000 + at: [0.004] * 3 for at in range(60)}, flat(0.012))[1000]
    assert alone.equal
    assert among.equal
    assert (among.low, among.high) == (alone.low, alone.high)


def test_equality_is_claimed_wrongly_as_seldom_as_promised():
    rng = np.random.default_rng(2)
    edge = math.log1p(TIE) + 1e-9
    wrong = sum(
        read({1000: rng.normal(edge, 0.006, 3).tolist()}, flat(0.006))[1000].equal
        for _ in range(2000)
    )
    assert 0 < wrong <= stats.binom.ppf(0.999, 2000, limits.END_ERROR)


def test_a_mean_may_point_somewhere_without_being_certain():
    found = read({1000: [0.009] * 3, 2000: [-0.009] * 3, 3000: [0.002] * 3}, flat(0.012))
    assert [one.sign for one in found.values()] == [0, 0, 0]
    assert [one.lean for one in found.values()] == [1, -1, 0]
    turned = found[1000].turned()
    assert (turned.lean, turned.log, turned.low) == (-1, -0.009, -found[1000].high)


def test_processes_that_nobody_repeated_may_be_ten_percent_off():
    found = read({1000: [0.15], 2000: [0.5]}, None)
    assert [one.sign for one in found.values()] == [0, 1]
    assert not any(one.equal for one in read({1000: [0.0]}, None).values())


def test_a_difference_in_bytes_is_always_certain():
    (one,) = exact(logs_of({1000: [0.5]}), TIE)
    assert (one.sign, one.lean, one.equal, one.low) == (1, 1, False, 0.5)


def test_the_examination_bounds_the_noise_of_rounds_from_below_and_not_of_visits():
    values = {1000: [0.01] * 3}
    assert read(values, flat(1e-4, 12))[1000].sign == 1
    assert read(values, flat(1e-4, 12), floor=0.02)[1000].sign == 0
    assert read(values, flat(1e-4, 12), turns=True, floor=0.02)[1000].sign == 1


def test_a_certainly_noisier_length_speaks_for_itself():
    values = {1000: [0.2, -0.1, 0.1], 2000: [0.05, 0.05, 0.05]}
    found = read(values, flat(0.002, 20))
    assert [one.sign for one in found.values()] == [0, 1]


def test_samples_tell_which_lengths_are_noisier():
    errors = [0.02] * 5 + [0.001] * 15
    logs = {1000 + 100 * index: {0: Ratio(0.03, True, error)} for index, error in enumerate(errors)}
    found = readings(logs, {True: flat(0.002, 20)}, ONE, TIE)
    assert [one.sign for one in found[:5]] == [0] * 5
    assert [one.sign for one in found[7:]] == [1] * 13  # neighbours share their samples


# Modes.
TWO = {at: [base, base + 0.1, base + 0.001, base + 0.101, base - 0.001] for at, base in
       ((1000, -0.2), (2000, -0.05), (3000, 0.02))}  # fmt: skip


def test_processes_in_two_modes_are_told_apart():
    found = modes(logs_of(TWO, True), True)
    assert {tuple(sorted(one)) for one in found} == {(0, 2, 4), (1, 3)}
    assert modes(logs_of(TWO, True), False) == ONE_MODE
    within = within_modes(logs_of(TWO, True), found)
    assert max(abs(one.log) for rounds in within.values() for one in rounds.values()) < 0.002


def test_a_sign_is_certain_only_where_it_is_in_both_modes():
    ways = {True: modes(logs_of(TWO, True), True)}
    found = read(TWO, flat(0.003), turns=True, ways=ways)
    assert [one.sign for one in found.values()] == [-1, 0, 1]
    assert found[2000].low < -0.05
    assert found[2000].high > 0.05
    assert found[2000].replicates == 5


def test_a_length_seen_in_one_mode_is_shifted_into_the_other():
    values = {**TWO, 4000: [0.05], 5000: [0.02]}
    values[4000], values[5000] = [0.05], [-0.03]
    ways = {True: modes(logs_of(values, True), True)}
    found = read(values, flat(0.003), turns=True, ways=ways)
    assert found[4000].sign == 1  # 0.05 in the one mode, 0.15 in the other
    assert found[4000].high > 0.14
    assert found[5000].sign == 0  # -0.03 in the one mode, 0.07 in the other


@pytest.mark.parametrize("count", [4, 5, 7])
@pytest.mark.parametrize("spread", [0.003, 0.01])
def test_equal_processes_seldom_look_like_two_modes(count: int, spread: float):
    rng = np.random.default_rng(3)
    values = rng.normal(0, spread, (2000, count)).tolist()
    split = sum(modes(logs_of({1000: row}), False) != ONE_MODE for row in values)
    assert split / 2000 <= 0.04


def test_three_processes_show_no_modes():
    assert modes(logs_of({1000: [0.0, 0.0, 0.5]}), False) == ONE_MODE
