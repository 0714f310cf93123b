"""Energy with a device whose power is known: counter, integral, idle, and honest absence."""

import time

import pytest

from ssmprof.devices import NullDevice
from ssmprof.measure.passes.energy import idle_power_w, measure
from ssmprof.records import Energy, Note

IDLE_W, BUSY_W = 50.0, 250.0


class Meter(NullDevice):
    """Draws BUSY_W inside calls and IDLE_W otherwise; the counter moves in steps like real ones."""

    energy_source = "nvml.total_energy"
    power_source = "nvml.power"

    def __init__(self, *, counter=True, power=True, limit=300.0, step_j=0.0):
        super().__init__("meter", "not supported", "cuda")
        self.counter, self.power, self.limit, self.step_j = counter, power, limit, step_j
        self.joules = 1000.0
        self.busy = False
        self.at = time.perf_counter()

    def advance(self):
        now = time.perf_counter()
        self.joules += (now - self.at) * (BUSY_W if self.busy else IDLE_W)
        self.at = now

    def call(self):
        self.advance()
        self.busy = True
        time.sleep(0.002)
        self.advance()
        self.busy = False

    def energy_j(self):
        if not self.counter:
            return self._absent("energy_j")
        self.advance()
        return self.joules // self.step_j * self.step_j if self.step_j else self.joules

    def power_w(self):
        if not self.power:
            return self._absent("power_w")
        return BUSY_W if self.busy else IDLE_W

    def power_limit_w(self):
        return self.limit


@pytest.fixture(autouse=True)
def _no_settling(monkeypatch):
    monkeypatch.setattr("ssmprof.measure.passes.energy.idle_power_w", idle_quickly)


def idle_quickly(device, seconds):
    return idle_power_w(device, 0.05, settle_s=0.0)


def test_the_counter_gives_energy_per_call_with_idle_taken_off():
    meter = Meter()
    found = measure(meter.call, device=meter, call_s=2e-3, window_s=0.3, windows=2, idle_s=0.05)
    assert isinstance(found, Energy)
    assert found.source == "nvml.total_energy"
    assert found.mean_power_w == pytest.approx(BUSY_W, rel=0.15)
    assert found.energy_j == pytest.approx(
        found.mean_power_w * found.window_s * 2 / found.calls, rel=0.2
    )
    assert found.idle_power_w == pytest.approx(IDLE_W, rel=0.1)
    assert found.above_idle_j is not None
    assert 0.6 < found.above_idle_j / found.energy_j < 0.9
    assert len(found.windows_j) == 2
    assert found.integral_j is not None


def test_power_is_integrated_where_there_is_no_counter():
    meter = Meter(counter=False)
    found = measure(meter.call, device=meter, call_s=2e-3, window_s=0.3, idle_s=0.05)
    assert isinstance(found, Energy)
    assert found.source == "nvml.power"
    assert found.integral_j == pytest.approx(found.energy_j)


def test_a_counter_without_power_has_no_integral():
    meter = Meter(power=False)
    found = measure(meter.call, device=meter, call_s=2e-3, window_s=0.2, idle_s=0.05)
    assert isinstance(found, Energy)
    assert found.integral_j is None


def test_a_device_without_both_gives_the_reason_and_no_number():
    meter = Meter(counter=False, power=False)
    found = measure(meter.call, device=meter, call_s=2e-3)
    assert found == Note(kind="energy", text="no energy: not supported")


def test_power_beyond_the_board_limit_is_refused():
    meter = Meter(limit=100.0)
    found = measure(meter.call, device=meter, call_s=2e-3, window_s=0.2, idle_s=0.05)
    assert isinstance(found, Note)
    assert "limit" in found.text


def test_the_calls_of_a_window_are_counted():
    meter = Meter()
    calls = []
    found = measure(
        lambda: (calls.append(1), meter.call()),
        device=meter,
        call_s=2e-3,
        window_s=0.2,
        idle_s=0.05,
    )
    assert isinstance(found, Energy)
    assert found.calls == len(calls) - 1  # one call beforehand warms the clock


def test_a_counter_that_moves_ten_times_a_second_does_not_blur_a_short_window():
    # 20 J a step at 250 W in calls: without waiting for a move half a second is good to 16 %.
    meter = Meter(step_j=20.0)
    found = measure(meter.call, device=meter, call_s=2e-3, window_s=0.5, windows=3, idle_s=0.05)
    assert isinstance(found, Energy)
    assert found.mean_power_w == pytest.approx(BUSY_W, rel=0.1)
    assert max(found.windows_j) / min(found.windows_j) < 1.1
