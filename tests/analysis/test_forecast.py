"""What a deciding sweep plans with: laws of time, predicted crossings, what is still open."""

from __future__ import annotations

import math

import make
import pytest
from make import measurement

from ssmprof.analysis.compare.build import answers
from ssmprof.analysis.compare.conditions import by_conditions
from ssmprof.analysis.compare.forecast import Forecast, closest, is_settled, law, switch, unsure

LENGTHS = (512, 1024, 2048, 4096, 8192)


def outcomes(ratio: float = 1.0, lengths: tuple[int, ...] = LENGTHS, round_: int = 1) -> list:
    """attention is quadratic and mamba2 linear; they cross at 3,000 tokens times `ratio`."""
    found = []
    for at in lengths:
        for name, time_s, other in (
            ("attention", 1e-7 * at + 1e-10 * at**2, "mamba2"),
            ("mamba2", 1e-7 * at + 3e-7 * ratio * at, "attention"),
        ):
            times = tuple(time_s * (1 + 0.001 * (-1) ** turn) for turn in range(4))
            found.append(
                measurement(name, at, point=make.point(name, at), round=round_, times_s=times,
                            beside=other)
            )  # fmt: skip
    return found


def test_a_law_of_a_call_has_no_negative_part() -> None:
    found = law({at: 2e-4 + 3e-7 * at + 5e-12 * at**2 for at in LENGTHS})
    for at in (700, 3000, 20_000):
        assert found(at) == pytest.approx(2e-4 + 3e-7 * at + 5e-12 * at**2, rel=1e-6)
    falling = law({512: 1e-3, 1024: 9e-4, 2048: 8e-4})
    assert falling(100_000) == pytest.approx(falling(512), rel=1e-6)


def test_a_crossing_is_predicted_between_lengths() -> None:
    forecast = Forecast(outcomes())
    assert forecast.crossing("attention", "mamba2", 2048, 4096) == pytest.approx(3000, rel=1e-3)
    nowhere = forecast.crossing("attention", "mamba2", 4096, 8192)
    assert nowhere == pytest.approx(math.sqrt(4096 * 8192))


def test_who_is_near_the_best_and_how_far_it_leads() -> None:
    forecast = Forecast([*outcomes(), *(measurement("hybrid", at, 1.0) for at in LENGTHS)])
    assert forecast.near(2900, 1.1) == {"attention", "mamba2"}
    assert forecast.lead(3000) == pytest.approx(1.0, abs=0.03)
    assert forecast.near(512, 1.1) == {"attention", "mamba2"}, "two at least"
    assert forecast.time_s("hybrid", 700) == pytest.approx(1.0)
    assert forecast.time_s("nobody", 700) is None


def test_a_contender_that_does_not_fit_is_forecast_nowhere_beyond() -> None:
    forecast = Forecast([*outcomes(), make.failure("hybrid", 4096), measurement("hybrid", 512)])
    assert forecast.time_s("hybrid", 600) is not None
    assert forecast.time_s("hybrid", 4096) is None
    assert "hybrid" not in forecast.near(8192, 100)


def test_samples_tell_how_well_lengths_can_be_told_apart() -> None:
    assert Forecast(outcomes()).scatter() == pytest.approx(0.001, abs=0.001)
    assert Forecast([measurement("mamba2", 512)]).scatter() == 0.0


def answer_of(*found, assumed=0.004):
    (one,) = answers(by_conditions(found), {}, 0.02, metrics=("latency",), assumed=assumed)
    return one


def test_an_assumed_noise_finds_a_zone_in_one_process_where_an_answer_would_not() -> None:
    plan = answer_of(*outcomes())
    assert [(one.low_tokens, one.high_tokens) for one in plan.crossings] == [(2048, 4096)]
    told = answer_of(*outcomes(ratio=0.95, lengths=(2048, 3072, 4096)), assumed=None)
    assert any(len(one.winners) > 1 for one in told.segments)


def test_a_wide_zone_is_not_settled_and_a_narrow_one_is() -> None:
    assert not is_settled(answer_of(*outcomes()), wide=1.08)
    narrow = (512, 1024, 2048, 2816, 2944, 3056, 3120, 4096)
    assert is_settled(answer_of(*outcomes(lengths=narrow)), wide=1.08)


def test_the_measured_ratio_says_where_it_passes_one() -> None:
    plan = answer_of(*outcomes(lengths=(512, 2048, 2816, 3120, 4096)))
    assert switch(plan, "attention", "mamba2", 2048, 4096) == pytest.approx(3000, rel=0.01)
    assert switch(plan, "attention", "mamba2", 2816, 3120) is None, "nothing was measured inside"


def test_lengths_in_doubt_are_the_near_ones_and_those_with_a_small_lead() -> None:
    told = answer_of(*outcomes(), *outcomes(lengths=(3024,)), assumed=None)
    close, apart = unsure(told, 0.04)
    assert close == [3024]
    assert apart[0] in (2048, 4096)
    assert closest(told, 1.02) == [3024]
