"""The kernel benchmark as a command: what is measured, kept and continued; the device is faked."""

from __future__ import annotations

import json
import pathlib
import sys

import pytest
import torch
from benchmarks import verdicts

HERE = pathlib.Path(verdicts.__file__).parent
MODULES = [path.stem for path in HERE.glob("*.py")]


class Timer:
    """Answers without a device: the peer takes twice our time."""

    def __init__(self, call):
        self.ms = call if isinstance(call, float) else call()

    def sample_ms(self):
        return self.ms


@pytest.fixture
def bench(monkeypatch, tmp_path):
    """`bench(*arguments)` runs the command and returns its exit code and the record it wrote."""
    monkeypatch.syspath_prepend(str(HERE))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    import ceilings
    import contest
    import peers
    import prepare
    import run
    from cases import Case

    measured = []

    def build(cell):
        measured.append(cell.name)
        own, zero = torch.ones(2), {"inputs": {}, "exact": lambda: torch.ones(2)}
        return Case(
            cell.op, cell.model["name"], cell.length, cell.batch, 64,
            calls=[lambda: own], moved_bytes=1e6, flops=1e6, exps=1e6, **zero,
        )  # fmt: skip

    def calls(case):
        twice = torch.full((2,), 1.5)
        return {"mamba_ssm": [lambda: twice], "fla": peers.Missing("not here")}

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A Device")
    monkeypatch.setattr(ceilings, "measure", lambda: ceilings.Ceilings(1e12, 1e14, 1e12, 1e-6))
    monkeypatch.setattr(contest, "build", build)
    monkeypatch.setattr(peers, "calls", calls)
    monkeypatch.setattr(peers, "load", lambda: None)
    monkeypatch.setattr(prepare, "tune", lambda cells: [])
    monkeypatch.setattr(contest.timing, "ColdTimer", lambda call: Timer(call()[0].item()))
    monkeypatch.setattr(contest.timing, "eager_ms", lambda call, seconds: 3.0)

    def go(*arguments):
        measured.clear()
        out = tmp_path / "out"
        monkeypatch.setattr(sys, "argv", ["run.py", "--out", str(out), "--rounds", "2", *arguments])
        code = run.main()
        path = out / "bench.json"
        return code, json.loads(path.read_text()) if path.exists() else None, list(measured)

    yield go
    for name in MODULES:
        sys.modules.pop(name, None)


CELLS = ("--only", "ssd_scan/130m/512/1", "ssd_scan/130m/1024/1", "ssd_scan/8b/512/*")


def test_a_cell_gives_a_graph_row_per_provider_and_wall_times_of_those_that_ran(bench):
    code, found, measured = bench("--only", "ssd_scan/130m/512/1")
    assert code == 0
    assert measured == ["ssd_scan/130m/512/1"]
    rows = {(r["provider"], r["mode"]): r for r in found["rows"]}
    assert set(rows) == {
        ("ssmprof", "graph"), ("ssmprof", "eager"), ("mamba_ssm", "graph"), ("mamba_ssm", "eager"),
        ("fla", "graph"),
    }  # fmt: skip
    assert rows["mamba_ssm", "graph"]["ratio"] == 1.5
    assert rows["mamba_ssm", "graph"]["error"] == pytest.approx(0.5)
    assert rows["ssmprof", "eager"]["ms"] == 3.0
    assert rows["fla", "graph"]["note"] == "not here"
    run = found["runs"][0]
    assert {r["run"] for r in found["rows"]} == {run["run"]}
    assert run["cells"] == 1
    assert run["ceilings"]["bytes_per_s"] == 1e12


def test_a_stopped_run_is_completed_by_the_next_and_judged_as_one(bench, capsys):
    _, first, measured = bench(*CELLS, "--seconds", "1e-9")
    assert measured == []
    assert first["rows"] == []
    _, first, measured = bench("--only", CELLS[1])
    assert measured == ["ssd_scan/130m/512/1"]
    _, both, measured = bench(*CELLS, "--resume")
    assert sorted(measured) == ["ssd_scan/130m/1024/1", "ssd_scan/8b/512/1", "ssd_scan/8b/512/8"]
    assert both["rows"][: len(first["rows"])] == first["rows"]
    assert [run["cells"] for run in both["runs"]] == [1, 3]
    assert bench(*CELLS, "--resume")[2] == []
    assert "mamba_ssm           graph    4 cells    1.50" in capsys.readouterr().out


