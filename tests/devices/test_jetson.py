"""Captured trees replay: board, mode, rails, total, scope; nothing missing ever reads zero."""

from __future__ import annotations

import math
from pathlib import Path

import boards
import pytest

from ssmprof.devices.jetson import board, clocks, memory, modes, power
from ssmprof.devices.jetson.device import detect
from ssmprof.devices.sysfs import LiveFiles, RecordedFiles, Sysfs

ROOT = Path(__file__).parents[2] / "jetson"
NANO = RecordedFiles.load(ROOT / "sysfs" / "sysfs_orin_nano_super_r36.5.tsv")
THOR = RecordedFiles.load(ROOT / "sysfs" / "sysfs_thor_r38.4.tsv")
TREES = {"nano": NANO, "thor": THOR}
HWMON = "/sys/class/hwmon/hwmon1"


def test_orin_nano_is_identified_with_its_evidence() -> None:
    found = board.identify(Sysfs(NANO))
    assert found is not None
    assert (found.soc, found.compute_capability) == ("tegra234", "8.7")
    assert (found.p_number, found.module) == ("p3767-0005", "Orin Nano 8GB devkit")
    assert found.l4t is None  # the tree carries no release file: absent, not guessed


def test_release_file_wins_and_gives_the_jetpack_label() -> None:
    text = "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64"
    rows = {**rows_of(NANO), "/etc/nv_tegra_release": text}
    found = board.identify(Sysfs(RecordedFiles(rows)))
    assert found is not None
    assert (found.l4t, found.jetpack) == ("36.4.7", "6.2.1")


def rows_of(files: RecordedFiles) -> dict[str, str]:
    rows: dict[str, str] = {}
    for path in files.paths:
        real = files.realpath(path)
        rows[path] = f"-> {real}" if real != path else _cell(files, path)
    return rows


def _cell(files: RecordedFiles, path: str) -> str:
    try:
        return files.read(path).decode().replace("\0", "\\0")
    except OSError:
        return "!EAGAIN"


def test_boot_control_file_names_the_module_by_tnspec_and_not_by_compatible_spec() -> None:
    conf = (
        "TNSPEC 3767-300-0003-K.2-1-1-jetson-orin-nano-devkit-\n"
        "COMPATIBLE_SPEC 3767--0005--1--jetson-orin-nano-devkit-\n"
    )
    tree = {"/proc/device-tree/compatible": "nvidia,tegra234\\0", "/etc/nv_boot_control.conf": conf}
    found = board.identify(Sysfs(RecordedFiles(tree)))
    assert found is not None
    assert (found.p_number, found.module) == ("p3767-0003", "Orin Nano 8GB")


def test_sources_that_disagree_give_a_warning() -> None:
    rows = {**rows_of(NANO), "/etc/nv_boot_control.conf": "TNSPEC 3767-300-0003-K.2-1-1-x-"}
    found = board.identify(Sysfs(RecordedFiles(rows)))
    assert found is not None
    assert found.p_number == "p3767-0005"
    assert any("TNSPEC says p3767-0003" in warning for warning in found.warnings)


def test_a_desktop_is_no_jetson() -> None:
    assert board.identify(Sysfs(RecordedFiles({"/proc/cpuinfo": "model name : x"}))) is None


def test_orin_nano_total_is_its_input_rail_of_the_module() -> None:
    monitors = power.PowerMonitors(Sysfs(NANO))
    rails = {rail.label: rail for rail in monitors.rails()}
    assert set(rails) == {"VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"}
    assert rails["VDD_IN"].power_w == pytest.approx(5.016 * 1.504)
    assert rails["VDD_IN"].resolution_w == pytest.approx(0.008 * 5.016)
    assert rails["VDD_IN"].alarm is False
    total = monitors.total()
    assert (total.scope, total.rails) == ("module", ("VDD_IN",))
    assert total.power_w == pytest.approx(7.544, abs=1e-3)


def test_agx_orin_adds_three_rails_and_never_the_fourth() -> None:
    monitors = power.PowerMonitors(Sysfs(RecordedFiles(boards.agx_orin())))
    labels = {rail.label for rail in monitors.rails()}
    assert labels == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"}
    total = monitors.total()
    assert total.scope == "module"
    assert total.power_w == pytest.approx(2.34 + 0.39 + 5.032 * 0.8)
    assert total.resolution_w == pytest.approx(0.02 * (19.5 + 19.5 + 5.032))


def test_a_missing_rail_gives_no_partial_sum() -> None:
    rows = boards.agx_orin()
    rows["/sys/class/hwmon/hwmon2/curr2_input"] = "!EAGAIN"
    total = power.PowerMonitors(Sysfs(RecordedFiles(rows))).total()
    assert total.power_w is None
    assert total.missing == "not readable: VDD_CPU_CV"


def test_thor_total_includes_the_carrier_where_its_monitor_is_there() -> None:
    total = power.PowerMonitors(Sysfs(THOR)).total()
    assert (total.power_w, total.scope) == (pytest.approx(26.686), "system")
    rows = {p: v for p, v in rows_of(THOR).items() if "hwmon4" not in p}
    module = power.PowerMonitors(Sysfs(RecordedFiles(rows))).total()
    assert module.scope == "module"
    assert module.power_w == pytest.approx(12 * 0 + 12 * 0.542 + 5 * 1.304)


