"""What doctor says about a board: each finding with its command, and nothing that runs it."""

from __future__ import annotations

import re
from typing import Any

import boards
import pytest

from ssmprof.devices.jetson import checks, checks_system, install
from ssmprof.devices.jetson.device import JetsonDevice, detect
from ssmprof.records import Check

QUIET = {"/proc/sys/kernel/yama/ptrace_scope": "1"}


def device(**more: str) -> JetsonDevice:
    found = detect(boards.sysfs(boards.nano(**more)))
    assert found is not None
    return found


def only(found: checks.Found) -> Check:
    assert isinstance(found, Check)
    return found


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_POLL_S", 0.0)
    monkeypatch.setattr(checks.power, "__defaults__", (0.0,))


@pytest.mark.parametrize("tree", ["nano", "nx", "agx", "thor"])
@pytest.mark.parametrize("name", checks.CHECKS)
def test_every_check_says_something_of_every_board_and_mends_by_a_command(
    name: str, tree: str
) -> None:
    trees = {
        "nano": boards.nano(), "nx": boards.orin_nx(), "agx": boards.agx_orin(),
        "thor": boards.rows(boards.THOR_FILE),
    }  # fmt: skip
    one = detect(boards.sysfs(trees[tree]))
    assert one is not None
    found = checks.CHECKS[name](one)
    for check in (found,) if isinstance(found, Check) else found or ():
        assert check.text
        assert "None" not in check.text


@pytest.mark.parametrize("revision", ["4.7", "4.4"])
def test_releases_with_the_allocation_fault_are_told_apart(revision: str) -> None:
    check = only(
        checks.driver(device(**{"/etc/nv_tegra_release": boards.RELEASE.format(revision)}))
    )
    assert check.level == ("warn" if revision == "4.7" else "ok")
    if revision == "4.7":
        assert "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True" in (check.fix or "")
        assert "36.5" in (check.fix or "")


def test_every_release_with_the_fault_has_one_without_it_to_go_to() -> None:
    for release in sorted(checks.REGRESSED_L4T):
        major, revision = release.split(".", 1)
        text = f"# R{major} (release), REVISION: {revision}"
        check = only(checks.driver(device(**{"/etc/nv_tegra_release": text})))
        assert f"upgrade to L4T {major}." in (check.fix or "")


def test_a_slower_mode_names_the_faster_one_and_its_command() -> None:
    check = only(checks.power_mode(device(**{"/var/lib/nvpmodel/status": "pmode:0000"})))
    assert (check.level, check.fix) == ("warn", "sudo nvpmodel -m 2  (may ask for a reboot)")
    assert "15W" in check.text
    assert "MAXN_SUPER is faster" in check.text
    assert only(checks.power_mode(device())).level == "ok"


def test_clocks_that_move_get_the_command_that_pins_them() -> None:
    check = only(checks.clocks(device()))
    assert check.level == "warn"
    assert (check.fix or "").startswith("sudo jetson_clocks")
    assert "nvhost_podgov" in check.text
    pinned = detect(boards.sysfs(boards.orin_nx()))
    assert pinned is not None
    assert only(checks.clocks(pinned)).level == "ok"


def test_power_says_scope_resolution_and_that_the_gpu_has_no_rail() -> None:
    power, events = checks.power(device())
    assert "7.54 W of the module" in power.text
    assert "steps of 0.04 W" in power.text
    assert "no rail of the GPU alone" in power.text
    assert (power.source, events.level) == ("ina3221:VDD_IN", "ok")
    agx = detect(boards.sysfs(boards.agx_orin()))
    assert agx is not None
    assert "no rail of the GPU" in checks.power(agx)[0].text  # VDD_GPU_SOC carries the SoC as well


def test_a_board_without_monitors_has_no_power_and_says_where_to_look() -> None:
    tree = {"/proc/device-tree/compatible": "nvidia,p3767-0005\\0nvidia,tegra234\\0"}
    one = detect(boards.sysfs(tree))
    assert one is not None
    power, _ = checks.power(one)
    assert power.level == "warn"
    assert "no energy" in power.text


def test_a_desktop_and_the_largest_processes_are_named() -> None:
    status = "Name:\t{}\nVmRSS:\t{} kB\n"
    busy = {
        "/proc/7/status": status.format("gnome-shell", 400_000),
        "/proc/8/status": status.format("python3", 900_000),
    }
    check = only(checks.memory(device(**busy)))
    assert check.level == "warn"
    assert "python3 879" in check.text
    assert "systemctl isolate" in (check.fix or "")
    assert only(checks.memory(device())).level == "ok"


@pytest.mark.parametrize(("area", "level"), [("/dev/zram0", "warn"), ("/mnt/16GB.swap", "ok")])
def test_swap_in_memory_is_a_warning_and_swap_on_disk_is_not(area: str, level: str) -> None:
    table = f"Filename Type Size Used Priority\n{area} partition 3901320 0 5\n"
    check = only(checks_system.swap(device(**{"/proc/swaps": table})))
    assert (check.level, area in check.text) == (level, True)
    assert (check.fix is None) == (level == "ok")


def test_a_hot_board_and_a_dark_sensor() -> None:
    zone = "/sys/class/thermal/thermal_zone8/temp"
    assert only(checks.thermal(device(**{zone: "91000"}))).level == "warn"
    assert "EAGAIN" in only(checks.thermal(device(**{zone: "!EAGAIN"}))).text
    assert only(checks.thermal(device())).value == 48.562


