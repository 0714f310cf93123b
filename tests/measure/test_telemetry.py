"""The sampler: samples while open, stops when closed, never takes the run down."""

import threading
import time

import pytest

from ssmprof.devices import NullDevice
from ssmprof.measure.passes.telemetry import Telemetry, overhead


class Device(NullDevice):
    def power_w(self):
        return 300.0


def test_samples_arrive_at_their_rate_and_stop_with_it():
    found = []
    with Telemetry(Device("card", "no"), found.append, hz=10) as telemetry:
        time.sleep(0.55)
    count = len(found)
    assert 3 <= count <= 6
    assert telemetry.samples == count
    assert all(sample.power_w == 300.0 and sample.temperature_c is None for sample in found)
    times = [sample.unix_s for sample in found]
    assert times == sorted(times)
    time.sleep(0.25)
    assert len(found) == count
    assert not any(thread.name == "telemetry" for thread in threading.enumerate())


def test_a_sink_that_fails_ends_the_sampling_and_not_the_run():
    def full(sample):
        raise OSError("no space left")

    with Telemetry(Device("card", "no"), full, hz=10) as telemetry:
        time.sleep(0.3)
    assert telemetry.samples == 0
    assert "no space" in str(telemetry.error)


@pytest.mark.parametrize("hz", [0, -1, 1000])
def test_a_rate_that_cannot_be_is_refused(hz):
    with pytest.raises(ValueError, match="telemetry at"):
        Telemetry(Device("card", "no"), lambda sample: None, hz=hz)


def test_sampling_costs_little_of_a_core():
    with Telemetry(Device("card", "no"), lambda sample: None, hz=10) as telemetry:
        time.sleep(0.45)
    assert 0 < telemetry.share_busy < 0.2


def test_overhead_compares_runs_with_and_without():
    def run():
        sampled = any(thread.name == "telemetry" for thread in threading.enumerate())
        return 1.02 if sampled else 1.0

    assert overhead(run, Device("card", "no"), turns=3) == pytest.approx(0.02)
