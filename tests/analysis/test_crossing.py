"""Crossings: their kind, why they are as wide as they are, one number, what is indifferent."""

from __future__ import annotations

import math

import numpy as np
import planted
import pytest
from make import attribution, failure, measurement
from planted import H200_CONTEXTS, A, B, Device, Scatter

from ssmprof.analysis.compare.answer import Answer, Crossing
from ssmprof.analysis.compare.build import answers
from ssmprof.analysis.compare.conditions import by_conditions
from ssmprof.analysis.compare.crossing import crossing, one_number, why_wide
from ssmprof.analysis.compare.curve import Contender
from ssmprof.analysis.compare.envelope import standings_told
from ssmprof.analysis.compare.field import Field
from ssmprof.analysis.compare.pairs import Compared
from ssmprof.analysis.compare.sign import Reading
from ssmprof.analysis.compare.zone import Change

QUIET = Scatter(level=1e-4, slope=0.0, residual=1e-4, sample=1e-4, slow=0.0, drift=0.0)


def answer(outcomes) -> Answer:
    (found,) = answers(by_conditions(outcomes), {}, 0.02, metrics=("latency",))
    return found


def crossings(log_ratio, contexts, scatter=QUIET, visits=4, seed=0) -> tuple[Crossing, ...]:
    device = Device(planted.pair(log_ratio), scatter, np.random.default_rng(seed))
    return answer(device.visits(contexts, visits)).crossings


def only(*args, **kwargs) -> Crossing:
    (found,) = crossings(*args, **kwargs)
    return found


def test_the_curve_measured_on_one_gpu_crosses_where_it_was_seen_to():
    one = only(planted.h200, H200_CONTEXTS.tolist())
    assert (one.before, one.after, one.kind, one.why) == (A, B, "zone", "clean")
    assert (one.low_tokens, one.high_tokens) == (4352, 4480)
    assert one.context_tokens == 4400
    assert (one.indifferent_low_tokens, one.indifferent_high_tokens) == (4352, 5376)
    assert one.indifferent_except == (5120,)
    assert one.contradictions == ()
    assert one.cost_to_resolve_s is None


def test_two_visits_as_they_were_measured_say_the_same():
    outcomes = []
    for context, *logs in zip(H200_CONTEXTS.tolist(), *planted.H200_VISITS, strict=True):
        for number, log in enumerate(logs):
            for name, other, value in ((A, B, log), (B, A, 0.0)):
                time_s = 1e-3 * math.exp(value)
                outcomes.append(measurement(name, context, time_s, round=number, beside=other))
    (one,) = answer(outcomes).crossings
    assert (one.low_tokens, one.high_tokens, one.why) == (4352, 4480, "clean")
    assert (one.indifferent_low_tokens, one.indifferent_high_tokens) == (4352, 5376)
    assert one.indifferent_except == (5120,)


def test_the_same_curve_on_powers_of_two_is_a_matter_of_budget():
    one = only(planted.h200, planted.powers(1024, 16384))
    assert (one.low_tokens, one.high_tokens, one.why) == (4096, 8192, "budget")
    assert one.context_tokens is None
    assert one.cost_to_resolve_s is not None
    assert one.cost_to_resolve_s > 0


def test_certain_contradictions_make_it_jagged():
    log_ratio = planted.both(planted.smooth(5000, 0.1), planted.sawtooth(0.03, 500, 0.0))
    one = only(log_ratio, list(range(4100, 6000, 50)))
    assert one.why == "jagged"
    assert one.contradictions
    low, high = one.low_tokens or 0, one.high_tokens or 0
    assert all(low < at < high for at in one.contradictions)
    true = log_ratio(np.arange(4100.0, 6000.0, 50))
    lengths = np.arange(4100, 6000, 50)
    assert low == lengths[true < 0][lengths[true < 0] < lengths[true > 0].min()].max()
    assert high == lengths[true > 0][lengths[true > 0] > lengths[true < 0].max()].min()


