"""`ssmprof sweep` with real worker processes, on the smallest scenario."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import fakes
import make
import pytest

from ssmprof.cli.progress import Reporter, describe
from ssmprof.planning.feasible import Machine
from ssmprof.store.folder import load

ROOT = Path(__file__).parents[2]


def ssmprof(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ssmprof", *arguments],
        capture_output=True, text=True, cwd=folder, check=False, timeout=240,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_sweep_measures_keeps_and_never_measures_twice(tmp_path: Path) -> None:
    command = ("sweep", "smoke", "--device", "cpu", "--no-doctor", "-o", "run")
    first = ssmprof(tmp_path, *command)
    # Nobody checked the machine, so no verdict can be given; the numbers are kept all the same.
    assert first.returncode == 5, first.stderr
    assert "No verdict" in first.stdout or "nothing to compare" in first.stdout
    assert "--resume run" in first.stderr
    run = load(tmp_path / "run")
    assert {one.point.context for one in run.measurements()} == {64, 256}
    journal = (tmp_path / "run" / "outcomes.jsonl").read_bytes()
    again = ssmprof(tmp_path, "sweep", "--resume", "run", "--no-doctor")
    assert "0 to measure" in again.stderr
    assert (tmp_path / "run" / "outcomes.jsonl").read_bytes() == journal
    assert ssmprof(tmp_path, *command).returncode == 2, "results are never overwritten"
    page = ssmprof(tmp_path, "report", "run")
    assert Path(tmp_path, page.stdout.strip()).stat().st_size > 30_000


def test_a_sweep_ends_in_json_that_programs_read(tmp_path: Path) -> None:
    done = ssmprof(
        tmp_path, "sweep", "smoke", "--device", "cpu", "--no-doctor", "-o", "run", "--json"
    )
    found = json.loads(done.stdout)
    asked = ssmprof(tmp_path, "crossover", "run", "--json")
    assert found == json.loads(asked.stdout)
    plan = ssmprof(tmp_path, "sweep", "smoke", "--device", "cpu", "--dry-run", "--json")
    assert json.loads(plan.stdout)[0]["block"] == "parallel"


def test_an_unwritable_folder_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = ssmprof(tmp_path, "sweep", "smoke", "--device", "cpu", "-o", "file/run")
    assert said.returncode == 2
    assert "file/run" in said.stderr
    assert "Traceback" not in said.stderr


def test_progress_says_what_failed_even_when_lines_are_rare(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = make.scenario("attention", contexts=(512, 1024, 2048))
    jobs = make.jobs(asked)
    machine = Machine.of_device("Virtual GPU", "cuda")
    with Reporter() as reporter:
        reporter.begins(asked, machine)
        reporter.expect(jobs)
        reporter.skip([jobs[0].key])
        reporter.outcome(make.measurement(point=jobs[1].point, round=0))
        reporter.outcome(make.measurement(point=jobs[2].point, round=0))
        reporter.outcome(make.failure(point=jobs[2].point, round=1, asked_bytes=2**30))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"[2/{len(jobs)}] attention prefill 1K b1 eager, round 1  1.00 ms")
    assert lines[0].endswith("left")
    assert "out-of-memory (asked for 1.00 GiB): virtual" in lines[1]


def test_a_description_names_the_noise() -> None:
    times = tuple(1e-3 * (1 + 0.01 * turn) for turn in range(20))
    said = describe(make.measurement("mamba2", 8192, times_s=times))
    assert said.startswith("mamba2 prefill 8K b1 eager, round 1  1.09 ms ±")


def test_a_sweep_decides_who_runs_which_op_keeps_it_and_says_so_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ssmprof.session.decisions import Decisions
    from ssmprof.store import folder

    asked = make.scenario(contexts=(64, 256))
    with folder.create(tmp_path / "run", asked) as opened, fakes.client() as client:
        opened.add_environment(make.ENVIRONMENT)
        known = Decisions(opened)
        found = known.decide(asked, client, "cpu")
        known.add(found)
        Reporter().decided(found, 1.0)
        said = capsys.readouterr().err
        assert said.startswith("providers of 2 ops decided on the block: the first of each stays")
        Reporter().decided(Decisions(opened).decide(asked, client, "cpu"), 1.0)
        assert capsys.readouterr().err == ""
    assert [one.block for one in load(tmp_path / "run").decisions] == ["attention", "mamba2"]


def test_a_sweep_says_why_readings_beside_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ssmprof.cli import main
    from ssmprof.errors import StoreError
    from ssmprof.session.executors import local
    from ssmprof.store.folder import RunFolder

    def full(*_: object) -> None:
        raise StoreError("telemetry.jsonl: cannot be written: No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(local, "TELEMETRY_HZ", 10.0)
    monkeypatch.setattr(RunFolder, "add_telemetry", full)
    with pytest.raises(SystemExit):
        main(["sweep", "smoke", "--device", "cpu", "--no-doctor", "-o", "run"])
    said = capsys.readouterr().err
    assert "readings beside the run ended after 0: telemetry.jsonl" in said
    assert list(load(tmp_path / "run").measurements()), "the run itself goes on"
