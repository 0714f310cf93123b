"""Commands in processes of their own: seconds, processor seconds and peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from ssmprof.errors import EXIT_DONE, EXIT_WITHHELD

ROOT = Path(__file__).parents[2]
# Command -> its words, RUN and OUT to be filled in.
COMMANDS: dict[str, list[str]] = {
    "report": ["report", "RUN", "-o", "OUT/report.html"],
    "crossover": ["crossover", "RUN", "--json", "-o", "OUT/crossover.json"],
    "export": ["export", "RUN", "--to", "csv,jsonl,sqlite", "-o", "OUT/export", "--force"],
}


class Taken(NamedTuple):
    """What one command took."""

    command: str
    wall_s: float
    cpu_s: float
    peak_bytes: int


def run(command: str, folder: Path, out: Path) -> Taken:
    """One command on one run folder. Raises RuntimeError with its words where it fails."""
    filled = [
        word.replace("RUN", str(folder)).replace("OUT", str(out)) for word in COMMANDS[command]
    ]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    said = out / f"{command}.txt"
    start_s = time.monotonic()
    with said.open("wb") as words:
        process = subprocess.Popen(
            [sys.executable, "-m", "ssmprof", *filled], stdout=words, stderr=words, env=environ
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.monotonic() - start_s
    if process.returncode not in (EXIT_DONE, EXIT_WITHHELD):
        told = said.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(filled)} ended with {process.returncode}: {told}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return Taken(command, wall_s, cpu_s, usage.ru_maxrss * 1024)