@pytest.mark.parametrize(
    "place",
    [
        "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon7",
        "/sys/bus/i2c/devices/1-0040/hwmon/hwmon7",
        "/sys/devices/platform/c240000.i2c/i2c-1/1-0040/hwmon/hwmon7",
        "/sys/devices/platform/bus@0/c240000.i2c/i2c-1/1-0040/hwmon/hwmon7",
    ],
)
def test_a_monitor_without_a_link_in_the_class_is_found_where_it_hangs(place: str) -> None:
    known = power.PowerMonitors(boards.sysfs(boards.orin_nx()))
    moved = {p.replace("/sys/class/hwmon/hwmon3", place): v for p, v in boards.orin_nx().items()}
    assert moved != boards.orin_nx()
    found = power.PowerMonitors(boards.sysfs(moved))
    assert found.rails() == known.rails()
    assert found.total() == known.total()
    assert found.total().power_w == 10.0


def test_a_monitor_that_is_shown_in_several_places_counts_once() -> None:
    tree = boards.orin_nx()
    place = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    twice = tree | {p.replace("/sys/class/hwmon/hwmon3", place): v for p, v in tree.items()}
    assert (
        power.PowerMonitors(boards.sysfs(twice)).rails()
        == power.PowerMonitors(boards.sysfs(tree)).rails()
    )


def test_hwmon_renumbering_changes_nothing() -> None:
    moved = {p.replace("hwmon2", "hwmon9"): v for p, v in boards.agx_orin().items()}
    before = power.PowerMonitors(Sysfs(RecordedFiles(boards.agx_orin()))).total()
    after = power.PowerMonitors(Sysfs(RecordedFiles(moved))).total()
    assert before == after


def test_r32_boards_read_milliwatt_from_industrial_io() -> None:
    folder = "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    rows = {f"{folder}/rail_name_0": "POM_5V_IN", f"{folder}/in_power0_input": "1750"}
    total = power.PowerMonitors(Sysfs(RecordedFiles(rows))).total()
    assert (total.power_w, total.scope) == (1.75, "module")


@pytest.mark.parametrize("name", TREES)
def test_any_row_removed_never_raises_and_never_reads_zero(name: str) -> None:
    whole = TREES[name]
    zero_before = _zeros(whole)
    for path in whole.paths:
        assert _zeros(whole.without(path)) <= zero_before, path


def _zeros(files: RecordedFiles) -> set[str]:
    """Names of everything that reads exactly zero."""
    sysfs = Sysfs(files)
    board.identify(sysfs)
    monitors, tree = power.PowerMonitors(sysfs), clocks.ClockTree(sysfs)
    gpu = tree.gpu()
    values: dict[str, float | None] = {
        "total": monitors.total().power_w,
        "clock": gpu.current_hz,
        "cap": gpu.cap_hz,
        "load": gpu.load,
        "emc": tree.emc_cap_hz(),
        "fan": tree.fan(),
        **{rail.label: rail.power_w for rail in monitors.rails()},
        **tree.temperatures_c()[0],
    }
    modes.read(sysfs)
    tree.throttle()
    tree.cpu_pinned()
    return {name for name, value in values.items() if value == 0}


def test_orin_nano_clocks_caps_and_gated_sensors() -> None:
    tree = clocks.ClockTree(Sysfs(NANO))
    gpu = tree.gpu()
    assert (gpu.node, gpu.governor) == ("17000000.gpu", "nvhost_podgov")
    assert (gpu.current_hz, gpu.lowest_hz, gpu.cap_hz) == (306e6, 306e6, 1020e6)
    assert gpu.pinned == "free"
    assert tree.emc_cap_hz() == 3199e6
    temperatures, missing = tree.temperatures_c()
    assert temperatures["tj"] == 48.562
    assert missing == dict.fromkeys(("cv0", "cv1", "cv2"), "EAGAIN")
    assert tree.fan() == pytest.approx(88 / 255)


def test_thor_gpu_clock_has_no_load_and_a_gated_sensor() -> None:
    tree = clocks.ClockTree(Sysfs(THOR))
    gpu = tree.gpu()
    assert (gpu.node, gpu.current_hz, gpu.load) == ("gpu-gpc-0", 1575e6, None)
    assert gpu.pinned is None  # min_freq is not in the tree: unknown, not "free"
    assert tree.emc_hz() == 4266e6
    assert tree.temperatures_c()[1] == {"gpu": "EAGAIN"}


def test_over_current_counters_are_compared_and_void_after_a_reboot() -> None:
    def state(oc1: int, oc3: int, boot: str = "a") -> clocks.Throttle:
        return clocks.Throttle(events={"oc1": oc1, "oc3": oc3}, active=(), boot_id=boot)

    assert clocks.throttle_reasons(state(0, 0), state(0, 50), seconds=10) == ()
    assert clocks.throttle_reasons(state(0, 0), state(0, 101), seconds=10) == ("oc3: 101 events",)
    assert clocks.throttle_reasons(state(4, 0), state(5, 0), seconds=10) == ("oc1: 1 events",)
    assert clocks.throttle_reasons(state(9, 0), state(0, 0, "b"), seconds=10) == ("rebooted",)


