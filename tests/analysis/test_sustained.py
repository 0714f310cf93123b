"""Windows under load against the answer from cold calls in turn."""

from __future__ import annotations

import make
import pytest

from ssmprof.analysis.compare.build import answers
from ssmprof.analysis.compare.conditions import by_conditions

A, B = "attention", "mamba2"


def measured(name, at, time_s, round_, mode="cold", wobble=0.001):
    times = tuple(time_s * (1 + wobble * (-1) ** turn * (turn + 1) / 6) for turn in range(6))
    return make.measurement(
        point=make.point(name, at), round=round_, times_s=times, mode=mode,
        beside=B if name == A else A,
    )  # fmt: skip


def cold():
    """They cross between 4,096 and 4,160."""
    return [
        measured(name, at, 1e-6 * at if name == B else 1e-6 * at * (at / 4128) ** 2, round_)
        for at in (2048, 3968, 4032, 4096, 4160, 4224, 8192)
        for round_ in (1, 2, 3)
        for name in (A, B)
    ]


def answer(*outcomes):
    (one,) = answers(by_conditions(outcomes), {}, 0.02, metrics=("latency",))
    return one


def windows(at, ratio, round_=9, wobble=0.001):
    return [
        measured(A, at, 1e-3 * ratio, round_, "sustained", wobble),
        measured(B, at, 1e-3, round_, "sustained", -wobble),
    ]


def test_without_windows_nothing_is_said():
    found = answer(*cold())
    assert [one.kind for one in found.crossings] == ["zone"]
    assert found.sustained is None


@pytest.mark.parametrize(
    ("low", "high", "agrees"),
    [(0.97, 1.03, True), (1.03, 1.05, False), (0.95, 0.97, False), (1.0005, 0.9995, True)],
)
def test_a_sign_that_is_certainly_opposite_under_load_disagrees(low, high, agrees):
    crossing = answer(*cold()).crossings[0]
    ends = crossing.low_tokens, crossing.high_tokens
    found = answer(*cold(), *windows(ends[0], low), *windows(ends[1], high)).sustained
    assert found is not None
    assert (found.agrees, found.low_tokens, found.high_tokens) == (agrees, *ends)


def test_windows_move_neither_curves_nor_zones():
    before = answer(*cold())
    crossing = before.crossings[0]
    after = answer(*cold(), *windows(crossing.low_tokens, 3.0))
    assert after.crossings == before.crossings
    assert after.curves == before.curves


def test_scattered_windows_say_nothing_against_an_answer():
    low = answer(*cold()).crossings[0].low_tokens
    found = answer(*cold(), *windows(low, 1.01, wobble=0.3)).sustained
    assert found is not None
    assert found.agrees
