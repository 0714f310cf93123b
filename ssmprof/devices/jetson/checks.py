"""Checks of `ssmprof doctor` that only a Jetson needs: CHECKS, each with the command that mends it.

Every check reads files through the device's `Sysfs`, so that captured boards replay them. Nothing
here runs `sudo`, sets a clock or changes a mode: the command is printed, and a person decides.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from itertools import pairwise

from ssmprof.devices.jetson import checks_system
from ssmprof.devices.jetson.clocks import throttle_reasons
from ssmprof.devices.jetson.device import JetsonDevice
from ssmprof.devices.jetson.memory import REGRESSED_L4T, margin_bytes
from ssmprof.records import Check, Level
from ssmprof.units import format_bytes

WATCH_S = 3.0
_POLL_S = 0.1
# Software throttling of Orin begins at 99 degC (NVIDIA Jetson Linux guide, r36); warn before it.
_HOT_C = 85.0
# Labels match exactly: VDD_GPU_SOC and VDD_CPU_GPU_CV feed more than the GPU.
_GPU_ALONE = frozenset({"VDD_GPU", "GPU", "VDD_SYS_GPU", "POM_5V_GPU"})
_DESKTOPS = ("Xorg", "Xwayland", "gnome-shell", "gdm3", "lightdm", "xfce4-session")
_SHOWN_PROCESSES = 3

Found = Check | tuple[Check, ...] | None


def board(device: JetsonDevice) -> tuple[Check, ...]:
    """Which board this is, and what its sources disagree about."""
    found = device.found
    release = f"L4T {found.l4t}" if found.l4t else "L4T release not readable"
    jetpack = f", JetPack {found.jetpack}" if found.jetpack else ""
    text = f"{device.board}, {found.soc or 'unknown SoC'}, {release}{jetpack}"
    source = ", ".join(found.evidence) or "device tree"
    first = Check(name="board", level="ok", text=text, source=source)
    return (first, *(Check(name="board", level="warn", text=said) for said in found.warnings))


def driver(device: JetsonDevice) -> Check | None:
    """Releases in which allocations fail with error 12 while memory is free."""
    release = device.l4t
    if release is None:
        return None
    if release not in REGRESSED_L4T:
        return Check(name="driver", level="ok", text=f"L4T {release}: no known regression")
    mended = {"36": "36.5", "38": "38.4", "35": "35.6.4"}[release.split(".")[0]]
    return Check(
        name="driver",
        level="warn",
        text=f"L4T {release} can fail allocations with error 12 while memory is free",
        fix=f"upgrade to L4T {mended} (sudo apt update && sudo apt full-upgrade); until then: "
        "export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, or reboot",
        source="release notes of the fix for CVE-2025-33177 and CVE-2025-33182",
    )


def power_mode(device: JetsonDevice) -> Check:
    """Which power mode is active, and whether a faster one exists."""
    found = device.power_modes()
    if found.active is None:
        fix = "bind /etc/nvpmodel.conf and /var/lib/nvpmodel read-only into the container"
        text = f"not known: {found.missing}"
        return Check(name="power mode", level="warn", text=text, fix=fix)
    active, fastest = found.active, found.fastest
    caps = [f"{name} at most {hz / 1e6:.0f} MHz" for name, hz in _caps(device).items() if hz]
    text = ", ".join([f"{active.name} (id {active.id})", *caps])
    if fastest is None or fastest.rank <= active.rank:
        return Check(name="power mode", level="ok", text=text, source=found.source)
    return Check(
        name="power mode",
        level="warn",
        text=f"{text}; {fastest.name} is faster",
        fix=f"sudo nvpmodel -m {fastest.id}  (may ask for a reboot)",
        source=found.source,
    )


def _caps(device: JetsonDevice) -> dict[str, float | None]:
    return {"GPU": device.sm_cap_hz, "memory": device.memory_cap_hz}


def clocks(device: JetsonDevice) -> Check:
    """Times of unpinned clocks differ two- to threefold."""
    state, gpu = device.pinned(), device.clock_tree().gpu()
    governor = f", governor {gpu.governor}" if gpu.governor else ""
    now = f"GPU at {gpu.current_hz / 1e6:.0f} MHz" if gpu.current_hz else "GPU clock not readable"
    if state == "pinned":
        return Check(name="clocks", level="ok", text=f"{now}, pinned{governor}", source="devfreq")
    return Check(
        name="clocks",
        level="warn",
        text=f"{now}, {state or 'not known to be pinned'}{governor}",
        fix="sudo jetson_clocks  (after nvpmodel; undone by a reboot and by any change of mode)",
        source="devfreq",
    )


def power(device: JetsonDevice, watch_s: float = WATCH_S) -> tuple[Check, ...]:
    """Where power comes from, how fine and how often; over-current events in the same seconds."""
    tree = device.clock_tree()
    before, began = tree.throttle(), time.monotonic()
    readings: list[float] = []
    while not readings or time.monotonic() - began < watch_s:
        watts = device.power_w()
        if watts is None:
            break
        readings.append(watts)
        time.sleep(_POLL_S)
    spent = time.monotonic() - began
    reasons = throttle_reasons(before, tree.throttle(), spent)
    return _power(device, readings, spent), _events(before.events, reasons, spent)


def _power(device: JetsonDevice, readings: list[float], spent: float) -> Check:
    if not readings:
        return Check(
            name="power",
            level="warn",
            text=f"not readable: {device.missing.get('power_w', 'no source')}; no energy",
            fix="ls /sys/class/hwmon/*/name  (a container needs the host's /sys)",
        )
    changes = sum(a != b for a, b in pairwise(readings))
    step = device.power_resolution_w
    parts = [f"{readings[-1]:.2f} W of the {device.power_scope}"]
    parts += [f"in steps of {step:.2f} W"] if step else ["resolution not established"]
    moved = f"moves every {spent / changes:.1f} s" if changes else f"did not move in {spent:.0f} s"
    parts.append(moved)
    labels = {rail.label for rail in device.rails()}
    if labels and not labels & _GPU_ALONE:
        parts.append("no rail of the GPU alone")
    return Check(name="power", level="ok", text=", ".join(parts), source=device.power_source)


def _events(events: dict[str, int], reasons: tuple[str, ...], spent: float) -> Check:
    if not events:
        return Check(name="over-current", level="ok", text="no counters on this board")
    if not reasons:
        text = f"no events in {spent:.0f} s ({sum(events.values())} since boot)"
        return Check(name="over-current", level="ok", text=text, source="soctherm_oc")
    return Check(
        name="over-current",
        level="warn",
        text=f"in {spent:.0f} s: {', '.join(reasons)}",
        fix="a stronger power supply, or a lower power mode: sudo nvpmodel -m ID",
        source="soctherm_oc",
    )


def memory(device: JetsonDevice) -> Check:
    """What a workload may take of the memory that CPU and GPU share."""
    state = device.memory_state()
    if state.budget_bytes is None or state.total_bytes is None:
        return Check(name="memory", level="warn", text="/proc/meminfo is not readable")
    largest = _largest(device)
    text = (
        f"{format_bytes(state.budget_bytes)} of {format_bytes(state.total_bytes)} for a workload, "
        f"margin {format_bytes(margin_bytes(state.total_bytes))}"
    )
    if state.cgroup_room_bytes is not None:
        text += f", the control group leaves {format_bytes(state.cgroup_room_bytes)}"
    if largest:
        text += "; largest: " + ", ".join(f"{n} {format_bytes(b)}" for n, b in largest)
    desktop = any(name in _DESKTOPS for name, _ in _processes(device))
    if not desktop:
        return Check(name="memory", level="ok", text=text, source="meminfo")
    return Check(
        name="memory",
        level="warn",
        text=f"{text}; a desktop is running",
        fix="sudo systemctl isolate multi-user.target, and sudo jetson_clocks after it",
        source="meminfo",
    )


def _processes(device: JetsonDevice) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for path in device.sysfs.glob("/proc/[0-9]*/status"):
        text = device.sysfs.text(path) or ""
        name = re.search(r"^Name:\s+(\S+)", text, re.MULTILINE)
        kib = re.search(r"^VmRSS:\s+(\d+) kB", text, re.MULTILINE)
        if name and kib:
            found.append((name[1], int(kib[1]) * 1024))
    return found


def _largest(device: JetsonDevice) -> list[tuple[str, int]]:
    return sorted(_processes(device), key=lambda one: -one[1])[:_SHOWN_PROCESSES]


def thermal(device: JetsonDevice) -> Check:
    """How hot the board is before any work, and what cools it."""
    celsius, duty = device.temperature_c(), device.clock_tree().fan()
    fan = "no fan" if duty is None else f"fan at {duty:.0%}"
    if celsius is None:
        text = f"temperature not readable: {device.missing.get('temperature_c')}; {fan}"
        return Check(name="temperature", level="warn", text=text)
    level: Level = "warn" if celsius > _HOT_C else "ok"
    fix = (
        "let it cool down, or: sudo nvfancontrol -q shows its profile" if level == "warn" else None
    )
    text = f"tj {celsius:.1f} °C before any work, {fan}"
    return Check(
        name="temperature", level=level, text=text, fix=fix, value=celsius, unit="°C",
        source=device.sources.get("temperature_c"),
    )  # fmt: skip


CHECKS: dict[str, Callable[[JetsonDevice], Found]] = {
    "board": board,
    "driver": driver,
    "power mode": power_mode,
    "clocks": clocks,
    "power": power,
    "memory": memory,
    "swap": checks_system.swap,
    "temperature": thermal,
    "ptrace": checks_system.ptrace,
    "profiling": checks_system.profiling,
    "jtop": checks_system.service,
    "container": checks_system.container,
    "ptxas": checks_system.ptxas,
}