@pytest.mark.parametrize("status", ["pmode:0002 fmode:fan_mode_quiet", "pmode:0002", "pmode:2"])
def test_power_mode_is_named_by_its_id_and_ranked_by_its_caps(status: str) -> None:
    found = modes.read(Sysfs(RecordedFiles({modes.STATUS: status, modes.CONF: boards.conf()})))
    assert found.active is not None
    assert (found.active.id, found.active.name) == (2, "MAXN_SUPER")
    assert found.active.gpu_cap_hz == math.inf
    assert found.fastest == found.active
    assert found.default_id == 1
    slowest = min(found.modes, key=lambda mode: mode.rank)
    assert slowest.name == "7W"
    assert found.modes[0].cpu_cap_hz == 1_497_600_000


def test_a_mode_the_configuration_lacks_is_a_fault_and_not_a_guess() -> None:
    found = modes.read(
        Sysfs(RecordedFiles({modes.STATUS: "pmode:0008", modes.CONF: boards.conf()}))
    )
    assert (found.active, found.missing) == (None, "mode 8 is not in /etc/nvpmodel.conf")


def test_budget_is_what_is_available_within_the_control_group_less_a_margin() -> None:
    meminfo = (
        "MemTotal:        7802640 kB\nMemFree:          201032 kB\nMemAvailable:    6000000 kB\n"
        "SwapTotal:       3901320 kB\nSwapFree:        3801320 kB\nNvMapMemUsed:     805068 kB\n"
    )
    state = memory.read(Sysfs(RecordedFiles({"/proc/meminfo": meminfo})))
    assert state.swap_used_bytes == 100_000 * 1024
    assert state.nvmap_used_bytes == 805_068 * 1024
    margin = int(0.08 * 7_802_640 * 1024)
    assert state.budget_bytes == 6_000_000 * 1024 - margin
    rows = {
        "/proc/meminfo": meminfo,
        "/sys/fs/cgroup/memory.max": str(2 * 2**30),
        "/sys/fs/cgroup/memory.current": str(2**29),
    }
    capped = memory.read(Sysfs(RecordedFiles(rows)))
    assert capped.budget_bytes == 3 * 2**29 - margin


def test_memory_without_a_kernel_file_is_unknown() -> None:
    state = memory.read(Sysfs(RecordedFiles({})))
    assert (state.budget_bytes, state.nvmap_used_bytes) == (None, None)


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", "torch-oom"),
        ("torch.AcceleratorError: CUDA error: out of memory", "cuda-oom"),
        (
            'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "CUDACachingAllocator.cpp":1131',
            "nvml-assert",
        ),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling", "library-alloc"),
        ("NvMapMemAllocInternalTagged: 1075072515 error 12", "nvmap-12"),
        ("MemoryError", "host-memory"),
        ("triton.runtime.errors.OutOfResources: out of resource: shared memory", None),
        ("Segmentation fault", None),
    ],
)
def test_every_way_a_tegra_says_out_of_memory(message: str, rule: str | None) -> None:
    assert memory.out_of_memory_rule(message) == rule


def test_live_files_read_below_another_root(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "vmstat").write_text("nr_free_pages 1\noom_kill 3\n")
    assert memory.oom_kills(Sysfs(LiveFiles(str(tmp_path)))) == 3


def test_a_file_that_vanishes_between_listing_and_reading_gives_a_reason() -> None:
    sysfs = Sysfs(RecordedFiles({"/sys/a": "!ENODEV", "/sys/b": "!EACCES"}))
    assert (sysfs.integer("/sys/a"), sysfs.why("/sys/a")) == (None, "ENODEV")
    assert (sysfs.text("/sys/b"), sysfs.why("/sys/b")) == (None, "EACCES")
    assert (sysfs.text("/sys/c"), sysfs.why("/sys/c")) == (None, "ENOENT")


def test_a_board_is_a_device_whose_every_reading_is_a_value_or_a_reason() -> None:
    device = detect(Sysfs(NANO))
    assert device is not None
    assert (device.name, device.kind) == ("Orin Nano 8GB devkit", "cuda")
    assert device.power_w() == pytest.approx(7.544, abs=1e-3)
    assert (device.power_source, device.power_scope) == ("ina3221:VDD_IN", "module")
    assert (device.sm_hz(), device.max_sm_hz()) == (306e6, 1020e6)
    assert device.temperature_c() == 48.562
    assert device.memory_hz() is None
    assert "root" in device.missing["memory_hz"]
    assert device.energy_j() is None
    assert "energy_j" in device.missing
    assert device.pinned() == "free"
    assert device.throttle() == ()


def test_a_machine_that_is_no_board_has_no_jetson_device() -> None:
    assert detect(Sysfs(RecordedFiles({}))) is None