def test_curves_that_run_side_by_side_cross_slowly():
    noise = Scatter(level=0.002, slope=0.0, residual=0.001, sample=0.001, slow=0.0)
    one = only(planted.smooth(6000, 0.06), planted.near(6000, 2.0), noise, visits=5)
    assert (one.kind, one.why) == ("zone", "slow")
    assert one.context_tokens is None
    assert one.cost_to_resolve_s is None  # no visit makes them differ
    assert (one.indifferent_low_tokens or 0) <= (one.low_tokens or 0)
    assert (one.indifferent_high_tokens or 0) >= (one.high_tokens or 0)


def test_noise_that_hides_more_than_the_tie_is_told_with_its_cost():
    noise = Scatter(level=0.02, slope=0.0, residual=0.02, sample=0.01, slow=0.0)
    one = only(planted.smooth(6000, 0.4), planted.near(6000, 2.0), noise, visits=5)
    assert (one.kind, one.why) == ("zone", "noisy")
    assert one.cost_to_resolve_s is not None


def test_a_provider_that_changes_inside_the_zone_is_named():
    contexts = planted.near(6000)
    edge = next(at for at in contexts if at >= 6000)
    log_ratio = planted.both(planted.smooth(6000, 0.1), planted.step(edge, 0.05))
    log_ratio = planted.both(log_ratio, lambda contexts: 0 * contexts - 0.025)
    truth = planted.pair(log_ratio, providers={A: ("rms_norm", float(edge))})
    device = Device(truth, QUIET, np.random.default_rng(0))
    (one,) = answer(device.visits(contexts, 4)).crossings
    before = contexts[contexts.index(edge) - 1]
    assert (one.low_tokens, one.high_tokens, one.why) == (before, edge, "provider")
    assert one.step == f"{A} rms_norm: torch -> ssmprof between {before} and {edge}"


def test_an_op_that_takes_less_than_the_error_does_not_move_a_crossing():
    ops = {at: {"rms_norm": "torch" if at < 5500 else "ssmprof"} for at in (5000, 6000)}
    outcomes = []
    for number in range(3):
        for at, ratio in ((4000, -0.3), (5000, -0.1), (6000, 0.1), (7000, 0.3)):
            wobble = 1 + 0.02 * (number - 1)
            for name, log in ((A, ratio), (B, 0.0)):
                parts = attribution(1e-3, scan=0.999, norm=0.001)
                one = measurement(
                    name, at, 1e-3 * np.exp(log) * (wobble if name == A else 1), round=number,
                    providers=ops.get(at, {}) if name == A else {}, attribution=parts,
                )  # fmt: skip
                outcomes.append(one)
    (one,) = answer(outcomes).crossings
    assert (one.low_tokens, one.high_tokens) == (5000, 6000)
    assert one.step is None
    assert one.why == "budget"


def test_who_does_not_fit_hands_over_by_capacity():
    device = Device(planted.pair(lambda at: 0 * at - 0.2), QUIET, np.random.default_rng(0))
    outcomes = device.rounds([1024, 2048, 4096], 3)
    outcomes += Device(planted.Truth({B: planted.base}), QUIET, device.rng).rounds([8192], 3)
    found = answer([*outcomes, failure(A, 8192, point=_point(A, 8192), reason="out-of-memory")])
    (one,) = found.crossings
    assert (one.before, one.after, one.kind, one.why) == (A, B, "capacity", "capacity")
    assert (one.low_tokens, one.high_tokens) == (4096, 8192)
    assert one.context_tokens is None
    assert found.alone == (B, 4096)


def _point(name: str, context: int):
    return planted.point(name, context, "prefill", "graph")


def test_an_end_that_is_not_certain_leaves_it_unresolved():
    change = Change(frozenset((A,)), frozenset((B,)), None, 6000)
    one = crossing(change, A, B, {}, {}, 12.0)
    assert (one.kind, one.why, one.low_tokens) == ("unresolved", "noisy", None)
    assert one.context_tokens is None
    assert one.cost_to_resolve_s == 12.0


