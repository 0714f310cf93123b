"""What a plan says, against the committed runs: every block within the 40 % that it promises."""

from __future__ import annotations

import json
from pathlib import Path

import planned
import pytest

from ssmprof.planning.decided import deciding_s
from ssmprof.planning.machine import Machine
from ssmprof.store import folder

H200 = Machine.of_device("NVIDIA H200", "cuda")


@pytest.mark.parametrize("path", planned.RECORDED, ids=lambda path: path.name)
def test_every_block_of_a_recorded_run_is_planned_within_40_per_cent(path: Path) -> None:
    found = planned.planned(path)
    assert all(0.6 <= one.ratio <= 1.4 for one in found), planned.table(found)


@pytest.mark.parametrize("name", ["crossover", "experts"])
def test_deciding_who_runs_which_op_is_planned_within_40_per_cent(name: str) -> None:
    """On machines that had compiled the kernels before."""
    path = next(one for one in planned.RECORDED if one.name == f"2026-11-30-{name}-h200")
    run = folder.load(path)
    created = json.loads((path / "run.json").read_text())["created_unix_s"]
    took = max(one.decided_unix_s for one in run.decisions) - created
    said = sum(deciding_s(run.scenario, H200, "cuda", compiled=True).values())
    assert 0.6 <= said / took <= 1.4