def test_again_measures_the_named_cells_anew_and_keeps_the_others(bench):
    bench(*CELLS)
    _, found, measured = bench("--only", "ssd_scan/8b/*/1", "--resume", "--again")
    assert "ssd_scan/8b/512/1" in measured
    assert "ssd_scan/8b/512/8" not in measured
    own = [r for r in found["rows"] if r["provider"] == "ssmprof" and r["mode"] == "graph"]
    cells = [(r["shape"], r["length"], r["batch"]) for r in own]
    assert len(cells) == len(set(cells))
    assert ("8b", 512, 8) in cells


def test_graph_times_alone_do_not_complete_a_cell_that_is_asked_with_wall_times(bench):
    bench("--only", CELLS[1], "--no-eager")
    assert bench("--only", CELLS[1], "--resume", "--no-eager")[2] == []
    _, found, measured = bench("--only", CELLS[1], "--resume")
    assert measured == ["ssd_scan/130m/512/1"]
    assert len([r for r in found["rows"] if r["provider"] == "ssmprof"]) == 2


def test_errors_are_computed_anew_without_timing(bench, monkeypatch):
    import contest

    _, before, _ = bench(*CELLS)
    monkeypatch.setattr(contest.timing, "ColdTimer", None)
    monkeypatch.setattr(contest, "error", lambda found, truth: float(found[0]) + 4.0)
    code, after, measured = bench("--only", CELLS[1], "--resume", "--errors")
    assert (code, measured) == (0, ["ssd_scan/130m/512/1"])
    changed = {
        (row["provider"], row["mode"]): row["error"]
        for row, old in zip(after["rows"], before["rows"], strict=True)
        if row != old
    }
    assert changed == {("ssmprof", "graph"): 5.0, ("mamba_ssm", "graph"): 5.5}
    assert after["runs"] == before["runs"]


def test_a_record_of_another_device_is_not_continued(bench, monkeypatch, capsys):
    bench("--only", CELLS[1])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Another")
    code, _, measured = bench("--only", CELLS[1], "--resume")
    assert (code, measured) == (2, [])
    assert "device was A Device, is Another" in capsys.readouterr().err


def test_operations_of_other_tables_are_measured_anew(bench, monkeypatch, capsys):
    from ssmprof_kernels import launch

    bench("--only", CELLS[1], "causal_conv1d/130m/512/1")
    before = launch.digests()
    monkeypatch.setattr(launch, "digests", lambda: before | {"ssd_scan": "tuned anew"})
    code, found, measured = bench("--only", CELLS[1], "causal_conv1d/130m/512/1", "--resume")
    assert (code, measured) == (0, ["ssd_scan/130m/512/1"])
    assert "ssd_scan: other tables" in capsys.readouterr().out
    assert found["environment"]["tables"]["ssd_scan"] == "tuned anew"
    assert {row["op"] for row in found["rows"]} == {"ssd_scan", "causal_conv1d"}


def test_without_resume_a_folder_starts_anew(bench):
    bench("--only", CELLS[1])
    _, found, measured = bench("--only", CELLS[2])
    assert measured == ["ssd_scan/130m/1024/1"]
    assert {r["length"] for r in found["rows"]} == {1024}


def test_another_form_of_ours_has_rows_of_its_own_and_is_no_peer(bench, monkeypatch, capsys):
    import contest

    build = contest.build

    def with_alone(cell):
        case = build(cell)
        case.others["ssmprof-alone"] = [lambda: torch.full((2,), 3.0)]
        return case

    monkeypatch.setattr(contest, "build", with_alone)
    _, found, _ = bench("--only", CELLS[1])
    rows = {r["provider"]: r for r in found["rows"] if r["mode"] == "graph"}
    assert rows["ssmprof-alone"]["ms"] == 3.0
    assert rows["ssmprof-alone"]["ratio"] == 3.0
    assert rows["ssmprof-alone"]["config"] is None
    assert "mamba_ssm           graph    1 cells    1.50" in capsys.readouterr().out


@pytest.mark.parametrize(("sets", "calls"), [(400, 400), (100, 100), (81, 162), (3, 102)])
def test_a_graph_of_rotating_buffers_holds_about_a_hundred_calls(bench, monkeypatch, sets, calls):
    import timing

    captured = []
    monkeypatch.setattr(timing, "capture", lambda ops, warm_up: captured.extend(ops))
    monkeypatch.setattr(timing, "replay_ms", lambda graph: 7.0 * calls)
    timer = timing.RotatedTimer([object()] * sets)
    assert (len(captured), timer.sample_ms()) == (calls, 7.0)