def test_a_stretch_is_open_where_the_other_may_well_win():
    contexts = planted.powers(512, 65536)
    logs = {at: 0.012 if at in (2048, 4096) else -0.2 for at in contexts}
    outcomes = [
        measurement(name, at, 1e-3 * math.exp(log + 0.01 * (number - 1)) if name == A else 1e-3,
                    round=number)
        for at, log in logs.items() for name in (A, B) for number in range(3)
    ]  # fmt: skip
    found = answer(outcomes)
    assert [(one.winners[0], one.low_tokens, one.high_tokens) for one in found.segments] == [
        (A, 512, 1024),
        (B, 2048, 4096),
        (A, 8192, 65536),
    ]
    assert [len(one.winners) for one in found.segments] == [1, 2, 1]
    (one,) = found.crossings
    assert (one.kind, one.before, one.after) == ("unresolved", A, B)
    assert (one.low_tokens, one.high_tokens) == (1024, 8192)


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [
        (4352, 4480, 4400),
        (4352, 4352, 4352),
        (1000, 1040, 1000),
        (1000, 1041, None),
        (9990, 10010, 10000),
        (5246, 5251, 5250),
        (None, 5000, None),
        (5000, None, None),
    ],
)
def test_one_number_is_the_shortest_inside_a_narrow_zone(low, high, told):
    assert one_number(low, high) == told


def test_why_a_zone_without_certain_lengths_is_wide():
    lengths = [4096, 4200, 4300, 4400]
    assert why_wide([4096, 8192], []) == "budget"
    assert why_wide(lengths, [True, True]) == "slow"
    assert why_wide(lengths, [True, False]) == "noisy"
    assert why_wide([100, 116], []) == "slow"  # nearer than 16 tokens nobody measures


def test_exceptions_are_the_lengths_inside_that_are_not_equal():
    def reading(context: int, log: float) -> Reading:
        low, high = log - 0.004, log + 0.004
        sign = 0 if low < 0 < high else 1 if log > 0 else -1
        return Reading(context, log, low, high, sign, abs(log) < 0.0158, 3, True)

    logs = {4000: -0.03, 4100: -0.01, 4200: 0.01, 4300: 0.03, 4400: 0.012, 9000: 0.01}
    readings = {at: reading(at, log) for at, log in logs.items()}
    change = Change(frozenset((A,)), frozenset((B,)), 4100, 4200)
    one = crossing(change, A, B, readings, {})
    assert (one.indifferent_low_tokens, one.indifferent_high_tokens) == (4100, 4400)
    assert one.indifferent_except == (4300,)  # and 9,000 lies more than a jag away


def test_the_lead_is_the_winners_though_its_median_is_not_the_lowest() -> None:
    """Medians hold processes of one contender alone: 5 % the other way here."""
    times_s = {"mamba1": 1.05e-3, "mamba2": 1.00e-3, "attention": 2e-3}
    known = {
        name: Contender(name, {4096: {0: (value,) * 3}}, beside={}, failures={})
        for name, value in times_s.items()
    }
    logs = {
        ("mamba1", "mamba2"): -0.10, ("mamba1", "attention"): -0.65, ("mamba2", "attention"): -0.55
    }  # fmt: skip
    readings = {
        key: Reading(4096, log, log - 0.02, log + 0.02, -1, equal=False, replicates=3, turns=True)
        for key, log in logs.items()
    }
    pairs = {(a, b): Compared(known[a], known[b], logs={}, readings={4096: one})
             for (a, b), one in readings.items()}  # fmt: skip
    (told,) = standings_told(Field(known, pairs, {}))
    assert (told.winners, told.runner_up) == (("mamba1",), "mamba2")
    assert told.lead is not None
    assert told.lead.ratio == pytest.approx(math.exp(0.10))
