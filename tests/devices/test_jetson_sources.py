"""Where a board's readings come from when its own files have no place for them."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boards
import pytest

from ssmprof.devices import NullDevice
from ssmprof.devices import detect as detect_device
from ssmprof.devices.base import read_clocks
from ssmprof.devices.jetson import board, jtop, polling, replay
from ssmprof.devices.jetson.device import JetsonDevice, detect
from ssmprof.devices.jetson.sources import ORDER, SOURCES, Fallbacks, Jtop, Nvml, Tegrastats
from ssmprof.devices.jetson.stream import Child, TegrastatsStream
from ssmprof.devices.sysfs import RecordedFiles, Sysfs
from ssmprof.errors import ConfigError, NoDeviceError

LINE = (
    "RAM 3452/7620MB (lfb 1x4MB) EMC_FREQ 43%@2133 GR3D_FREQ 63%@[621] tj@50.5C "
    "VDD_IN 12479mW/8000mW VDD_CPU_GPU_CV 4000mW/4000mW VDD_SOC 2000mW/2000mW"
)
BARE = {"/proc/device-tree/compatible": "nvidia,p3767-0005\\0nvidia,tegra234\\0"}


class Lines:
    """A process that prints what it is told and then waits for its end."""

    def __init__(self, *lines: str) -> None:
        self.given = lines
        self.over = threading.Event()

    def lines(self) -> Iterator[str]:
        yield from self.given
        self.over.wait(10)

    def end(self) -> None:
        self.over.set()


def device(tree: dict[str, str], **sources: Any) -> JetsonDevice:
    sysfs = Sysfs(RecordedFiles(tree))
    found = board.identify(sysfs)
    assert found is not None
    openers = {name: (lambda source=source: source) for name, source in sources.items()}
    return JetsonDevice(sysfs, found, fallbacks=Fallbacks(found.soc, openers))


def test_a_board_without_monitors_reads_power_and_clock_from_tegrastats() -> None:
    one = device(BARE, tegrastats=Tegrastats(TegrastatsStream(lambda: Lines(LINE))))
    try:
        assert one.power_w() == 12.479
        assert (one.power_source, one.power_scope) == ("tegrastats:VDD_IN", "module")
        assert (one.sm_hz(), one.load(), one.temperature_c()) == (621e6, 0.63, 50.5)
        assert one.memory_hz() == 2133e6  # asked, since the stream runs for the others already
        assert set(one.sources.values()) == {"tegrastats"}
    finally:
        one.close()


def test_a_total_of_tegrastats_carries_the_scope_of_its_rails() -> None:
    line = (boards.ROOT / "tegrastats" / "tegrastats_thor_r38_vin.txt").read_text().splitlines()[-2]
    assert "VIN 26686mW" in line
    one = device(BARE, tegrastats=Tegrastats(TegrastatsStream(lambda: Lines(line))))
    try:
        assert (one.power_w(), one.power_scope) == (26.686, "system")
    finally:
        one.close()


def test_readings_of_the_boards_own_files_come_first_and_start_no_other_source() -> None:
    def refuse() -> Any:
        raise AssertionError("opened although the files answer")

    sysfs = Sysfs(RecordedFiles(boards.nano()))
    found = board.identify(sysfs)
    assert found is not None
    one = JetsonDevice(sysfs, found, fallbacks=Fallbacks(found.soc, {"tegrastats": refuse}))
    clocks = read_clocks(one)
    assert clocks.power_w == pytest.approx(7.544, abs=1e-3)
    assert "power_w from ina3221:VDD_IN" in (clocks.source or "")
    assert "temperature_c from thermal:tj" in (clocks.source or "")
    assert one.load() == 0.0
    assert one.sources["load"] == "devfreq"


def test_a_sensor_that_sleeps_is_missing_and_not_asked_elsewhere() -> None:
    tree = boards.nano(**{"/sys/class/thermal/thermal_zone8/temp": "!EAGAIN"})
    one = device(tree, tegrastats=Tegrastats(TegrastatsStream(lambda: Lines(LINE))))
    try:
        assert one.temperature_c() is None
        assert one.missing["temperature_c"] == "EAGAIN"
    finally:
        one.close()


def test_a_silent_stream_gives_none_and_never_its_last_value() -> None:
    now = [100.0]
    with TegrastatsStream(lambda: Lines(LINE), clock=lambda: now[0]) as stream:
        found = stream.latest()
        assert found is not None
        assert found.sample.gpu_load == 0.63
        now[0] += 3.0
        assert stream.latest() is None


def test_tegrastats_that_ends_at_once_is_a_missing_source() -> None:
    class Ends(Lines):
        def lines(self) -> Iterator[str]:
            return iter(())

    one = device(BARE, tegrastats=Tegrastats(TegrastatsStream(Ends)))
    assert one.power_w() is None
    assert one.missing["power_w"] == "tegrastats: not told"


def test_without_tegrastats_the_reason_is_kept_and_it_is_not_tried_again() -> None:
    tries: list[int] = []

    def absent() -> Any:
        tries.append(1)
        raise FileNotFoundError("tegrastats")

    sources = Fallbacks("tegra234", {"tegrastats": absent})
    for _ in range(3):
        value, reason = sources.ask("power_w")
        assert value is None
        assert "FileNotFoundError: tegrastats" in reason
    assert len(tries) == 1


def test_the_process_group_of_a_stream_ends_with_it(tmp_path: Path) -> None:
    script = tmp_path / "stats"
    script.write_text(f'#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/pid\necho "{LINE}"\nwait\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    with TegrastatsStream(lambda: Child((str(script),))) as stream:
        assert stream.latest() is not None
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z":
            return
        time.sleep(0.02)
    pytest.fail("a child of tegrastats outlived the stream")


class NvmlRefusal(Exception):
    """Named for the message only."""


def thor_nvml() -> Any:
    """NVML as Thor answers: load, temperature and processes; memory, clocks and power refused."""

    def refuse(*_: Any) -> Any:
        raise NvmlRefusal("Not Supported")

    def running(handle: Any) -> list[Any]:
        return [SimpleNamespace(pid=42, usedGpuMemory=2**30)]

    return SimpleNamespace(
        NVML_TEMPERATURE_GPU=0, NVML_CLOCK_SM=1, NVML_CLOCK_MEM=2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: "NVIDIA Thor",
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=37),
        nvmlDeviceGetTemperature=lambda handle, sensor: 51,
        nvmlDeviceGetComputeRunningProcesses=running,
        nvmlDeviceGetClockInfo=refuse, nvmlDeviceGetPowerUsage=refuse,
        nvmlDeviceGetMemoryInfo=refuse, nvmlShutdown=lambda: None,
    )  # fmt: skip


def test_thor_asks_nvml_for_load_and_processes_and_nothing_else() -> None:
    one = device(boards.rows(boards.THOR_FILE), nvml=Nvml(thor_nvml()))
    assert (one.load(), one.sources["load"]) == (0.37, "nvml")
    assert one.processes() == (42,)
    assert one.process_bytes(42) == 2**30
    assert one.process_bytes(43) is None
    assert one.power_w() == pytest.approx(26.686)
    assert one.sources["power_w"] == "ina238:VIN"
    assert one.memory_bytes() is None  # never from NVML


def test_orin_never_asks_nvml_although_it_starts() -> None:
    one = device(BARE, nvml=Nvml(thor_nvml()))
    assert (one.load(), one.processes(), one.process_bytes(42)) == (None, None, None)


def test_what_nvidia_smi_answers_on_orin_is_refusals() -> None:
    answer = boards.sample("nvidia_smi_orin_jp6.txt").splitlines()
    row = next(line for line in answer if line.startswith("0, Orin"))
    assert set(row.split(", ")[2:]) == {"[N/A]"}


def test_every_source_in_the_order_can_be_opened() -> None:
    assert {name for names in ORDER.values() for name in names} == set(SOURCES)


class Service:
    """jetson-stats as its clients see it, with its known traps."""

    power: Any = {  # noqa: RUF012
        "rail": {
            "VDD_IN": {"power": 6000},
            "VDD_CPU_GPU_CV": {"power": 0},
            "VDD_SOC": {"power": 1500},
        },
        "tot": {"power": 7500},
    }
    temperature: Any = {"tj": {"temp": 47.5}}  # noqa: RUF012
    gpu: Any = {"gpu": {"status": {"load": 0}}}  # noqa: RUF012
    closed = False

    def close(self) -> None:
        self.closed = True


def test_the_jtop_service_is_the_last_source_and_its_zeros_are_missing() -> None:
    service = Service()
    one = device(BARE, jtop=Jtop(jtop.JtopSource(lambda: service)))
    assert (one.power_w(), one.sources["power_w"]) == (6.0, "jtop")  # VDD_IN, not its own total
    assert one.temperature_c() == 47.5
    assert one.load() is None
    one.close()
    assert service.closed


@pytest.mark.parametrize("rubbish", [None, 5, {"rail": 3}, {"rail": {"VDD_IN": None}}, {}])
def test_rubbish_from_the_service_is_a_missing_value(rubbish: Any) -> None:
    service = SimpleNamespace(power=rubbish, temperature=rubbish, gpu=rubbish, close=lambda: None)
    source = jtop.JtopSource(lambda: service)
    assert (source.rails_w(), source.temperature_c(), source.load()) == ({}, None, None)


def test_a_service_that_is_not_there_is_never_imported(tmp_path: Path) -> None:
    assert not jtop.answers(str(tmp_path / "jtop.sock"))
    with pytest.raises((ImportError, OSError)):
        jtop.JtopSource()


def test_a_captured_tree_replays_as_a_device_of_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(replay.VARIABLE, str(boards.write(boards.nano(), tmp_path / "nano.tsv")))
    one = detect_device("any")
    assert isinstance(one, JetsonDevice)
    assert one.kind == "cpu"
    assert "Orin" not in one.name  # or its peaks would be taken for this processor's
    assert (one.board, one.l4t) == ("Orin Nano 8GB devkit (p3767-0005)", "36.4.3")
    assert one.power_mode == "MAXN_SUPER"
    assert one.power_w() == pytest.approx(7.544, abs=1e-3)
    assert one.memory_bytes() == 7_802_640 * 1024


def test_a_tree_that_cannot_be_replayed_is_an_error_and_not_another_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(replay.VARIABLE, str(tmp_path / "none.tsv"))
    with pytest.raises(ConfigError, match="no such file"):
        detect_device("cpu")
    desktop = boards.write({"/proc/cpuinfo": "model name : x"}, tmp_path / "desktop.tsv")
    monkeypatch.setenv(replay.VARIABLE, str(desktop))
    with pytest.raises(ConfigError, match="no Tegra"):
        detect_device("any")


def test_polling_at_ten_hertz_takes_less_than_a_hundredth_of_a_core(tmp_path: Path) -> None:
    polling.lay_out(boards.NANO_FILE, tmp_path)
    from ssmprof.devices.sysfs import LiveFiles

    one = detect(Sysfs(LiveFiles(str(tmp_path))))
    assert one is not None
    assert one.power_w() == pytest.approx(7.544, abs=1e-3)
    # The least of several: another process may take the core in between.
    assert min(polling.share_of_a_core(one, 0.05, hz=100) for _ in range(5)) / 10 < polling.ALLOWED


def test_polling_without_a_board_says_how_to_try_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NoDeviceError, match="no Jetson"):
        polling.main([])
    assert polling.main([str(boards.NANO_FILE)]) in (0, 1)
    assert "% of one core" in capsys.readouterr().out


def test_devices_without_sources_of_their_own_keep_one_word() -> None:
    assert read_clocks(NullDevice("card", "x", "cuda")).source == "cuda"
