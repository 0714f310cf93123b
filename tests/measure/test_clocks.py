"""The clock between the samples and the counters around them, on a card that does as it is told."""

from __future__ import annotations

import itertools

import pytest

from ssmprof.devices import NullDevice
from ssmprof.devices.cpu import CpuDevice
from ssmprof.measure.timing import latency
from ssmprof.measure.timing.clocks import ClockWatch
from ssmprof.measure.timing.sampling import collect
from ssmprof.measure.timing.stopping import Stopping
from ssmprof.records import Clocks, Measurement, Outcome, Spread, Violations, encode
from ssmprof.spec import Budget

BUDGET = Budget(min_samples=5, min_time_s=0.0, max_noise=0.5, point_s=5.0)


class Card(NullDevice):
    """Clocks in order, the last for ever; counters that rise by so many seconds per reading."""

    def __init__(self, *clocks_hz: float | None, **per_reading_s: float) -> None:
        super().__init__("a card", "not supported", "cuda")
        self.clocks_hz = itertools.chain(clocks_hz, itertools.repeat(clocks_hz[-1]))
        self.per_reading_s = per_reading_s
        self.turns = 0
        self.reads = 0

    def sm_hz(self) -> float | None:
        self.reads += 1
        hertz = next(self.clocks_hz)
        return self._absent("sm_hz") if hertz is None else hertz

    def violations_s(self) -> dict[str, float]:
        if not self.per_reading_s:
            return super().violations_s()
        self.turns += 1
        return {name: 100.0 + self.turns * step for name, step in self.per_reading_s.items()}


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def watched(card: NullDevice, samples: int = 5, sample_s: float = 0.1) -> Clocks:
    """A pass of samples of that length."""
    time = Time()
    watch = ClockWatch(card, time)

    def sample() -> float:
        time.now += sample_s
        return sample_s

    budget = Budget(min_samples=samples, min_time_s=0.0, max_noise=0.5, point_s=50.0)
    collect(sample, Stopping(budget), between=watch.look, clock=time)
    return watch.clocks(before_hz=1.98e9)


def test_the_clock_of_the_samples_has_extremes_and_a_median():
    found = watched(Card(1.98e9, 1.8e9, 1.5e9, 1.6e9, 1.7e9))
    assert found.sm_clock_hz == Spread(min=1.5e9, median=1.7e9, max=1.98e9, readings=5)
    assert found.sm_before_hz == 1.98e9
    assert "sm_clock_hz" not in found.missing


def test_short_samples_do_not_make_a_reading_each():
    card = Card(1.5e9)
    found = watched(card, samples=1000, sample_s=1e-3)
    assert found.sm_clock_hz is not None
    assert 45 <= found.sm_clock_hz.readings <= 51
    assert card.reads == found.sm_clock_hz.readings + 1  # the one after the samples


def test_one_sample_is_enough_for_a_clock():
    found = watched(Card(1.5e9), samples=1, sample_s=1e-6)
    assert found.sm_clock_hz == Spread(min=1.5e9, median=1.5e9, max=1.5e9, readings=1)


def test_a_clock_that_cannot_be_read_is_missing_with_its_reason():
    found = watched(Card(None))
    assert found.sm_clock_hz is None
    assert found.missing["sm_clock_hz"] == "not supported"


def test_a_reading_that_fails_once_leaves_the_others():
    found = watched(Card(1.6e9, None, 1.5e9, 1.4e9, 1.4e9))
    assert found.sm_clock_hz == Spread(min=1.4e9, median=1.45e9, max=1.6e9, readings=4)


def test_counters_are_told_as_what_they_moved_by():
    found = watched(Card(1.5e9, power_s=0.4, thermal_s=0.0))
    assert found.violations is not None
    assert found.violations.window_s == pytest.approx(0.5)
    assert found.violations.power_s == pytest.approx(0.4)
    assert found.violations.thermal_s == 0.0
    assert found.violations.sync_boost_s is None


@pytest.mark.parametrize("step_s", [400.0, -1.0])
def test_a_counter_that_moves_more_than_time_does_is_missing(step_s: float):
    found = watched(Card(1.5e9, power_s=step_s, thermal_s=0.1))
    assert found.violations is not None
    assert found.violations.power_s is None
    assert "in 0.5 s" in found.missing["violations.power_s"]
    assert found.violations.thermal_s == pytest.approx(0.1)


def test_a_card_without_counters_says_so():
    found = watched(Card(1.5e9))
    assert found.violations is None
    assert found.missing["violations"] == "not supported"


def test_a_processor_has_no_clock_of_its_samples():
    found = latency.on_cpu(lambda: None, BUDGET, CpuDevice()).clocks
    assert found.sm_clock_hz is None
    assert "cores" in found.missing["sm_clock_hz"]
    assert found.violations is None
    assert found.missing["violations"] == "a CPU has no such reading"


def test_a_journal_line_without_these_fields_is_read_and_with_them_read_back():
    import make
    import msgspec

    old = make.measurement()
    line = encode(old)
    assert b"sm_clock_hz" not in line
    assert b"violations" not in line
    again = msgspec.json.decode(line, type=Outcome)
    assert isinstance(again, Measurement)
    assert again.clocks.sm_clock_hz is None
    clocks = Clocks(
        sm_clock_hz=Spread(min=1e9, median=2e9, max=3e9, readings=3),
        violations=Violations(window_s=1.0, power_s=0.5, thermal_s=0.0),
    )
    new = msgspec.structs.replace(old, clocks=clocks)
    assert msgspec.json.decode(encode(new), type=Outcome) == new
