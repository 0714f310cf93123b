"""Checks that need no torch: the device's state, other users of the machine, permissions."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import get_clock_info, perf_counter

from ssmprof.devices.base import Device
from ssmprof.errors import NoDeviceError
from ssmprof.measure.passes import py_spy
from ssmprof.records import Check, Level, median

_PTRACE_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")
_GOVERNORS = Path("/sys/devices/system/cpu")
_BUSY_LOAD = 0.5  # runnable processes per core, ourselves not among them yet
_HOT_C = 80.0
_SLOW_PERIOD_S = 1.0
_READS = 20
_RAMP_SHARE = 0.25  # of the load, until power and clock have settled
_STEADY = 0.01  # clocks come in steps of up to this


def device_named(device: Device) -> Check:
    """What is measured, and what it cannot tell."""
    text = f"{device.name} ({device.kind})"
    memory = device.memory_bytes()
    if memory:
        text += f", {memory / 2**30:.1f} GiB"
    return Check(name="device", level="ok", text=text)


def clocks(device: Device) -> Check:
    """Pinned clocks are best; what is not known of them is said, and not guessed."""
    pinned, reasons = device.pinned(), device.throttle()
    now, most = device.sm_hz(), device.max_sm_hz()
    text = f"{now / 1e6:.0f} MHz before any work" if now else "clock not readable"
    if most:
        text += f", at most {most / 1e6:.0f} MHz"
    if reasons:
        return Check(name="clocks", level="error", text=f"{text}; held down: {', '.join(reasons)}")
    if pinned == "pinned":
        return Check(name="clocks", level="ok", text=f"{text}, pinned")
    known = "capped by a setting" if pinned == "capped" else "not locked"
    unknown = device.missing.get("pinned", "not known whether they are locked")
    state = known if pinned else unknown
    fix = _governor_fix() if device.kind == "cpu" else None
    return Check(name="clocks", level="warn", text=f"{text}; {state}", fix=fix)


def clocks_at_work(
    device: Device, begin: Callable[[], object], finish: Callable[[], object], seconds: float = 1.0
) -> Check | None:
    """What the clock does under the heaviest load, and the command that locks it where it can hold.

    `begin` gives the device work and returns, `finish` waits for it; the clock is read in between.
    None where it cannot be read.
    """
    began, readings = perf_counter(), list[float]()
    reasons: dict[str, None] = {}
    while (spent := perf_counter() - began) < seconds or not readings:
        begin()
        hertz, held = device.sm_hz(), device.throttle()
        finish()
        if hertz is None:
            return None
        if spent >= _RAMP_SHARE * seconds or spent >= seconds:
            readings.append(hertz)
            reasons |= dict.fromkeys(held)
    low, high, most = min(readings), max(readings), device.max_sm_hz()
    text = f"{low / 1e6:.0f} MHz" if low == high else f"{low / 1e6:.0f} to {high / 1e6:.0f} MHz"
    text += f" during {seconds:.0f} s of bf16 matmul"
    if reasons:
        text += f" ({', '.join(reasons)})"
    steady = high - low <= _STEADY * high and not reasons
    if steady and most and high < (1 - _STEADY) * most:
        text += f", steady below the highest of {most / 1e6:.0f}: as a lock would hold it"
    elif steady:
        text += ", steady; whether by a lock cannot be told"
    else:
        text += ": it moves with the load"
    lock = f"sudo nvidia-smi --lock-gpu-clocks={low / 1e6:.0f}"
    return Check(
        name="clocks at work",
        level="ok" if steady else "warn",
        text=text,
        fix=None if steady else f"{lock}  (undo: sudo nvidia-smi --reset-gpu-clocks)",
        value=low,
        unit="Hz",
    )


def governor() -> Check | None:
    """On a CPU the clock follows a governor; anything but performance moves it during a run."""
    kinds = {
        path.read_text().strip() for path in _GOVERNORS.glob("cpu[0-9]*/cpufreq/scaling_governor")
    }
    if not kinds:
        return None
    if kinds == {"performance"}:
        return Check(name="governor", level="ok", text="performance on every core")
    return Check(
        name="governor", level="warn", text=f"{', '.join(sorted(kinds))}", fix=_governor_fix()
    )


def _governor_fix() -> str | None:
    if not any(_GOVERNORS.glob("cpu0/cpufreq/scaling_governor")):
        return None
    return "sudo cpupower frequency-set --governor performance"


def temperature(device: Device) -> Check | None:
    """A hot device is about to slow down."""
    celsius = device.temperature_c()
    if celsius is None:
        return None
    level: Level = "warn" if celsius > _HOT_C else "ok"
    fix = "let it cool down, or improve the cooling" if level == "warn" else None
    text = f"{celsius:.0f} °C before any work"
    return Check(name="temperature", level=level, text=text, fix=fix, value=celsius, unit="°C")


def others(device: Device) -> Check:
    """Nobody else may use the device while it is timed."""
    if device.kind == "cpu":
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        level: Level = "warn" if load > _BUSY_LOAD * cores else "ok"
        text = f"load {load:.1f} on {cores} cores"
        fix = "end the other processes (top shows them)" if level == "warn" else None
        return Check(name="others", level=level, text=text, fix=fix, value=load)
    processes = device.processes()
    if processes is None:
        why = device.missing.get("processes", "not told")
        return Check(name="others", level="warn", text=f"other processes cannot be seen: {why}")
    # A container sees other process ids than the driver prints; one process may be this one.
    foreign = [pid for pid in processes if pid != os.getpid()]
    if len(foreign) > 1 or (foreign and os.getpid() in processes):
        text = f"{len(foreign)} other processes hold the device: {foreign[:5]}"
        return Check(name="others", level="error", text=text, fix="nvidia-smi shows them; end them")
    return Check(name="others", level="ok", text="no other process on the device")


def telemetry(device: Device) -> tuple[Check, ...]:
    """What each reading costs; a reading that is missing says why."""
    readings: dict[str, tuple[str, Callable[[], object]]] = {
        "energy counter": ("energy_j", device.energy_j),
        "power": ("power_w", device.power_w),
        "memory": ("used_bytes", device.used_bytes),
        "clock": ("sm_hz", device.sm_hz),
    }
    costs: list[str] = []
    absent: list[str] = []
    for name, (key, read) in readings.items():
        if read() is None:
            if name == "energy counter" and device.least_power_updates:
                continue  # integrated power takes its place on this device
            absent.append(f"{name} ({device.missing.get(key, 'not told')})")
            continue
        spent: list[float] = []
        for _ in range(_READS):
            began = perf_counter()
            read()
            spent.append(perf_counter() - began)
        costs.append(f"{name} {median(spent) * 1e6:.0f} µs")
    found = [Check(name="telemetry", level="ok", text=", ".join(costs) or "nothing readable")]
    if absent:
        text = f"missing: {', '.join(absent)}"
        found.append(Check(name="telemetry", level="warn", text=text))
    return tuple(found)


def energy_period(device: Device, period_s: float | None) -> Check | None:
    """How long an energy window must be, from how often the counter moves."""
    if device.energy_j() is None:
        return None
    if period_s is None:
        return Check(
            name="energy",
            level="warn",
            text="the energy counter hardly moves; windows cannot be shortened",
        )
    return Check(
        name="energy",
        level="warn" if period_s > _SLOW_PERIOD_S else "ok",
        text=f"counter moves every {period_s * 1e3:.0f} ms: a 5 s window is good to "
        f"{period_s / 5.0:.1%}",
        value=period_s,
        unit="s",
    )


def host_profiler() -> Check:
    """Whether py-spy may look into a process it did not start."""
    if py_spy.find() is None:
        return Check(
            name="host profile",
            level="warn",
            text="py-spy is not installed",
            fix="pip install py-spy",
        )
    try:
        scope = int(_PTRACE_SCOPE.read_text())
    except (OSError, ValueError):
        scope = 0
    if scope >= 2 and os.geteuid() != 0:
        return Check(
            name="host profile",
            level="warn",
            text=f"ptrace_scope is {scope}: stacks of the worker cannot be read",
            fix="sudo sysctl kernel.yama.ptrace_scope=1",
        )
    return Check(name="host profile", level="ok", text="py-spy may trace a worker")


def host_clock() -> Check:
    """Resolution and cost of the host's clock, the timer of eager calls."""
    began = perf_counter()
    for _ in range(1000):
        perf_counter()
    cost_s = (perf_counter() - began) / 1000
    resolution = get_clock_info("perf_counter").resolution
    return Check(
        name="host clock",
        level="warn" if cost_s > 1e-6 else "ok",
        text=f"{cost_s * 1e9:.0f} ns per reading, resolution {resolution * 1e9:.0f} ns",
        value=cost_s,
        unit="s",
    )


def torch_build(machine: str | None = None) -> Check:
    """Which torch a machine needs where the package index has none for it."""
    import platform
    from importlib import metadata

    machine = machine or platform.machine()
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        index = "https://pypi.jetson-ai-lab.io/jp6/cu126"
        fix = f"pip install torch triton --index-url {index}" if machine == "aarch64" else None
        fix = fix or 'pip install "ssmprof[torch]"'
        return Check(name="torch", level="error", text="not installed", fix=fix)
    return Check(name="torch", level="ok", text=f"{version}, Python {sys.version.split()[0]}")


def need_torch() -> None:
    """Raises NoDeviceError, in one line, where nothing can be measured for want of torch."""
    found = torch_build()
    if found.level == "error":
        raise NoDeviceError(f"measuring needs torch, which is {found.text}: {found.fix}")
