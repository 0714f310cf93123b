"""Boards as recorded and as their device trees say: documented totals, releases, modes, memory."""

from __future__ import annotations

import os
import re
import sys

import boards
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmprof.chips import chips
from ssmprof.devices.base import read_clocks, read_telemetry
from ssmprof.devices.jetson import board, clocks, memory, modes, power
from ssmprof.devices.jetson.device import JetsonDevice, detect
from ssmprof.devices.sysfs import Sysfs

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TREES = {
    "orin-nano": boards.nano(),
    "orin-nx": boards.orin_nx(),
    "agx-orin": boards.agx_orin(),
    "thor": boards.rows(boards.THOR_FILE),
}
# Watts, scope and resolution worked out by hand from millivolt, milliampere and shunt.
TOTALS = {
    "orin-nano": (5.016 * 1.504, "module", 0.008 * 5.016),
    "orin-nx": (10.0, "module", 0.04),
    "agx-orin": (2.34 + 0.39 + 4.0256, "module", 0.02 * (19.5 + 19.5 + 5.032)),
    "thor": (26.686, "system", None),
}


def opened(tree: dict[str, str]) -> JetsonDevice:
    found = detect(boards.sysfs(tree))
    assert found is not None
    return found


@pytest.mark.parametrize("name", TREES)
def test_every_board_gives_its_documented_total_with_scope_and_resolution(name: str) -> None:
    watts, scope, step = TOTALS[name]
    one = opened(TREES[name])
    assert one.power_w() == pytest.approx(watts, abs=1e-3)
    assert one.power_scope == scope
    assert one.power_resolution_w == (None if step is None else pytest.approx(step))
    total = power.PowerMonitors(one.sysfs).total()
    assert total.power_w == pytest.approx(one.power_w())


def test_orin_nx_is_named_pinned_and_capped_below_what_the_chip_can() -> None:
    one = opened(boards.orin_nx())
    assert (one.board, one.chip) == ("Orin NX 16GB (p3767-0000)", "orin-nx-16gb")
    assert (one.l4t, one.found.jetpack) == ("36.4.4", "6.2.1")
    assert one.pinned() == "pinned"
    tree = boards.orin_nx() | {"/sys/class/devfreq/17000000.gpu/min_freq": "306000000"}
    assert opened(tree).pinned() == "capped"
    assert (one.sm_cap_hz, one.max_sm_hz()) == (612e6, 612e6)


@pytest.mark.parametrize("name", TREES)
def test_any_row_that_refuses_gives_a_reason_and_never_a_zero(name: str) -> None:
    tree = TREES[name]
    whole = _values(opened(tree))
    for path in tree:
        for refusal in ("!EAGAIN", "!EACCES", "!ENODEV"):
            one = detect(boards.sysfs(tree | {path: refusal}))
            if one is None:
                assert "device-tree" in path
                continue
            for reading, value in _values(one).items():
                assert value is None or value == whole[reading] or value != 0, (path, reading)
                assert value is not None or reading in one.missing, (path, reading)


def _values(one: JetsonDevice) -> dict[str, float | None]:
    read_clocks(one)
    read_telemetry(one)
    names = ("sm_hz", "max_sm_hz", "memory_hz", "temperature_c", "power_w", "used_bytes", "load")
    return {name: getattr(one, name)() for name in names}


@settings(max_examples=60)
@given(st.data())
def test_rubbish_in_a_file_never_raises(data: st.DataObject) -> None:
    tree = dict(TREES[data.draw(st.sampled_from(sorted(TREES)))])
    path = data.draw(st.sampled_from(sorted(tree)))
    tree[path] = data.draw(st.text(st.characters(exclude_categories=("Cs",)), max_size=20))
    one = detect(boards.sysfs(tree))
    if one is not None:
        _values(one)
        one.rails()
        one.power_modes()
        one.memory_state()


RELEASES = boards.sample("nv_tegra_release_samples.txt").split("\n", 3)[3].split("\n--\n")


def test_the_release_file_is_read_from_r32_to_r39() -> None:
    found = []
    for text in RELEASES:
        tree = {**boards.agx_orin(), "/etc/nv_tegra_release": text}
        found.append(opened(tree).l4t)
    assert found == ["36.4.7", "36.4.4", "38.4.0", "39.2.0", "35.3.1", "35.2.1", "34.1.1", "32.7.1"]
    labels = board.tables()["jetpack"]
    assert [labels.get(release) for release in found[:4]] == ["6.2.1", "6.2.1", "7.1", "7.2"]


def test_the_boot_control_file_names_the_module_it_was_written_for() -> None:
    tree = {
        "/proc/device-tree/compatible": "nvidia,tegra234\\0",
        "/etc/nv_boot_control.conf": boards.sample("nv_boot_control_orin.conf"),
    }
    one = opened(tree)
    assert one.found.p_number == "p3767-0003"
    assert one.found.evidence["TNSPEC"] == "p3767-0003"


def test_without_a_release_file_the_package_manager_is_asked() -> None:
    asked: list[list[str]] = []

    def run(command: list[str]) -> str | None:
        asked.append(command)
        return "nvidia-l4t-core\t36.4.7-20250918154033\n" if command[0] == "dpkg-query" else None

    found = board.identify(boards.sysfs(boards.agx_orin()), run)
    assert found is not None
    assert found.l4t == "36.4.7"
    assert asked == [["dpkg-query", "--show", "nvidia-l4t-core"]]


def test_a_module_with_another_memory_than_its_number_says_is_a_warning() -> None:
    tree = boards.nano(**{"/proc/meminfo": "MemTotal:  16000000 kB\nMemAvailable: 1 kB\n"})
    assert any("8 GB" in said for said in opened(tree).found.warnings)
    assert not opened(boards.nano()).found.warnings


