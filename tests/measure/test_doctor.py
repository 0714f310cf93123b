"""Grades, findings and the commands that mend them, on made-up machines and on this one."""

import msgspec
import pytest

from ssmprof.devices import NullDevice
from ssmprof.doctor import examination as doctor
from ssmprof.doctor import host as doctor_host
from ssmprof.doctor import processes
from ssmprof.errors import NoDeviceError
from ssmprof.records import Calibration, Check


def _check(level):
    return Check(name="clocks", level=level, text="seen")


@pytest.mark.parametrize(
    ("levels", "noise", "expected"),
    [
        ([], 0.001, "A"),
        (["ok"], 0.001, "A"),
        (["ok", "warn"], 0.001, "B"),
        (["warn", "error"], 0.001, "C"),
        (["ok"], 0.02, "C"),
        (["ok"], 0.2, "D"),
        (["ok"], None, "D"),
    ],
)
def test_the_grade_follows_levels_and_noise(levels, noise, expected):
    found = Calibration(repeat_noise=noise, checks=tuple(_check(level) for level in levels))
    assert doctor.grade(found) == expected


def test_a_check_that_fails_is_itself_a_finding():
    def broken():
        raise RuntimeError("CUDA error:\n  misaligned address")

    (found,) = doctor._flatten("routes", broken)
    assert found.level == "warn"
    assert "misaligned address" in found.text
    assert "\n" not in found.text


class Card(NullDevice):
    def __init__(self, *, throttle=(), pids=(), pinned=None, celsius=40.0, most=1.98e9):
        super().__init__("NVIDIA H100 80GB HBM3", "not supported", "cuda")
        self._throttle, self._pids, self._pinned = throttle, pids, pinned
        self._celsius, self._most = celsius, most

    def throttle(self):
        return self._throttle

    def processes(self):
        return self._pids

    def pinned(self):
        return self._pinned

    def temperature_c(self):
        return self._celsius

    def sm_hz(self):
        return 1.755e9

    def max_sm_hz(self):
        return self._most


def test_clocks_of_which_nothing_is_known_are_a_warning_that_claims_nothing():
    card = Card()
    card.missing["pinned"] = "NVML cannot say whether clocks are locked"
    found = doctor_host.clocks(card)
    assert found.level == "warn"
    assert found.text == (
        "1755 MHz before any work, at most 1980 MHz; NVML cannot say whether clocks are locked"
    )


@pytest.mark.parametrize(
    ("pinned", "told"), [("capped", "capped by a setting"), ("free", "not locked")]
)
def test_clocks_that_are_known_not_to_be_pinned_are_called_so(pinned, told):
    found = doctor_host.clocks(Card(pinned=pinned))
    assert (found.level, found.text.split("; ")[1]) == ("warn", told)


class Loaded(Card):
    """A card whose clock falls in steps while it works, down to a floor."""

    def __init__(self, *clocks_hz, **changes):
        super().__init__(**changes)
        self.clocks_hz, self.working = list(clocks_hz), False

    def begin(self):
        self.working = True

    def finish(self):
        self.working = False

    def sm_hz(self):
        assert self.working, "the clock is read while the device works"
        return self.clocks_hz.pop(0) if len(self.clocks_hz) > 1 else self.clocks_hz[0]

    def check(self):
        return doctor_host.clocks_at_work(self, self.begin, self.finish, seconds=0.02)


def test_a_clock_that_falls_under_load_names_the_reason_and_the_clock_to_lock():
    found = Loaded(1.98e9, 1.485e9, throttle=("power cap",)).check()
    assert found.level == "warn"
    assert "1485 MHz" in found.text
    assert "power cap" in found.text
    assert found.fix.startswith("sudo nvidia-smi --lock-gpu-clocks=1485 ")
    assert "--reset-gpu-clocks" in found.fix


def test_a_steady_clock_is_not_called_locked():
    found = Loaded(1.98e9).check()
    assert (found.level, found.fix) == ("ok", None)
    assert "cannot be told" in found.text
    below = Loaded(1.4e9).check()
    assert below.level == "ok"
    assert "as a lock would hold it" in below.text


def test_a_clock_that_cannot_be_read_at_work_is_no_finding():
    assert Loaded(None).check() is None


