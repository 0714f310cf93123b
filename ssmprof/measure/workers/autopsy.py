"""What a dead or hanging process leaves behind: last words, stack, the host's record."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

from ssmprof.measure.passes import py_spy


def last_line(output: Path) -> str:
    """The last line a process printed, at most 200 characters of it."""
    lines = last_words(output).splitlines()
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return said if len(said) <= 200 else said[:199] + "…"


def last_words(output: Path) -> str:
    """The last 4 KiB a process printed."""
    try:
        with output.open("rb") as file:
            file.seek(max(0, output.stat().st_size - 4096))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def stack_of(pid: int) -> str:
    """Innermost frames of a hanging process by py-spy, or nothing where it may not look."""
    found = py_spy.find()
    if not found:
        return ""
    try:
        dump = subprocess.run(
            [found, "dump", "--pid", str(pid)], capture_output=True, text=True, timeout=10.0
        )
    except (subprocess.TimeoutExpired, OSError):
        return ""
    frames = [line.strip() for line in dump.stdout.splitlines() if line.startswith("    ")]
    return " < ".join(frames[:4])


def oom_kills() -> int | None:
    """How many processes the kernel has killed for memory, here or on the host."""
    for file in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        with suppress(OSError):
            for row in Path(file).read_text().splitlines():
                name, _, count = row.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return None
