"""Crossings of virtual devices are found where algebra puts them, and are not found elsewhere."""

import math

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from make import dies_above, measured, measurement, power_law, scenario
from make import run as make_run

from ssmprof import limits
from ssmprof.analysis.compare.build import answers
from ssmprof.analysis.compare.conditions import by_conditions
from ssmprof.planning.refine import between, refine
from ssmprof.records import Energy
from ssmprof.spec import Budget, Refine

CONTEXTS = tuple(512 * 2**step for step in range(9))
FIVE = Budget(rounds=5, min_samples=3, min_time_s=0.0)
CROSS = {"attention": (1.0, 2.0), "mamba2": (8000.0, 1.0)}  # cross at 8,000 tokens


def found(run, metric="latency"):
    groups = by_conditions(run.outcomes, run.environments)
    (one,) = answers(groups, run.environments, 0.02, metrics=(metric,))
    return one


def sweep(contexts=CONTEXTS, laws=CROSS, **noise):
    asked = scenario(*laws, contexts=contexts, budget=FIVE)
    return measured(asked, power_law(**noise, **laws))


def test_two_power_laws_cross_where_algebra_says():
    (one,) = found(sweep(noise=0.002, between=0.003)).crossings
    assert (one.kind, one.before, one.after) == ("zone", "attention", "mamba2")
    assert (one.low_tokens, one.high_tokens) == (4096, 8192)
    assert one.why == "budget"


@settings(max_examples=60)
@given(
    at=st.floats(700, 100_000),
    steep=st.floats(1.5, 2.2),
    flat=st.floats(0.4, 1.2),
)
@example(at=1024.0, steep=2.0, flat=1.0)
def test_any_two_power_laws_are_found_to_cross(at: float, steep: float, flat: float):
    assume(all(abs(math.log(at / end)) > 0.1 for end in (CONTEXTS[0], CONTEXTS[-1])))
    laws = {"attention": (1.0, steep), "mamba2": (at ** (steep - flat), flat)}
    asked = scenario(contexts=CONTEXTS, budget=FIVE)
    (one,) = found(measured(asked, power_law(samples=3, **laws))).crossings
    assert (one.kind, one.after) == ("zone", "mamba2")
    assert one.low_tokens <= at <= one.high_tokens
    # Two steps of the grid where they are equal at a length of it.
    assert one.high_tokens <= (4 if at in CONTEXTS else 2) * one.low_tokens


def test_a_dense_crossing_is_one_number():
    contexts = tuple(range(7000, 9001, 64))
    (one,) = found(sweep(contexts, noise=0.001, between=0.0005)).crossings
    assert one.low_tokens <= 8000 <= one.high_tokens
    assert one.why == "clean"
    assert one.low_tokens <= one.context_tokens <= one.high_tokens


def test_a_curve_that_only_touches_does_not_cross():
    answer = found(sweep(laws={"attention": (1.0, 1.0), "mamba2": (1.0, 1.0)}, between=0.002))
    assert answer.crossings == ()
    (segment,) = answer.segments
    assert segment.equal
    assert set(segment.winners) == {"attention", "mamba2"}


def test_who_does_not_fit_loses_to_who_does():
    asked = scenario(contexts=CONTEXTS, budget=FIVE)
    law = power_law(attention=(1.0, 1.0), mamba2=(8.0, 1.0))
    answer = found(measured(asked, dies_above(20_000, law, only="attention")))
    (one,) = answer.crossings
    assert (one.kind, one.why, one.before, one.after) == (
        "capacity", "capacity", "attention", "mamba2",
    )  # fmt: skip
    assert (one.low_tokens, one.high_tokens) == (16384, 32768)
    assert answer.alone == ("mamba2", 16384)


