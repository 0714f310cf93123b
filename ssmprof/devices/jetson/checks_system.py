"""Checks of a Jetson's software: swap, permissions, the jtop service, containers, Triton's ptxas.

Files are read through the device's `Sysfs`, so that captured boards replay them.
"""

from __future__ import annotations

import os
import re
import shutil
from importlib import metadata

from ssmprof.devices.jetson import jtop
from ssmprof.devices.jetson.device import JetsonDevice
from ssmprof.devices.jetson.install import ptxas_variable, torch_line, triton_release
from ssmprof.records import Check
from ssmprof.units import format_bytes

_MOUNTS = ("/etc/nv_tegra_release", "/etc/nvpmodel.conf", "/var/lib/nvpmodel/status")
_PTRACE = "/proc/sys/kernel/yama/ptrace_scope"
_CAP_SYS_PTRACE = 19
_PROFILING = ("/dev/nvgpu/igpu0/prof*", "/dev/nvhost-prof-gpu")


def swap(device: JetsonDevice) -> Check:
    """Memory of the GPU cannot be swapped; swapping during a timing voids it."""
    rows = [line.split() for line in (device.sysfs.text("/proc/swaps") or "").splitlines()[1:]]
    areas = [(row[0], int(row[2]) * 1024) for row in rows if len(row) >= 3 and row[2].isdigit()]
    if not areas:
        return Check(name="swap", level="ok", text="none")
    text = ", ".join(f"{name} {format_bytes(size)}" for name, size in areas)
    if not any("zram" in name for name, _ in areas):
        return Check(name="swap", level="ok", text=text, source="/proc/swaps")
    return Check(
        name="swap",
        level="warn",
        text=f"{text}: zram takes from the memory it should relieve",
        fix="sudo systemctl disable --now nvzramconfig; sudo fallocate -l 16G /mnt/16GB.swap; "
        "sudo chmod 600 /mnt/16GB.swap; sudo mkswap /mnt/16GB.swap; sudo swapon /mnt/16GB.swap",
        source="/proc/swaps",
    )


def ptrace(device: JetsonDevice) -> Check:
    """Whether py-spy may look into the worker it did not start."""
    scope = device.sysfs.integer(_PTRACE)
    if scope is not None and scope >= 2:
        return Check(
            name="ptrace",
            level="warn",
            text=f"ptrace_scope is {scope}: the host profile is off",
            fix="sudo sysctl kernel.yama.ptrace_scope=1",
        )
    status = device.sysfs.text("/proc/self/status") or ""
    held = re.search(r"^CapBnd:\s+([0-9a-f]+)$", status, re.MULTILINE)
    if _contained(device) and held and not int(held[1], 16) >> _CAP_SYS_PTRACE & 1:
        return Check(
            name="ptrace",
            level="warn",
            text="this container may not trace: the host profile is off",
            fix="start it with --cap-add SYS_PTRACE (jetson/run-container.sh does)",
        )
    return Check(name="ptrace", level="ok", text="py-spy may trace a worker")


def profiling(device: JetsonDevice) -> Check | None:
    """CUPTI needs the profiling nodes; without them it fails, or takes the process along."""
    nodes = [path for pattern in _PROFILING for path in device.sysfs.glob(pattern)]
    refused = [path for path in nodes if not os.access(path, os.R_OK | os.W_OK)]
    if not nodes:
        return None
    if not refused:
        return Check(name="profiling", level="ok", text="profiling nodes can be opened")
    return Check(
        name="profiling",
        level="warn",
        text=f"{refused[0]} cannot be opened: no CUPTI, per-op times come from events alone",
        fix='sudo usermod -aG video,render "$USER", then log in again',
    )


def service(device: JetsonDevice) -> Check:
    """jetson-stats is a source of the last resort: its absence is no fault."""
    if not jtop.installed():
        text = "not installed, and not needed"
    elif jtop.answers():
        text = "its service answers; read only for what nothing else tells"
    else:
        text = "installed, its service is silent; not needed"
    return Check(name="jtop", level="ok", text=text)


def container(device: JetsonDevice) -> Check | None:
    """What a container hides from us."""
    if not _contained(device):
        return None
    lacking = [path for path in _MOUNTS if device.sysfs.text(path) is None]
    if shutil.which("tegrastats") is None:
        lacking.append("/usr/bin/tegrastats")
    if not lacking:
        return Check(name="container", level="ok", text="sees release, power modes and tegrastats")
    folders = {"/var/lib/nvpmodel/status": "/var/lib/nvpmodel"}
    mounts = " ".join(f"-v {(p := folders.get(path, path))}:{p}:ro" for path in lacking)
    return Check(
        name="container",
        level="warn",
        text=f"hides {', '.join(lacking)}",
        fix=f"docker run --runtime nvidia {mounts} ... (jetson/run-container.sh does)",
    )


def _contained(device: JetsonDevice) -> bool:
    if device.sysfs.text("/proc/1/cgroup") is None:
        return False
    marks = ("/.dockerenv", "/run/.containerenv")
    return any(device.sysfs.glob(mark) for mark in marks)


def ptxas(device: JetsonDevice) -> Check | None:
    """Thor needs an assembler newer than the one that Triton before 3.7 carries."""
    if device.found.soc != "tegra264":
        return None
    try:
        version = metadata.version("triton")
    except metadata.PackageNotFoundError:
        fix = torch_line(device.l4t)
        return Check(name="ptxas", level="error", text="triton is not installed", fix=fix)
    release = triton_release(version)
    if release >= (3, 7):
        return Check(name="ptxas", level="ok", text=f"triton {version} knows sm_110")
    return Check(
        name="ptxas",
        level="warn",
        text=f"triton {version} carries a ptxas that does not know sm_110",
        fix=f"export {ptxas_variable(release)}=/usr/local/cuda/bin/ptxas  (CUDA 13 or later)",
    )
