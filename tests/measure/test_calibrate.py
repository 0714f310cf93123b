"""Calibration on a CPU, and the period of a counter whose steps are known."""

import time

import pytest

from ssmprof.devices import NullDevice
from ssmprof.devices.cpu import CpuDevice
from ssmprof.doctor.calibrate import calibrate, energy_period_s


def test_a_cpu_has_its_own_ceilings_and_no_marks_of_a_gpu():
    found = calibrate(CpuDevice(), energy=False)
    assert found.copy_bytes_per_s is not None
    assert found.copy_bytes_per_s > 1e8
    assert found.matmul_flops is not None
    assert found.matmul_flops > 1e8
    assert found.launch_eager_s is not None
    assert 0 < found.launch_eager_s < 1e-3
    assert found.mark_cost_s is not None
    assert found.empty_pair_graph_s is None
    assert found.exps_per_s is None
    assert found.energy_period_s is None


class Stepping(NullDevice):
    """A counter that moves every `period_s`."""

    def __init__(self, period_s):
        super().__init__("card", "not supported", "cuda")
        self.period_s = period_s

    def energy_j(self):
        return float(int(time.perf_counter() / self.period_s))


def test_the_period_of_a_counter_is_the_time_between_its_changes():
    assert energy_period_s(Stepping(0.02), watch_s=0.3) == pytest.approx(0.02, rel=0.3)


def test_a_counter_that_hardly_moves_has_no_period():
    assert energy_period_s(Stepping(10.0), watch_s=0.05) is None


def test_a_device_without_a_counter_has_no_period():
    assert energy_period_s(NullDevice("card", "not supported"), watch_s=0.05) is None
