"""Is this machine fit to measure, and how far can its numbers be trusted?

`examine` runs every check and returns them as part of the calibration that travels with a run.
This module imports no torch: `in_child` runs the examination in a process of its own, so that the
caller never touches the device, and a check that crashes is a finding.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec
from msgspec import structs

from ssmprof.devices import detect
from ssmprof.devices.base import Device
from ssmprof.devices.onboard import CheckFound, Onboard
from ssmprof.doctor import host as doctor_host
from ssmprof.errors import NoDeviceError
from ssmprof.records import Calibration, Check

Grade = Literal["A", "B", "C", "D"]
Kind = Literal["cuda", "cpu"]

# A/A noise beyond which intervals must widen, and beyond which no verdict is given.
NOISE_WIDENS = 0.01
NOISE_WITHHOLDS = 0.05
_TIMEOUT_S = 300.0


def grade(found: Calibration) -> Grade:
    """A all checks pass · B warnings · C an error, or noise above 1 % · D noise above 5 %."""
    noise = found.repeat_noise
    if noise is None or noise > NOISE_WITHHOLDS:
        return "D"
    levels = {check.level for check in found.checks}
    if "error" in levels or noise > NOISE_WIDENS:
        return "C"
    return "B" if "warn" in levels else "A"


def examine(kind: Kind, *, thorough: bool = False) -> Calibration:
    """Calibrate the device and run every check on it, in this process.

    `thorough` adds the checks that take longer: processes against each other, CUPTI in a child,
    random against zero data. Raises NoDeviceError without such a device.
    """
    torch_found = doctor_host.torch_build()
    device = detect(kind)
    try:
        before = list(_run(_BEFORE, device))
        if device.onboard is not None:
            torch_found, before = _on_board(device.onboard, torch_found, before)
        if torch_found.level == "error":  # the rest of the machine can still be told
            return Calibration(checks=(torch_found, *before))
        if kind == "cuda":
            found, checks = _on_cuda(device, thorough)
        else:
            found, checks = _on_cpu(device, thorough)
        checks += _flatten(
            "energy", lambda: doctor_host.energy_period(device, found.energy_period_s)
        )
        return structs.replace(found, checks=(torch_found, *before, *checks))
    finally:
        device.close()


# Before any work: what the machine is like while nothing runs.
_BEFORE: dict[str, Callable[[Device], CheckFound]] = {
    "device": doctor_host.device_named,
    "clocks": doctor_host.clocks,
    "temperature": doctor_host.temperature,
    "others": doctor_host.others,
    "telemetry": doctor_host.telemetry,
    "host clock": lambda device: doctor_host.host_clock(),
    "host profile": lambda device: doctor_host.host_profiler(),
    "governor": lambda device: doctor_host.governor() if device.kind == "cpu" else None,
}


def _on_board(board: Onboard, torch_found: Check, before: list[Check]) -> tuple[Check, list[Check]]:
    """A board's own checks take the place of the general ones of the same name."""
    own = [found for name, check in board.checks().items() for found in _flatten(name, check)]
    names = {check.name for check in own} | {"others", "host profile"}
    return board.judge_torch(torch_found), [
        *own,
        *(check for check in before if check.name not in names),
    ]


def _run(checks: dict[str, Callable[[Device], CheckFound]], device: Device) -> Iterable[Check]:
    for name, check in checks.items():
        yield from _flatten(name, lambda check=check: check(device))


def _flatten(name: str, check: Callable[[], CheckFound]) -> list[Check]:
    """Results of one check; a check that fails is itself a finding."""
    try:
        found = check()
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return [Check(name=name, level="warn", text=f"could not be checked: {text}")]
    if found is None:
        return []
    return [found] if isinstance(found, Check) else list(found)


def _on_cuda(device: Device, thorough: bool) -> tuple[Calibration, list[Check]]:
    import torch

    from ssmprof.doctor import calibrate, processes
    from ssmprof.doctor import device as doctor_device

    if not torch.cuda.is_available():
        raise NoDeviceError("torch sees no CUDA device", fix="nvidia-smi; then pip install torch")
    found = calibrate.calibrate(device)
    if thorough:
        noise = _flatten("A/A processes", lambda: processes.noise_check("cuda"))
        found = structs.replace(found, repeat_noise=_worst(noise, found.repeat_noise))
    steps: dict[str, Callable[[], CheckFound]] = {
        "launch": lambda: doctor_device.launch(found),
        "marks": lambda: doctor_device.mark(found),
        "routes": doctor_device.routes,
        "known duration": doctor_device.known_duration,
        "clocks at work": lambda: doctor_device.clocks_at_work(device),
        "bandwidth": lambda: doctor_device.bandwidth(found, device),
        "L2 flush": doctor_device.flush_works,
        "A/A": lambda: doctor_device.repeat(found),
        "attention": doctor_device.attention_backends,
    }
    if thorough:
        steps |= {
            "A/A processes": lambda: noise,
            "data": lambda: doctor_device.data_effect(found),
            "CUPTI": processes.cupti_check,
        }
    checks: list[Check] = []
    with torch.inference_mode():
        for name, step in steps.items():
            checks += _flatten(name, step)
    return found, checks


def _on_cpu(device: Device, thorough: bool) -> tuple[Calibration, list[Check]]:
    from ssmprof.doctor import calibrate, processes
    from ssmprof.doctor import device as doctor_device

    found = calibrate.calibrate(device)
    checks = [
        Check(
            name="routes",
            level="ok",
            text="wall clock per op; these are times of a CPU, not of a GPU",
        )
    ]
    if thorough:
        noise = _flatten("A/A processes", lambda: processes.noise_check("cpu"))
        found = structs.replace(found, repeat_noise=_worst(noise, found.repeat_noise))
        checks += noise
    checks += _flatten("A/A", lambda: doctor_device.repeat(found))
    return found, checks


def _worst(checks: list[Check], noise: float | None) -> float | None:
    values = [check.value for check in checks if check.value is not None]
    return max([*values, *([] if noise is None else [noise])], default=None)


def in_child(kind: Kind, *, thorough: bool = False) -> Calibration:
    """Examine in a process of its own. Raises NoDeviceError with the child's last words."""
    command = [sys.executable, "-m", "ssmprof.doctor.examination", kind]
    try:
        done = subprocess.run(
            [*command, *(["--thorough"] if thorough else [])],
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NoDeviceError(f"the examination took longer than {_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise NoDeviceError("the device could not be examined", cause=lines[-1] if lines else None)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Calibration)


def main(arguments: list[str]) -> None:
    """`python -m ssmprof.doctor.examination KIND [--thorough]`: one JSON line, the calibration."""
    kind: Any = arguments[0]
    found = examine(kind, thorough="--thorough" in arguments)
    sys.stdout.flush()
    sys.stdout.buffer.write(b"\n" + msgspec.json.encode(found) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