def test_tracing_needs_a_kernel_setting_and_in_a_container_a_capability() -> None:
    path = "/proc/sys/kernel/yama/ptrace_scope"
    strict = only(checks_system.ptrace(device(**{path: "3"})))
    assert strict.fix == "sudo sysctl kernel.yama.ptrace_scope=1"
    inside = {"/.dockerenv": "x", "/proc/1/cgroup": "0::/"}
    bound = "CapBnd:\t{:016x}\n"
    without = only(
        checks_system.ptrace(device(**inside, **{path: "1", "/proc/self/status": bound.format(0)}))
    )
    assert "--cap-add SYS_PTRACE" in (without.fix or "")
    held = {**inside, path: "1", "/proc/self/status": bound.format(1 << 19)}
    assert only(checks_system.ptrace(device(**held))).level == "ok"


def test_a_container_that_hides_the_mode_names_the_mounts() -> None:
    assert checks_system.container(device()) is None
    tree = boards.nano(**{"/.dockerenv": "x", "/proc/1/cgroup": "0::/"})
    del tree["/etc/nvpmodel.conf"]
    one = detect(boards.sysfs(tree))
    assert one is not None
    check = only(checks_system.container(one))
    assert "-v /etc/nvpmodel.conf:/etc/nvpmodel.conf:ro" in (check.fix or "")
    assert "/usr/bin/tegrastats" in check.text
    assert "nv_tegra_release" not in check.text


@pytest.mark.parametrize(
    ("version", "level", "variable"),
    [
        ("3.5.0", "warn", "TRITON_PTXAS_PATH="),
        ("3.6.0", "warn", "TRITON_PTXAS_BLACKWELL_PATH="),
        ("3.7.0", "ok", ""),
        ("3.10.1", "ok", ""),
    ],
)
def test_thor_is_told_which_assembler_its_triton_needs(
    monkeypatch: pytest.MonkeyPatch, version: str, level: str, variable: str
) -> None:
    monkeypatch.setattr(checks_system.metadata, "version", lambda name: version)
    thor = boards.rows(boards.THOR_FILE) | {
        "/proc/device-tree/compatible": "nvidia,p3834-0008\\0nvidia,tegra264\\0"
    }
    one = detect(boards.sysfs(thor))
    assert one is not None
    check = only(checks_system.ptxas(one))
    assert check.level == level
    assert variable in (check.fix or "")
    assert checks_system.ptxas(device()) is None


TORCH: dict[str, Any] = {
    "torch": "2.8.0", "cuda": "12.6", "available": True, "architecture": "sm_87",
    "architectures": ["sm_87"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "level", "said"),
    [
        ({}, "ok", "2.8.0"),
        ({"cuda": "13.0", "available": False}, "error", "CUDA 12"),
        ({"available": False}, "error", "sees no GPU"),
        ({"cuda": None}, "error", "CUDA 12"),
        ({"architectures": ["sm_80", "sm_90"]}, "warn", "sm_80, sm_90"),
        ({"numpy": "Numpy is not available"}, "error", "Numpy"),
    ],
)
def test_a_torch_that_does_not_fit_gets_the_line_that_does(
    changes: dict[str, Any], level: str, said: str
) -> None:
    check = install.torch_fits("36.4.3", lambda: {**TORCH, **changes})
    assert check.level == level
    assert said in check.text
    if level != "ok" and "numpy" not in changes:
        assert install.JETPACK6_INDEX in (check.fix or "")


def test_a_torch_that_does_not_import_is_an_error_with_the_line() -> None:
    check = install.torch_fits("38.4.0", lambda: None)
    assert (check.level, check.fix) == ("error", "pip install torch triton")
    assert "newer JetPack" in install.torch_line("35.4.1")


def test_the_question_put_to_torch_is_answered_by_this_torch() -> None:
    found = install.ask_torch()
    assert found is not None
    assert re.match(r"\d+\.\d+", found["torch"])
    assert found["available"] is False


RELEASE_13 = (
    "ptxas: NVIDIA (R) Ptx optimizing assembler\nCuda compilation tools, release 13.0, V13.0.48"
)


@pytest.mark.parametrize(
    ("soc", "triton", "environ", "said", "expected"),
    [
        ("tegra264", "3.6.0", {}, RELEASE_13, "TRITON_PTXAS_BLACKWELL_PATH"),
        ("tegra264", "3.5.1", {}, RELEASE_13, "TRITON_PTXAS_PATH"),
        ("tegra264", "3.7.0", {}, RELEASE_13, None),
        ("tegra264", "3.6.0", {}, RELEASE_13.replace("13.0", "12.9"), None),
        ("tegra264", "3.6.0", {}, None, None),
        ("tegra264", "3.6.0", {"TRITON_PTXAS_BLACKWELL_PATH": "/mine"}, RELEASE_13, None),
        ("tegra264", None, {}, RELEASE_13, None),
        ("tegra234", "3.6.0", {}, RELEASE_13, None),
    ],
)
def test_the_boards_own_assembler_is_used_only_where_it_is_needed_and_new_enough(
    soc: str, triton: str | None, environ: dict[str, str], said: str | None, expected: str | None
) -> None:
    found = install.ptxas_for(soc, triton, environ, lambda command: said)
    assert found == ({} if expected is None else {expected: "/usr/local/cuda/bin/ptxas"})


def test_profiling_nodes_that_refuse_name_the_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"/dev/nvgpu/igpu0/prof-ctx": "x"}
    assert checks_system.profiling(device()) is None
    monkeypatch.setattr(checks_system.os, "access", lambda path, mode: False)
    check = only(checks_system.profiling(device(**node)))
    assert (check.level, "video,render" in (check.fix or "")) == ("warn", True)
    monkeypatch.setattr(checks_system.os, "access", lambda path, mode: True)
    assert only(checks_system.profiling(device(**node))).level == "ok"
