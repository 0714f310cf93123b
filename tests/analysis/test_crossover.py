"""Crossovers of virtual devices are found where algebra puts them, and are not found elsewhere."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from make import dies_above, measured, measurement, power_law, scenario
from make import run as make_run

from ssmprof.analysis import crossover
from ssmprof.analysis.curves import brackets, curves, facets, roots
from ssmprof.planning.refine import between, refine
from ssmprof.records import Energy
from ssmprof.spec import Budget, Refine

CONTEXTS = tuple(512 * 2**step for step in range(9))
FIVE = Budget(rounds=5, min_samples=3, min_time_s=0.0)
CROSS = {"attention": (1.0, 2.0), "mamba2": (8000.0, 1.0)}  # cross at 8,000 tokens


def found(run, metric="latency"):
    ((facet, outcomes),) = facets(run.outcomes, run.environments).items()
    return [one for one in crossover.find(facet, outcomes) if one.metric == metric]


def sweep(contexts=CONTEXTS, laws=CROSS, **noise):
    asked = scenario(*laws, contexts=contexts, budget=FIVE)
    return measured(asked, power_law(**noise, **laws))


def test_two_power_laws_cross_where_algebra_says():
    (one,) = found(sweep(noise=0.002, between=0.005))
    assert (one.kind, one.winner, one.loser) == ("at", "mamba2", "attention")
    assert one.context == pytest.approx(8000, rel=0.02)
    assert (one.low, one.high) == (4096, 8192) or (one.low, one.high) == (4096, 16384)
    assert one.interval[0] <= 8000 <= one.interval[1]
    assert one.rounds == 5


@settings(max_examples=60, deadline=None)
@given(
    at=st.floats(700, 100_000),
    steep=st.floats(1.5, 2.2),
    flat=st.floats(0.4, 1.2),
)
def test_any_two_power_laws_are_found_to_cross(at: float, steep: float, flat: float):
    # A length within the tie of the root may leave no certain context beyond it.
    assume(all(abs(math.log(at / end)) > 0.1 for end in (CONTEXTS[0], CONTEXTS[-1])))
    laws = {"attention": (1.0, steep), "mamba2": (at ** (steep - flat), flat)}
    asked = scenario(contexts=CONTEXTS, budget=FIVE)
    (one,) = found(measured(asked, power_law(samples=3, **laws)))
    assert one.kind in ("at", "band")
    assert one.winner == "mamba2"
    assert one.context == pytest.approx(at, rel=0.01)


def test_the_interval_of_a_crossover_covers_as_promised():
    hits, trials, contexts = 0, 200, (4096, 6000, 8192, 11000)
    asked = scenario(contexts=contexts, budget=FIVE)
    for seed in range(trials):
        run = measured(asked, power_law(noise=0.01, between=0.01, samples=11, seed=seed, **CROSS))
        (one,) = found(run)
        hits += one.interval[0] <= 8000 <= one.interval[1]
    assert 0.90 <= hits / trials <= 0.98


def test_the_same_block_as_both_contenders_is_a_tie():
    laws = {"attention": (5.0, 1.0), "mamba2": (5.0, 1.0)}
    ties = points = 0
    for seed in range(20):
        run = sweep(laws=laws, noise=0.01, between=0.01, seed=seed)
        ((facet, outcomes),) = facets(run.outcomes).items()
        ratios = [r for r in crossover.ratio_points(facet, outcomes) if r.metric == "latency"]
        ties += sum(ratio.certain == 0 for ratio in ratios)
        points += len(ratios)
    assert ties / points >= 0.95


def test_a_tie_everywhere_is_a_band_over_the_whole_range():
    (one,) = found(sweep(laws={"attention": (5.0, 1.0), "mamba2": (5.05, 1.0)}))
    assert (one.kind, one.low, one.high) == ("band", CONTEXTS[0], CONTEXTS[-1])
    assert (one.ahead_below, one.ahead_above) == (None, None)


def test_none_in_range_names_the_winner_and_the_range():
    (one,) = found(sweep(laws={"attention": (1.0, 1.0), "mamba2": (2.0, 1.0)}))
    assert (one.kind, one.winner) == ("never", "attention")
    assert (one.low, one.high) == (CONTEXTS[0], CONTEXTS[-1])


def test_lines_that_hardly_part_give_a_band_and_not_a_number():
    laws = {"attention": (1.0, 1.02), "mamba2": (8000**0.02, 1.0)}
    (one,) = found(sweep(laws=laws, noise=0.002))
    assert one.kind == "band"
    assert one.low < 8000 < one.high


def test_fewer_than_three_rounds_give_a_range_and_no_interval():
    asked = scenario(contexts=CONTEXTS, budget=Budget(rounds=2))
    (one,) = found(measured(asked, power_law(noise=0.01, **CROSS)))
    assert one.interval is None
    assert one.spread[0] <= one.spread[1]


def test_a_contender_that_stops_fitting_leaves_the_other():
    asked = scenario(contexts=CONTEXTS, budget=FIVE)
    law = {"attention": (1.0, 1.0), "mamba2": (2.0, 1.0)}
    never, fits = found(measured(asked, dies_above(20_000, power_law(**law), only="attention")))
    assert (never.kind, never.high) == ("never", 16384)
    assert (fits.kind, fits.winner, fits.loser) == ("only-one-fits", "mamba2", "attention")
    assert (fits.low, fits.high) == (16384, 32768)


def test_several_changes_of_sides_are_all_told():
    times = {1024: (1.0, 2.0), 2048: (4.0, 2.0), 4096: (4.0, 8.0)}
    outcomes = [
        measurement(block, context, time_s=pair[index] * (1 + turn / 1000), round=turn)
        for context, pair in times.items()
        for index, block in enumerate(("attention", "mamba2"))
        for turn in range(3)
    ]
    changes = [one for one in found(make_run(*outcomes)) if one.kind == "at"]
    assert [one.winner for one in changes] == ["mamba2", "attention"]
    assert {one.crossings for one in changes} == {2}


def test_a_change_of_provider_is_a_step_and_not_interpolated():
    outcomes = [
        measurement(
            block,
            context,
            time_s=time_s,
            round=turn,
            providers={"attention": "sdpa-flash" if context < 5000 else "sdpa-math"},
        )
        for turn in range(3)
        for block, times in (("attention", (1.0, 1.1, 9.0)), ("mamba2", (2.0, 2.2, 2.4)))
        for context, time_s in zip((2048, 4096, 8192), times, strict=True)
    ]
    (one,) = found(make_run(*outcomes))
    assert "sdpa-flash -> sdpa-math between 4096 and 8192" in one.step
    assert one.interval is None
    assert (one.low, one.high) == (4096, 8192)


def test_energy_and_memory_cross_on_their_own():
    def energy(joules):
        return Energy(
            energy_j=joules, mean_power_w=1.0, window_s=1.0, calls=1, source="x", scope="device"
        )

    outcomes = [
        measurement(
            block,
            context,
            time_s=1.0 if block == "mamba2" else 2.0,
            round=turn,
            energy=energy(context**power * scale * (1 + turn / 1000)),
        )
        for turn in range(3)
        for block, power, scale in (("attention", 2.0, 1.0), ("mamba2", 1.0, 3000.0))
        for context in CONTEXTS
    ]
    run = make_run(*outcomes)
    assert found(run)[0].kind == "never"
    (one,) = found(run, "energy")
    assert one.context == pytest.approx(3000, rel=0.02)


def test_different_conditions_are_never_compared():
    outcomes = [
        measurement("attention", 512, execution="eager"),
        measurement("mamba2", 512, execution="graph"),
    ]
    groups = facets(outcomes)
    assert len(groups) == 2
    assert not [one for facet, group in groups.items() for one in crossover.find(facet, group)]


def test_refinement_bisects_until_the_bracket_is_narrow_enough():
    asked = scenario(contexts=CONTEXTS, budget=FIVE, refine=Refine(tolerance=0.1, max_extra=16))
    measure = power_law(noise=0.001, **CROSS)
    outcomes = list(measured(asked, measure).outcomes)
    steps = 0
    while todo := refine(asked, outcomes):
        outcomes += measure(todo)
        steps += 1
        assert steps < 10
    extra = {outcome.point.context for outcome in outcomes} - set(CONTEXTS)
    assert 2 <= len(extra) <= 5
    ((low, high),) = brackets(*curves(outcomes).values())
    assert high <= low * 1.1
    assert low <= 8000 * 1.01
    assert high >= 8000 * 0.99


def test_refinement_asks_for_nothing_where_nothing_crosses_or_nobody_asked():
    asked = scenario(contexts=CONTEXTS, refine=Refine())
    law = power_law(attention=(1.0, 1.0), mamba2=(2.0, 1.0))
    assert refine(asked, measured(asked, law).outcomes) == []
    plain = scenario(contexts=CONTEXTS)
    assert refine(plain, measured(plain, power_law(**CROSS)).outcomes) == []


def test_refinement_spends_no_more_than_it_may():
    asked = scenario(contexts=CONTEXTS, budget=FIVE, refine=Refine(tolerance=0.001, max_extra=2))
    measure = power_law(**CROSS)
    outcomes = list(measured(asked, measure).outcomes)
    while todo := refine(asked, outcomes):
        outcomes += measure(todo)
    assert len({outcome.point.context for outcome in outcomes} - set(CONTEXTS)) == 2


@given(st.integers(1, 2**20), st.integers(1, 2**20))
def test_a_middle_lies_between(a: int, b: int):
    low, high = sorted((a, b))
    assert low <= between(low, high) <= high or high - low < 2


def test_roots_are_linear_in_log_context():
    assert roots([1.0, 100.0], [-1.0, 1.0]) == pytest.approx([10.0])
    assert roots([1.0, 2.0, 4.0], [-1.0, 0.0, 1.0]) == [2.0]
    assert roots([1.0, 2.0], [1.0, 2.0]) == []
