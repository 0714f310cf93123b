"""Warm-up, the sampling loop and its tags, on a clock that only moves when a call is made."""

from __future__ import annotations

import itertools

import pytest

from ssmprof.measure.timing.sampling import collect, throttle_notes, warm_up
from ssmprof.measure.timing.stopping import Stopping
from ssmprof.records import Clocks, Spread
from ssmprof.spec import Budget


class Fake:
    """A device whose calls take the given times, the last one for ever."""

    def __init__(self, *times_s: float, compiles: int = 0) -> None:
        self.times = itertools.chain(times_s, itertools.repeat(times_s[-1]))
        self.now = 0.0
        self.calls = 0
        self.compiles = compiles

    def call(self) -> float:
        taken = next(self.times)
        self.now += taken
        self.calls += 1
        return taken

    def clock(self) -> float:
        return self.now

    def compilations(self) -> int:
        return min(self.calls, self.compiles)

    def warm_up(self, limit_s=100.0):
        return warm_up(
            self.call, lambda: None, self.compilations, limit_s=limit_s, clock=self.clock
        )


def test_the_cold_start_is_the_time_before_the_first_settled_call():
    warm = Fake(30.0, 0.5, 0.01).warm_up()
    assert warm.settled
    assert warm.cold_s == pytest.approx(30.5)
    assert warm.call_s == pytest.approx(0.01)


def test_a_call_that_is_steady_from_the_start_has_no_cold_start():
    warm = Fake(0.01).warm_up()
    assert (warm.cold_s, warm.calls) == (0.0, 3)


def test_warm_up_goes_on_while_kernels_are_compiled():
    fake = Fake(0.01, compiles=8)
    warm = fake.warm_up()
    assert warm.compilations == 8
    assert warm.calls >= 8 + 3


def test_warm_up_waits_for_times_to_stop_falling():
    warm = Fake(8.0, 4.0, 2.0, 1.0, 0.5, 0.2).warm_up()
    assert warm.settled
    assert warm.call_s == pytest.approx(0.2)


def test_warm_up_ends_at_its_limit_and_says_so():
    class Falling(Fake):
        def call(self):
            taken = 1.0 / (self.calls + 1)
            self.now += taken
            self.calls += 1
            return taken

    warm = Falling(1.0).warm_up(limit_s=2.0)
    assert not warm.settled
    assert warm.calls < 10


def test_a_long_call_is_warm_after_its_second_run():
    assert Fake(9.0, 3.0, 3.0).warm_up().calls == 3
    assert Fake(3.0).warm_up().calls == 2


def budget(**changes) -> Budget:
    values = {"min_samples": 10, "min_time_s": 0.0, "max_noise": 0.01, "point_s": 5.0}
    return Budget(**(values | changes))


def test_steady_samples_are_collected_up_to_the_floor():
    fake = Fake(0.01)
    found = collect(fake.call, Stopping(budget()), clock=fake.clock)
    assert found.times_s == (0.01,) * 10
    assert found.spent_s == pytest.approx(0.1)
    assert not found.notes


def test_samples_too_noisy_for_the_budget_are_kept_and_tagged():
    fake = Fake(*[0.01, 0.02] * 1000)
    found = collect(fake.call, Stopping(budget(point_s=1.0)), clock=fake.clock)
    assert len(found.times_s) >= 66
    assert [note.kind for note in found.notes] == ["noisy"]


def test_a_time_floor_is_honoured():
    fake = Fake(0.01)
    found = collect(fake.call, Stopping(budget(min_time_s=0.5)), clock=fake.clock)
    assert found.spent_s >= 0.5


@pytest.mark.parametrize(
    ("after_hz", "reasons", "kind"),
    [
        (1.4e9, ("power cap",), "throttled"),
        (1.7e9, ("power cap",), "power-cap"),
        (1.98e9, ("power cap",), "power-cap"),
        (1.98e9, ("thermal (hardware)",), "throttled"),
        (1.4e9, (), "throttled"),
    ],
)
def test_a_device_that_is_held_down_is_tagged_by_its_word_and_by_its_clock(
    after_hz: float, reasons: tuple[str, ...], kind: str
):
    held = Clocks(sm_before_hz=1.98e9, sm_after_hz=after_hz, throttle=reasons)
    (note,) = throttle_notes(held, 1.98e9)
    assert note.kind == kind
    assert f"SM clock at {after_hz / 1e6:.0f} of 1980 MHz" in note.text
    free = Clocks(sm_before_hz=1.9e9, sm_after_hz=1.8e9)
    assert throttle_notes(free, 1.98e9) == ()
    assert throttle_notes(Clocks(), None) == ()


def test_a_clock_that_was_low_only_during_the_samples_is_throttled():
    low = Spread(min=1.2e9, median=1.4e9, max=1.98e9, readings=20)
    held = Clocks(sm_before_hz=1.98e9, sm_after_hz=1.98e9, sm_clock_hz=low)
    (note,) = throttle_notes(held, 1.98e9)
    assert (note.kind, note.text) == ("throttled", "SM clock at 1400 of 1980 MHz")
    brief = Spread(min=0.3e9, median=1.98e9, max=1.98e9, readings=20)
    dipped = Clocks(sm_before_hz=1.98e9, sm_after_hz=1.98e9, sm_clock_hz=brief)
    assert throttle_notes(dipped, 1.98e9) == ()
