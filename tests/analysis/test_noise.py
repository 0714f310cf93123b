"""Variance between processes: unbiased by component, pooled where it is alike, never below samples.

Promises: what `noise_of` estimates is what was planted; pooling adds up degrees of freedom; noise
that differs is not pooled; a length is never quieter than its own samples.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from make import measurement

from ssmprof.analysis.compare.curve import Ratio, contenders, log_ratios
from ssmprof.analysis.compare.noise import Noise, Pool, Square, alike, noise_of, total
from ssmprof.analysis.compare.pairs import compared, read

CONTEXTS = tuple(round(1000 * 1.1**step) for step in range(12))
X = np.log(CONTEXTS) - np.log(CONTEXTS).mean()
LEVEL, SLOPE, RESIDUAL = 0.004, 0.010, 0.002


def table(rng, replicates, level=LEVEL, slope=SLOPE, residual=RESIDUAL, contexts=CONTEXTS):
    """Log ratios of processes with a level, a slope over log context and residuals."""
    x = np.log(contexts) - np.log(contexts).mean()
    rows = (
        rng.normal(0, level, (replicates, 1))
        + rng.normal(0, slope, (replicates, 1)) * x
        + rng.normal(0, residual, (replicates, len(contexts)))
    )
    return {
        at: {name: Ratio(float(rows[name, index]), True) for name in range(replicates)}
        for index, at in enumerate(contexts)
    }


def known(found: Noise | None) -> Noise:
    assert found is not None
    return found


@pytest.mark.parametrize("replicates", [2, 3, 5])
def test_the_variance_of_a_length_is_unbiased(replicates: int):
    rng = np.random.default_rng(1)
    found = [known(noise_of(table(rng, replicates), True)) for _ in range(1500)]
    for index in (0, 6, 11):
        truth = LEVEL**2 + (SLOPE * X[index]) ** 2 + RESIDUAL**2
        mean = np.mean([one.at(CONTEXTS[index]).value for one in found])
        assert mean == pytest.approx(truth, rel=0.08)


def test_the_variance_is_unbiased_where_lengths_are_missing():
    rng = np.random.default_rng(2)
    values = []
    for _ in range(1500):
        logs = table(rng, 4)
        for at in CONTEXTS[::3]:
            del logs[at][3]
        values.append(known(noise_of(logs, True)).at(CONTEXTS[5]).value)
    assert np.mean(values) == pytest.approx(LEVEL**2 + (SLOPE * X[5]) ** 2 + RESIDUAL**2, rel=0.08)


def test_degrees_of_freedom_follow_from_what_was_measured():
    found = known(noise_of(table(np.random.default_rng(3), 4), True))
    assert found.level.df == found.slope.df == 3
    assert found.residual.df == 4 * 12 - 12 - 3 * 2
    few = known(noise_of(table(np.random.default_rng(3), 4, contexts=CONTEXTS[:3]), True))
    assert few.slope.df == 0  # three lengths show no slope apart from their residuals


def test_one_replicate_or_another_kind_tells_no_noise():
    logs = table(np.random.default_rng(4), 1)
    assert noise_of(logs, True) is None
    assert noise_of(table(np.random.default_rng(4), 3), False) is None


def test_satterthwaite_counts_the_degrees_of_a_sum():
    assert total([Square(1.0, 4), Square(1.0, 4)]) == Square(2.0, 8.0)
    assert total([Square(1.0, 4), Square(0.0, 100)]).df == 4
    assert total([Square(1.0, 2), Square(3.0, 0)]) == Square(1.0, 2)
    assert total([]) == Square(0.0, 0.0)


def test_pooling_weighs_by_degrees_of_freedom():
    one = Noise(Square(1.0, 2), Square(0.0, 0), Square(4.0, 10), 8.0, 0.1, 12)
    other = Noise(Square(4.0, 4), Square(1.0, 4), Square(1.0, 10), 9.0, 0.2, 12)
    both = Pool([(one, 1.0), (other, 0.5)]).pooled(one)
    assert both.level == Square(2.5, 4.0)
    assert both.residual == Square(3.0, 15.0)
    assert both.slope.df == 0  # the shape stays that of the first
    assert both.centre == 8.0


def test_bartlett_refuses_different_noise_and_seldom_equal_noise():
    rng = np.random.default_rng(5)

    def squares(ratio: float, count: int, df: int) -> list[Square]:
        spread = [ratio if index == 0 else 1.0 for index in range(count)]
        return [Square(s**2 * rng.chisquare(df) / df, df) for s in spread]

    refused = sum(not alike(squares(1.0, 5, 4)) for _ in range(2000)) / 2000
    assert 0.003 <= refused <= 0.02  # the test's own size is 1 %
    assert sum(not alike(squares(5.0, 4, 8)) for _ in range(200)) >= 190
    assert alike([Square(1.0, 3)])
    assert not alike([Square(0.0, 3), Square(1.0, 3)])


def test_a_length_is_never_quieter_than_its_samples():
    found = known(noise_of(table(np.random.default_rng(6), 3), True))
    at = CONTEXTS[4]
    usual, sampled = found.at(at), found.at(at, sampled=(5 * RESIDUAL) ** 2)
    assert sampled.value > usual.value + 4 * RESIDUAL**2
    assert found.at(at, sampled=1e-12) == usual


def test_a_length_is_as_much_noisier_as_its_samples_are():
    found = known(noise_of(table(np.random.default_rng(6), 3), True))
    at = CONTEXTS[4]
    usual = found.at(at, sampled=1e-9, usual=1e-9)
    assert usual == found.at(at)
    assert found.at(at, sampled=1e-10, usual=1e-9) == usual  # never quieter than usual
    louder = found.at(at, sampled=9e-9, usual=1e-9)
    assert louder.value - usual.value == pytest.approx(8 * found.residual.value, rel=0.1)


@pytest.mark.parametrize("pairs", [4, 6, 8, 10, 16, 40])
def test_the_error_of_a_ratio_is_that_of_its_samples(pairs: int):
    rng = np.random.default_rng(7)
    errors, logs = [], []
    for number in range(2000):
        noise = rng.normal(0, 0.01, (2, pairs))
        a, b = (tuple(np.exp(row) * 1e-3) for row in noise)
        outcomes = [
            measurement("attention", round=number, times_s=a, beside="mamba2"),
            measurement("mamba2", round=number, times_s=b, beside="attention"),
        ]
        pair = contenders(outcomes)
        ((found,),) = (one.values() for one in log_ratios(*pair.values()).values())
        assert found.turns
        errors.append(found.error)
        logs.append(found.log)
    assert math.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(logs), rel=0.06)


def rounds_of(rng, names, facet, spread):
    """Three rounds of contenders in processes of their own."""
    for number in range(3):
        for name in names:
            level = rng.normal(0, spread)
            for at in CONTEXTS[:6]:
                time_s = at * 1e-7 * math.exp(level + rng.normal(0, spread / 5))
                yield measurement(name, at, time_s, round=number, phase=facet)


def test_facets_pool_their_noise_where_it_is_alike_and_only_there():
    rng = np.random.default_rng(8)
    names = ("attention", "mamba2")

    def df(spreads: tuple[float, float]) -> float:
        facets = [
            compared(contenders(rounds_of(rng, names, phase, spread)))
            for phase, spread in zip(("prefill", "decode"), spreads, strict=True)
        ]
        own = known(facets[0]["attention", "mamba2"].noises[False]).level.df
        read(facets, 0.02, 0.0)
        found = known(facets[0]["attention", "mamba2"].noises[False]).level.df
        return found / own

    assert df((0.005, 0.005)) == 2.0
    assert df((0.001, 0.1)) == 1.0


def test_many_pairs_of_few_contenders_are_no_more_than_those():
    rng = np.random.default_rng(9)
    names = ("attention", "mamba1", "mamba2", "hybrid", "parallel")
    pairs = compared(contenders(rounds_of(rng, names, "prefill", 0.005)))
    assert len(pairs) == 10
    read([pairs], 0.02, 0.0)
    found = {round(known(one.noises[False]).level.df, 6) for one in pairs.values()}
    assert max(found) <= (5 - 1) * (3 - 1) + 1e-6
