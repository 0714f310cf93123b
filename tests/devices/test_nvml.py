"""NVML with a stand-in module: every call may be refused on its own, and nothing becomes zero."""

from types import SimpleNamespace

import pytest
from msgspec.structs import fields

from ssmprof.devices import NullDevice, detect
from ssmprof.devices.base import Device, read_clocks, read_telemetry
from ssmprof.devices.cpu import CpuDevice, cpu_name
from ssmprof.devices.nvml import NvmlDevice
from ssmprof.errors import NoDeviceError
from ssmprof.measure.timing.clocks import ClockWatch
from ssmprof.records import Violations


class NotSupported(Exception):
    pass


class FakeNvml:
    """A card at work; names in `refused` answer with NotSupported."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    nvmlMemory_v2 = 2
    nvmlClocksEventReasonSwPowerCap = 4
    nvmlClocksEventReasonHwThermalSlowdown = 64
    nvmlClocksEventReasonGpuIdle = 1
    nvmlClocksEventReasonApplicationsClocksSetting = 2
    NVML_PERF_POLICY_POWER, NVML_PERF_POLICY_THERMAL, NVML_PERF_POLICY_SYNC_BOOST = 0, 1, 2
    NVML_PERF_POLICY_BOARD_LIMIT, NVML_PERF_POLICY_LOW_UTILIZATION = 3, 4
    NVML_PERF_POLICY_RELIABILITY = 5
    NVML_PERF_POLICY_TOTAL_APP_CLOCKS, NVML_PERF_POLICY_TOTAL_BASE_CLOCKS = 10, 11
    uuids = ("GPU-aaaa", "GPU-bbbb")

    def __init__(self, refused=(), **answers):
        self.refused = set(refused)
        self.answers = {
            "nvmlDeviceGetName": "NVIDIA H100 80GB HBM3",
            "nvmlSystemGetDriverVersion": b"580.1",
            "nvmlDeviceGetClockInfo": 1755,
            "nvmlDeviceGetMaxClockInfo": 1980,
            "nvmlDeviceGetApplicationsClock": 1980,
            "nvmlDeviceGetDefaultApplicationsClock": 1980,
            "nvmlDeviceGetViolationStatus": lambda _, policy: SimpleNamespace(
                referenceTime=1, violationTime=(policy + 1) * 10**9
            ),
            "nvmlDeviceGetTemperature": 51,
            "nvmlDeviceGetPowerUsage": 412_500,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetTotalEnergyConsumption": 12_345_678,
            "nvmlDeviceGetCurrentClocksEventReasons": 4 + 1,
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=80 * 2**30, used=2**30),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97),
            "nvmlDeviceGetComputeRunningProcesses": [
                SimpleNamespace(pid=11, usedGpuMemory=547 * 10**6),
                SimpleNamespace(pid=12, usedGpuMemory=None),
            ],
            "nvmlDeviceGetCount": 2,
            **answers,
        }

    def __getattr__(self, name):
        if not name.startswith("nvml") or name not in self.answers:
            raise AttributeError(name)

        def call(*arguments):
            if name in self.refused:
                raise NotSupported(name)
            answer = self.answers[name]
            return answer(*arguments) if callable(answer) else answer

        return call

    def nvmlDeviceGetHandleByIndex(self, index):
        return ("handle", index)

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return ("uuid", uuid)

    def nvmlDeviceGetUUID(self, handle):
        return self.uuids[handle[1]]

    def nvmlShutdown(self):
        return None


READINGS = {
    "sm_hz": ("nvmlDeviceGetClockInfo", 1.755e9),
    "max_sm_hz": ("nvmlDeviceGetMaxClockInfo", 1.98e9),
    "temperature_c": ("nvmlDeviceGetTemperature", 51.0),
    "power_w": ("nvmlDeviceGetPowerUsage", 412.5),
    "power_limit_w": ("nvmlDeviceGetEnforcedPowerLimit", 700.0),
    "energy_j": ("nvmlDeviceGetTotalEnergyConsumption", 12_345.678),
    "memory_bytes": ("nvmlDeviceGetMemoryInfo", 80 * 2**30),
    "used_bytes": ("nvmlDeviceGetMemoryInfo", 2**30),
    "load": ("nvmlDeviceGetUtilizationRates", 0.97),
    "processes": ("nvmlDeviceGetComputeRunningProcesses", (11, 12)),
}


@pytest.mark.parametrize("reading", READINGS)
def test_a_reading_is_in_base_units(reading):
    device = NvmlDevice(nvml=FakeNvml())
    assert getattr(device, reading)() == pytest.approx(READINGS[reading][1])
    assert reading not in device.missing


@pytest.mark.parametrize("reading", READINGS)
def test_a_refused_call_is_missing_with_its_reason_and_spares_the_others(reading):
    function, _ = READINGS[reading]
    device = NvmlDevice(nvml=FakeNvml(refused=[function]))
    assert getattr(device, reading)() is None
    assert "NotSupported" in device.missing[reading]
    others = [name for name, (call, _) in READINGS.items() if call != function]
    assert all(getattr(device, name)() is not None for name in others)


def test_an_answer_of_not_available_is_missing_and_never_zero():
    device = NvmlDevice(nvml=FakeNvml(nvmlDeviceGetPowerUsage=b"[N/A]"))
    assert device.power_w() is None
    assert "N/A" in device.missing["power_w"]


def test_a_function_the_library_lacks_is_missing():
    nvml = FakeNvml()
    del nvml.answers["nvmlDeviceGetTotalEnergyConsumption"]
    device = NvmlDevice(nvml=nvml)
    assert device.energy_j() is None
    assert "AttributeError" in device.missing["energy_j"]


def test_a_reading_that_comes_back_is_no_longer_missing():
    nvml = FakeNvml(refused=["nvmlDeviceGetPowerUsage"])
    device = NvmlDevice(nvml=nvml)
    assert device.power_w() is None
    nvml.refused.clear()
    assert device.power_w() == 412.5
    assert "power_w" not in device.missing


def test_idle_is_not_a_throttle_reason_but_the_power_cap_is():
    assert NvmlDevice(nvml=FakeNvml()).throttle() == ("power cap",)
    idle = NvmlDevice(nvml=FakeNvml(nvmlDeviceGetCurrentClocksEventReasons=1))
    assert idle.throttle() == ()


def test_memory_of_a_process_is_its_own_or_missing():
    device = NvmlDevice(nvml=FakeNvml())
    assert device.process_bytes(11) == 547 * 10**6
    assert device.process_bytes(12) is None
    assert device.process_bytes(99) is None
    assert "99" in device.missing["process_bytes"]


def test_a_clock_somebody_set_is_capped_and_a_free_one_is_not_called_locked():
    assert NvmlDevice(nvml=FakeNvml(nvmlDeviceGetApplicationsClock=1400)).pinned() == "capped"
    limited = FakeNvml(nvmlDeviceGetCurrentClocksEventReasons=2)
    assert NvmlDevice(nvml=limited).pinned() == "capped"
    device = NvmlDevice(nvml=FakeNvml())
    assert device.pinned() is None
    assert device.missing["pinned"] == (
        "NVML cannot say whether clocks are locked; application clock 1980 MHz, as shipped"
    )


def test_an_application_clock_below_the_maximum_but_as_shipped_is_nobody_s_cap():
    shipped = dict.fromkeys(
        ("nvmlDeviceGetApplicationsClock", "nvmlDeviceGetDefaultApplicationsClock"), 1095
    )
    device = NvmlDevice(nvml=FakeNvml(**shipped))
    assert device.pinned() is None
    assert "1095 MHz, as shipped" in device.missing["pinned"]


@pytest.mark.parametrize(
    "refused",
    [
        "nvmlDeviceGetApplicationsClock",
        "nvmlDeviceGetDefaultApplicationsClock",
        "nvmlDeviceGetCurrentClocksEventReasons",
    ],
)
def test_a_hint_that_is_refused_is_no_claim(refused):
    device = NvmlDevice(nvml=FakeNvml(refused=[refused]))
    assert device.pinned() is None
    assert "cannot say" in device.missing["pinned"]
    if refused == "nvmlDeviceGetApplicationsClock":
        assert "NotSupported" in device.missing["pinned"]


def test_violation_counters_are_seconds_each_on_its_own():
    def some(handle, policy):
        if policy == FakeNvml.NVML_PERF_POLICY_THERMAL:
            raise NotSupported("thermal")
        if policy == FakeNvml.NVML_PERF_POLICY_RELIABILITY:
            return SimpleNamespace(violationTime=2**64 - 1)
        return SimpleNamespace(violationTime=policy * 1_500_000_000)

    nvml = FakeNvml(nvmlDeviceGetViolationStatus=some)
    device = NvmlDevice(nvml=nvml)
    found = device.violations_s()
    assert found["power_s"] == 0.0
    assert found["sync_boost_s"] == pytest.approx(3.0)
    assert found["base_clocks_s"] == pytest.approx(16.5)
    assert found.keys() == {f.name for f in fields(Violations)} - {
        "window_s", "thermal_s", "reliability_s",
    }  # fmt: skip
    assert "NotSupported" in device.missing["violations.thermal_s"]
    assert "no value" in device.missing["violations.reliability_s"]


def test_counters_that_are_all_refused_are_missing_once_and_come_back():
    nvml = FakeNvml(refused=["nvmlDeviceGetViolationStatus"])
    device = NvmlDevice(nvml=nvml)
    assert device.violations_s() == {}
    assert [name for name in device.missing if name.startswith("violations")] == ["violations"]
    assert "NotSupported" in device.missing["violations"]
    nvml.refused.clear()
    assert len(device.violations_s()) == 8
    assert not any(name.startswith("violations") for name in device.missing)


def test_records_of_a_moment_carry_what_is_missing():
    device = NvmlDevice(nvml=FakeNvml(refused=["nvmlDeviceGetPowerUsage"]))
    clocks = read_clocks(device, before_hz=1.98e9)
    assert clocks.sm_before_hz == 1.98e9
    assert clocks.sm_after_hz == 1.755e9
    assert clocks.power_w is None
    assert "power_w" in clocks.missing
    sample = read_telemetry(device)
    assert sample.load == 0.97
    assert sample.power_w is None


@pytest.mark.parametrize(
    "device",
    [NullDevice("nothing", "no such device"), CpuDevice(), NvmlDevice(nvml=FakeNvml())],
    ids=lambda device: type(device).__name__,
)
def test_every_device_answers_the_whole_protocol(device):
    assert isinstance(device, Device)
    device.violations_s()
    read_clocks(device)
    read_telemetry(device)
    device.close()


def test_a_null_device_gives_its_reason_for_every_reading():
    device = NullDevice("nothing", "no such device")
    read_clocks(device)
    assert set(device.missing.values()) == {"no such device"}
    assert device.power_w() is None


@pytest.mark.parametrize("when", ["from the start", "in the middle"])
def test_a_pass_whose_clock_calls_fail_keeps_everything_else(when):
    nvml = FakeNvml()
    refused = {"nvmlDeviceGetClockInfo", "nvmlDeviceGetViolationStatus"}
    if when == "from the start":
        nvml.refused |= refused
    watch = ClockWatch(NvmlDevice(nvml=nvml))
    nvml.refused |= refused
    watch.look()
    found = watch.clocks(before_hz=1.98e9)
    assert (found.sm_clock_hz, found.violations, found.sm_after_hz) == (None, None, None)
    for name in ("sm_clock_hz", "violations", "sm_hz"):
        assert "NotSupported" in found.missing[name]
    assert (found.sm_before_hz, found.power_w) == (1.98e9, 412.5)
    assert found.throttle == ("power cap",)


def test_one_counter_that_fails_in_the_middle_is_missing_and_the_others_are_told():
    def status(handle, policy):
        if policy == FakeNvml.NVML_PERF_POLICY_POWER and gone:
            raise NotSupported("power")
        return SimpleNamespace(violationTime=0)

    gone = False
    watch = ClockWatch(NvmlDevice(nvml=FakeNvml(nvmlDeviceGetViolationStatus=status)))
    watch.look()
    gone = True
    found = watch.clocks(before_hz=None)
    assert found.violations.power_s is None
    assert "NotSupported" in found.missing["violations.power_s"]
    assert found.violations.thermal_s == 0.0
    assert found.sm_clock_hz.median == 1.755e9


def _package(folder, name, energy, wrap=1000):
    zone = folder / name
    zone.mkdir()
    (zone / "energy_uj").write_text(str(energy))
    (zone / "max_energy_range_uj").write_text(str(wrap))
    return zone


def test_rapl_packages_are_summed_without_their_parts(tmp_path):
    _package(tmp_path, "intel-rapl:0", 2_000_000)
    _package(tmp_path, "intel-rapl:1", 3_000_000)
    _package(tmp_path, "intel-rapl:0:0", 500_000)
    assert CpuDevice(tmp_path).energy_j() == pytest.approx(5.0)


def test_a_rapl_counter_that_wraps_keeps_rising(tmp_path):
    zone = _package(tmp_path, "intel-rapl:0", 900, wrap=1000)
    device = CpuDevice(tmp_path)
    before = device.energy_j()
    (zone / "energy_uj").write_text("100")
    after = device.energy_j()
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(200e-6)


def test_unreadable_rapl_is_missing(tmp_path):
    zone = _package(tmp_path, "intel-rapl:0", 1)
    (zone / "energy_uj").unlink()
    device = CpuDevice(tmp_path)
    assert device.energy_j() is None
    assert "FileNotFoundError" in device.missing["energy_j"]


def test_the_processor_has_a_name(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nmodel name : A Fine CPU @ 2 GHz\n")
    assert cpu_name(info) == "A Fine CPU @ 2 GHz"
    assert cpu_name(tmp_path / "missing")


def test_a_machine_without_the_wanted_device_is_told_what_was_tried(monkeypatch):
    monkeypatch.setattr(
        "ssmprof.devices.nvml.library", lambda: (_ for _ in ()).throw(OSError("no driver"))
    )
    with pytest.raises(NoDeviceError, match="no cuda device found") as caught:
        detect("cuda")
    assert "no driver" in str(caught.value)
    assert detect("cpu").kind == "cpu"