def test_power_modes_of_the_recorded_configuration() -> None:
    found = opened(boards.nano()).power_modes()
    assert found.active is not None
    assert (found.active.id, found.active.name, found.default_id) == (2, "MAXN_SUPER", 1)
    assert [mode.name for mode in sorted(found.modes, key=lambda mode: mode.rank)] == [
        "7W", "15W", "25W", "MAXN_SUPER",
    ]  # fmt: skip


def test_the_mode_is_asked_of_nvpmodel_where_the_status_file_is_not_there() -> None:
    said = boards.sample("nvpmodel_orin_nano_super.txt")
    answer = said.split("## cmd: nvpmodel -q\n", 1)[1].split("##", 1)[0]
    tree = boards.nano()
    tree.pop(modes.STATUS)
    found = modes.read(boards.sysfs(tree), lambda command: answer)
    assert found.active is not None
    assert (found.active.name, found.source) == ("MAXN_SUPER", "nvpmodel -q")
    assert modes.read(boards.sysfs(tree), lambda command: None).active is None


def test_power_mode_data_agrees_with_the_recorded_configurations() -> None:
    table = tomllib.loads((boards.ROOT / "power_modes.toml").read_text())
    assert set(table) <= set(chips())
    for key, entry in table.items():
        assert entry["source"]
        assert sum(mode.get("default", False) for mode in entry["modes"]) == 1, key
    parsed, default = modes.parse_conf(boards.conf())
    listed = table["orin-nano-8gb-super"]["modes"]
    for mode, row in zip(parsed, listed, strict=True):
        assert (mode.id, mode.name) == (row["id"], row["name"])
        for cap in ("gpu_cap_hz", "emc_cap_hz"):
            assert getattr(mode, cap) == (float("inf") if row[cap] < 0 else row[cap])
        assert (mode.id == default) == row.get("default", False)
    names = boards.sample("nvpmodel_names_agx_orin_thor.txt")
    keys = {"AGX_ORIN_64GB": "agx-orin-64gb", "THOR_T5000_R38": "thor-t5000"}
    for name, number, mode_name, default_word in re.findall(
        r"^([A-Z]\w+) (\d) (\S+)( default)?$", names, re.MULTILINE
    ):
        row = next(m for m in table[keys[name]]["modes"] if m["id"] == int(number))
        assert (row["name"], row.get("default", False)) == (mode_name, bool(default_word))


def test_shunts_of_the_device_trees_are_those_of_the_table() -> None:
    text = boards.sample("ina3221_device_tree_tegra234.txt")
    shunts = dict(re.findall(r"input@\d (\w+)\s+shunt (\d+) uOhm", text))
    ours = board.tables()["shunts"]
    for label, ohm in ours.items():
        assert ohm == int(shunts[label]) / 1e6
    assert set(shunts) - set(ours) == {"CVB_ATX_12V", "CVB_ATX_3V3", "CVB_ATX_5V"}  # of the carrier


def test_caps_of_the_recorded_clocks_are_the_peaks_of_the_table() -> None:
    text = boards.sample("jetson_clocks_show_orin_nano_super.txt")
    gpu = re.search(r"^GPU .*MaxFreq=(\d+)", text, re.MULTILINE)
    emc = re.search(r"^EMC .*MaxFreq=(\d+)", text, re.MULTILINE)
    tpcs = re.search(r"Active GPU TPCs: (\d+)", text)
    assert gpu
    assert emc
    assert tpcs
    chip = chips()["orin-nano-8gb-super"]
    assert chip.memory_clock_hz is not None
    assert (chip.boost_clock_hz.value, chip.memory_clock_hz.value) == (int(gpu[1]), int(emc[1]))
    assert chip.sm_count.value == 2 * int(tpcs[1])


def test_device_memory_lines_of_the_kernel_are_read_where_they_are_there() -> None:
    lines = boards.sample("meminfo_nvmap_lines.txt")
    recorded = "\n".join(line for line in lines.splitlines() if not line.startswith("#"))
    state = memory.read(boards.sysfs({"/proc/meminfo": boards.MEMINFO + recorded + "\n"}))
    assert state.nvmap_used_bytes == 805_068 * 1024
    assert memory.read(boards.sysfs({"/proc/meminfo": boards.MEMINFO})).nvmap_used_bytes is None


def test_memory_of_this_process_is_what_the_kernels_count_grew() -> None:
    def with_mapped(kib: int) -> Sysfs:
        lines = f"{boards.MEMINFO}NvMapMemUsed:     {kib} kB\n"
        return boards.sysfs(boards.nano(**{"/proc/meminfo": lines}))

    one = detect(with_mapped(805_068))
    assert one is not None
    assert one.process_bytes(os.getpid()) == 0
    one.sysfs = with_mapped(905_068)
    assert one.process_bytes(os.getpid()) == 100_000 * 1024
    assert one.sources["process_bytes"] == "meminfo:NvMapMemUsed"
    assert one.process_bytes(1) is None
    one.sysfs = with_mapped(705_068)
    assert (one.process_bytes(os.getpid()), one.missing["process_bytes"]) == (None, "it shrank")


def test_real_throttling_is_named_and_a_cap_is_not() -> None:
    cooling = "/sys/class/thermal/cooling_device"
    tree = boards.nano(
        **{
            f"{cooling}0/type": "gpu-throttle-alert",
            f"{cooling}0/cur_state": "1",
            f"{cooling}1/type": "devfreq-gpu-gpc-0",
            f"{cooling}1/cur_state": "3",
        }
    )
    assert clocks.ClockTree(boards.sysfs(tree)).throttle().active == ("gpu-throttle-alert",)
