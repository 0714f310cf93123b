"""What the documents say of committed runs and tables is read from them.

Promises: the index names every folder of reports/, says of a run what `ssmprof crossover` prints,
and counts quantities as their files have them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from made import index, runs

from ssmprof.cli import cli

REPORTS = runs.REPORTS
INDEX = (REPORTS / "README.md").read_text(encoding="utf-8")


def test_the_index_names_every_folder_and_what_it_answers() -> None:
    for path in REPORTS.iterdir():
        if path.is_dir():
            assert f"### {path.name}\n" in INDEX
            assert (path / "run.json").is_file() or index.question(path.name), path.name


@pytest.mark.parametrize("path", runs.folders(), ids=lambda path: path.name)
def test_the_index_says_of_a_run_what_crossover_prints(path: Path) -> None:
    printed = CliRunner().invoke(cli, ["crossover", str(path)]).output
    section = INDEX.partition(f"### {path.name}\n")[2].partition("\n### ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:2] == "| "][2:]
    assert len(rows) == len(runs.read(path).analysis.latencies)
    for label, *device, sentence, grade in rows:
        where = (device or runs.read(path).devices)[0]
        said = printed.partition(f"{label} on {where}: {sentence}\n")[2]
        assert said.partition("Trust ")[2][0] == grade


def test_quantities_are_counted_and_the_missed_ones_told(tmp_path: Path) -> None:
    rows = [
        {"name": "at its bar", "value": 1.0, "bar": 1.0, "unit": "s", "how": "", "reason": None},
        {"name": "above", "value": 1.5, "bar": 1.0, "unit": "s", "how": "", "reason": "slow"},
        {"name": "nobody", "value": None, "bar": 1.0, "unit": "s", "how": "", "reason": "no card"},
    ]
    folder = tmp_path / "accuracy-made"
    folder.mkdir()
    (folder / "it.json").write_text(json.dumps({"device": "made", "quantities": rows}))
    said = index.page(tmp_path)
    assert "`it.json` (made): **1 of 2** measured quantities meet their bar." in said
    assert "| above | 1.50 | 1 s | slow |" in said
    assert "| nobody | no card |" in said
    assert "| at its bar" not in said


def test_a_total_of_kernels_meets_what_its_file_says(tmp_path: Path) -> None:
    total = {
        "op": "scan", "against": "peer", "mode": "graph", "where": {"min_batch": 8}, "cells": 1,
        "reached": 1.6, "worst": 1.3, "floor": 1.5, "aim": 2.0, "floor_met": True, "aim_met": False,
    }  # fmt: skip
    (tmp_path / "totals.json").write_text(json.dumps([total]))
    floor, aim = index.quantities(tmp_path / "totals.json")
    assert floor.met
    assert (aim.name, aim.met) == ("scan against peer, graph, min_batch 8: aim", False)
