"""The fault run as CI has it: all campaigns, and every quantity within its bar."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "reports" / "faults" / "faults.json"
LIMIT_S = 300.0


def over(file: Path) -> list[str]:
    """Quantities above their bars."""
    rows = json.loads(file.read_text())["quantities"]
    assert len(rows) == 11
    return [f"{row['name']}: {row['value']}" for row in rows if row["value"] > row["bar"]]


@pytest.mark.faults
@pytest.mark.timeout(LIMIT_S + 60)
def test_hundreds_of_deaths_and_errors_lose_nothing_and_leave_nothing(tmp_path: Path) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "faults" / "run.py"), "--output", "faults.json"],
        capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}:{ROOT / 'tests'}"},
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert over(tmp_path / "faults.json") == []
    assert "seed" in done.stdout
    assert time.monotonic() - began < LIMIT_S


def test_the_committed_fault_run_meets_its_bars() -> None:
    assert over(COMMITTED) == []