def test_throttled_clocks_are_an_error_with_the_reason():
    found = doctor_host.clocks(Card(throttle=("power cap",)))
    assert found.level == "error"
    assert "power cap" in found.text


def test_pinned_clocks_pass():
    assert doctor_host.clocks(Card(pinned="pinned")).level == "ok"


@pytest.mark.parametrize(
    ("pids", "level"), [((), "ok"), ((4242,), "ok"), ((4242, 4243), "error"), (None, "warn")]
)
def test_other_processes_on_the_device_are_found(pids, level):
    # One process may be this one under the number that a container does not see.
    assert doctor_host.others(Card(pids=pids)).level == level


def test_a_hot_device_is_a_warning():
    assert doctor_host.temperature(Card(celsius=90.0)).level == "warn"
    assert doctor_host.temperature(Card(celsius=50.0)).level == "ok"
    assert doctor_host.temperature(Card(celsius=None)) is None


def test_missing_readings_are_listed_with_their_reasons():
    found = doctor_host.telemetry(Card())
    assert [check.level for check in found] == ["ok", "warn"]
    assert "power (not supported)" in found[1].text


def test_a_slow_energy_counter_is_a_warning():
    class Metered(Card):
        def energy_j(self):
            return 1.0

    assert doctor_host.energy_period(Card(), None) is None
    assert doctor_host.energy_period(Metered(), 0.1).level == "ok"
    assert doctor_host.energy_period(Metered(), 2.0).level == "warn"
    assert doctor_host.energy_period(Metered(), None).level == "warn"


def test_a_restricted_ptrace_scope_is_told_with_its_command(monkeypatch, tmp_path):
    scope = tmp_path / "ptrace_scope"
    scope.write_text("3\n")
    monkeypatch.setattr(doctor_host, "_PTRACE_SCOPE", scope)
    monkeypatch.setattr(doctor_host.os, "geteuid", lambda: 1000)
    found = doctor_host.host_profiler()
    assert found.level == "warn"
    assert found.fix == "sudo sysctl kernel.yama.ptrace_scope=1"


def test_a_board_without_torch_is_told_where_its_build_is(monkeypatch):
    from importlib import metadata

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert "jetson" in (doctor_host.torch_build("aarch64").fix or "")
    assert doctor_host.torch_build("x86_64").fix == 'pip install "ssmprof[torch]"'
    with pytest.raises(NoDeviceError) as raised:
        doctor_host.need_torch()
    (line,) = str(raised.value).splitlines()
    assert "pip install" in line
    assert doctor.examine("cpu").checks[0].name == "torch"


def test_variation_of_medians_and_its_limits():
    assert processes.variation((1.0, 1.0, 1.0)) == 0.0
    assert processes.variation((0.99, 1.0, 1.01)) == pytest.approx(0.01)
    assert processes.limit_of(200e-6) == 0.01
    assert processes.limit_of(20e-6) == 0.03
    assert processes.limit_of(2e-6) is None


def test_processes_that_differ_too_much_are_a_warning(monkeypatch):
    medians = {"20 µs": (20e-6, 20.2e-6, 19.8e-6), "2 ms": (2e-3, 2.1e-3, 1.9e-3)}
    monkeypatch.setattr(processes, "variations", lambda kind: medians)
    found = processes.noise_check("cuda")
    assert found.level == "warn"
    assert found.value == pytest.approx(0.05)


def test_a_crashing_profiler_is_a_finding_and_not_a_crash(monkeypatch):
    def crash(*_):
        raise processes.BrokenProcessPool

    monkeypatch.setattr(processes, "fresh", crash)
    assert processes.cupti_check().level == "warn"


def test_this_machine_is_examined_in_a_process_of_its_own():
    found = doctor.in_child("cpu")
    names = {check.name for check in found.checks}
    assert {"torch", "device", "clocks", "others", "A/A", "routes"} <= names
    assert found.matmul_flops is not None
    assert found.matmul_flops > 1e8
    assert found.repeat_noise is not None
    assert doctor.grade(found) in "BCD"  # a CPU's clocks are never known to be pinned
    assert msgspec.json.decode(msgspec.json.encode(found), type=Calibration) == found


def test_a_device_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(NoDeviceError):
        doctor.in_child("cuda")