def with_providers(share):
    """A change of `rms_norm` between 4K and 8K, an op that takes `share` of the time."""
    from make import attribution
    from msgspec.structs import replace

    outcomes = []
    for one in sweep(noise=0.001, between=0.002).measurements():
        parts = attribution(one.time_s, norm=share, gemm=1 - share)
        kernels = tuple(
            replace(k, op="aten::rms_norm" if k.family == "norm" else k.op) for k in parts.kernels
        )
        name = "torch" if one.point.context < 5000 else "ssmprof"
        outcomes.append(
            measurement(
                point=one.point, round=one.round, times_s=one.times_s,
                attribution=replace(parts, kernels=kernels), providers={"rms_norm": name},
            )
        )  # fmt: skip
    return make_run(*outcomes, asked=scenario(*CROSS, contexts=CONTEXTS, budget=FIVE))


def test_a_change_of_provider_is_a_step_only_where_its_op_could_have_made_the_crossing():
    (large,) = found(with_providers(0.3)).crossings
    assert large.why == "provider"
    assert "rms_norm: torch -> ssmprof between 4096 and 8192" in large.step
    (small,) = found(with_providers(0.002)).crossings
    assert small.why == "budget"
    assert small.step is None


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
    assert found(run).crossings == ()
    (one,) = found(run, "energy").crossings
    assert (one.low_tokens, one.high_tokens) == (2048, 4096)


def test_different_conditions_are_never_compared():
    outcomes = [
        measurement("attention", 512, execution="eager"),
        measurement("mamba2", 512, execution="graph"),
    ]
    groups = by_conditions(outcomes)
    assert len(groups) == 2
    assert not [one for one in answers(groups, {}, 0.02) if one.pairs or one.crossings]


def test_prefill_comes_before_decode_graphs_before_eager_and_latency_first():
    outcomes = [
        measurement(block, 512, phase=phase, execution=execution, batch=batch)
        for block in ("attention", "mamba2")
        for batch in (8, 1)
        for execution in ("eager", "graph")
        for phase in ("decode", "prefill")
    ]
    keys = [
        (one.conditions.phase, one.conditions.execution, one.conditions.batch)
        for one in answers(by_conditions(outcomes), {}, 0.02)
    ]
    assert keys == [
        (phase, execution, batch)
        for phase in ("prefill", "decode")
        for execution in ("graph", "eager")
        for batch in (1, 8)
    ]


def test_refinement_bisects_until_the_zone_is_narrow_enough():
    asked = scenario(contexts=CONTEXTS, budget=FIVE, refine=Refine(tolerance=0.1, max_extra=16))
    measure = power_law(noise=0.001, **CROSS)
    outcomes = list(measured(asked, measure).outcomes)
    steps = 0
    while todo := refine(asked, outcomes):
        assert all(not job.passes.parts and job.passes.memory == "off" for job in todo)
        outcomes += measure(todo)
        steps += 1
        assert steps < 10
    extra = {outcome.point.context for outcome in outcomes} - set(CONTEXTS)
    assert 2 <= len(extra) <= 6
    (one,) = found(make_run(*outcomes)).crossings
    assert one.low_tokens <= 8000 <= one.high_tokens
    assert one.high_tokens <= one.low_tokens * 1.1**2


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
@example(516_097, 516_099)
def test_a_middle_lies_between(a: int, b: int):
    low, high = sorted((a, b))
    assert low <= between(low, high) <= high or high - low < 2


def test_two_processes_that_differ_beyond_any_reason_give_a_finite_answer():
    """Their interval would reach beyond any float."""
    from msgspec.structs import replace

    def shaken(one):
        wild = one.point.block == "mamba2" and one.round
        return replace(one, times_s=tuple(time * (1e6 if wild else 1e-6) for time in one.times_s))

    asked = scenario(*CROSS, contexts=CONTEXTS, budget=Budget(rounds=2, min_samples=3))
    run = measured(asked, power_law(**CROSS))
    answer = found(make_run(*map(shaken, run.outcomes), asked=asked))
    ends = [end for one in answer.pairs[0].points for end in one.interval]
    assert min(ends) > 0
    assert max(ends) == math.exp(limits.LOG_RATIO)
    assert len({winner for one in answer.segments for winner in one.winners}) == 2
