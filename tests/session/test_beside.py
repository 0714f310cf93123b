"""Devices of several names in one run: each gives its own answer, and nothing is mixed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import fakes
import make
import pytest
from msgspec.structs import replace

import ssmprof
from ssmprof.analysis import analyze
from ssmprof.analysis.compare.devices import beside, difference
from ssmprof.cli import main
from ssmprof.errors import EXIT_FINDING, SsmprofError
from ssmprof.records import Failure, Job, Outcome
from ssmprof.report.beside import told
from ssmprof.report.build import build
from ssmprof.report.page import Listing
from ssmprof.session.executors import SideBySide, Virtual
from ssmprof.session.progress import Progress
from ssmprof.spec import Scenario
from ssmprof.store import folder

ASKED = make.scenario(contexts=(64, 128, 256, 512), device="cpu")
KEYS = sorted(job.key for job in make.jobs(ASKED))
FAST, SLOW = (make.environment(device=name) for name in ("Fast GPU", "Slow GPU"))


def quick(job: Job) -> Outcome:
    """mamba2 wins from 128 tokens on."""
    return _timed(job, 100)


def slow(job: Job) -> Outcome:
    """mamba2 wins from 400 tokens on."""
    return _timed(job, 400)


def _timed(job: Job, crossing: int) -> Outcome:
    context = job.point.context
    time_s = context * 1e-5 if job.point.block == "attention" else crossing * 1e-5
    times = tuple(time_s * (1 + 1e-4 * (turn + job.round)) for turn in range(8))
    return make.measurement(point=job.point, round=job.round, times_s=times)


def both(first: Any = quick, second: Any = slow) -> SideBySide:
    return SideBySide([Virtual(first, FAST), Virtual(second, SLOW)])


def swept(path: Path, executor: Any, asked: Scenario = ASKED, **changes: Any) -> ssmprof.Run:
    return ssmprof.sweep(asked, executor=executor, examine=False, output=path, **changes)


def of(run: ssmprof.Run, machine: Any) -> list[str]:
    return sorted(one.key for one in run.outcomes if one.environment == machine.fingerprint)


def test_each_device_measures_every_point_once(tmp_path: Path) -> None:
    found = swept(tmp_path / "run", both())
    assert of(found, FAST) == KEYS
    assert of(found, SLOW) == KEYS
    assert set(found.environments) == {FAST.fingerprint, SLOW.fingerprint}


def test_each_device_has_the_answer_that_it_would_have_alone(tmp_path: Path) -> None:
    together = swept(tmp_path / "run", both())
    for formula, machine in ((quick, FAST), (slow, SLOW)):
        alone = swept(tmp_path / machine.device, Virtual(formula, machine))
        (mine,) = (
            one for one in together.answers
            if one.metric == "latency" and one.conditions.device == machine.device
        )  # fmt: skip
        assert alone.answer is not None
        assert mine.crossings == alone.answer.crossings
        assert mine.segments == alone.answer.segments


def test_what_certainly_changes_between_devices_is_found(tmp_path: Path) -> None:
    run = swept(tmp_path / "run", both())
    ((fast, other),) = beside(one for one in run.answers if one.metric == "latency")
    found = difference(fast, other)
    assert (found.device, found.device_there) == ("Fast GPU", "Slow GPU")
    assert {(one.block, one.other, one.context) for one in found.opposite} == {
        ("attention", "mamba2", 128), ("attention", "mamba2", 256)
    }  # fmt: skip
    assert found.is_certain
    assert not difference(fast, fast).is_certain


def test_devices_are_asked_until_each_is_decided(tmp_path: Path) -> None:
    asked = replace(ASKED, sweep=replace(ASKED.sweep, strategy="decide"))
    found = swept(tmp_path / "run", both(), asked)
    visited = {
        machine.device: {
            one.point.context
            for one in found.measurements()
            if one.beside and one.environment == machine.fingerprint
        }
        for machine in (FAST, SLOW)
    }
    assert visited["Fast GPU"]
    assert visited["Slow GPU"]
    assert visited["Fast GPU"] != visited["Slow GPU"], "each looks where its own answer is open"


def test_a_resumed_run_measures_what_each_device_lacks(tmp_path: Path) -> None:
    whole = swept(tmp_path / "run", both())
    journal = tmp_path / "run" / "outcomes.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:9]))
    found = ssmprof.resume(tmp_path / "run", executor=both(), examine=False)
    assert of(found, FAST) == of(found, SLOW) == KEYS
    assert found.outcomes[:9] == whole.outcomes[:9]


def test_a_device_joins_a_run_of_several_by_itself(tmp_path: Path) -> None:
    """What others measured is not done by it."""
    swept(tmp_path / "run", both())
    third = make.environment(device="Third GPU")
    found = ssmprof.resume(tmp_path / "run", executor=Virtual(quick, third), examine=False)
    assert of(found, third) == KEYS


def test_what_one_device_loses_is_measured_again_by_it_alone(tmp_path: Path) -> None:
    def dying(job: Job) -> Outcome:
        if job.point.context == 128:
            return Failure(
                point=job.point, round=job.round, environment="", reason="crash", detail="killed",
                transient=True,
            )  # fmt: skip
        return slow(job)

    first = swept(tmp_path / "run", both(second=dying))
    lost = list(first.failures())
    assert {one.environment for one in lost} == {SLOW.fingerprint}
    assert {one.point.context for one in lost} == {128}
    asked: list[str] = []

    def counted(job: Job) -> Outcome:
        asked.append(job.key)
        return slow(job)

    again = ssmprof.resume(tmp_path / "run", executor=both(counted, counted), examine=False)
    assert list(again.failures()) == []
    assert of(again, FAST) == of(again, SLOW) == KEYS
    assert sorted(asked) == sorted(one.key for one in lost)


def test_an_error_of_one_device_ends_the_sweep_and_keeps_what_was_measured(tmp_path: Path) -> None:
    def failing(job: Job) -> Outcome:
        if job.point.context == 512:
            raise SsmprofError("the driver is gone")
        return quick(job)

    with pytest.raises(SsmprofError, match="the driver is gone"):
        swept(tmp_path / "run", both(second=failing))
    kept = folder.load(tmp_path / "run").outcomes
    assert kept
    found = ssmprof.resume(tmp_path / "run", executor=both(), examine=False)
    assert of(found, FAST) == of(found, SLOW) == KEYS
    assert {one.key for one in kept} <= {one.key for one in found.outcomes}


def test_ctrl_c_ends_all_devices(tmp_path: Path) -> None:
    class Stopping(Progress):
        def outcome(self, outcome: Outcome) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        swept(tmp_path / "run", both(), progress=Stopping())
    kept = folder.load(tmp_path / "run").outcomes
    assert 0 < len(kept) < 2 * len(KEYS)
    found = ssmprof.resume(tmp_path / "run", executor=both(), examine=False)
    assert of(found, FAST) == of(found, SLOW) == KEYS


def test_progress_is_told_of_each_device(tmp_path: Path) -> None:
    heard: dict[str, list[str]] = {}

    class Counting(Progress):
        def __init__(self, name: str = "") -> None:
            self.name = name

        def at(self, device: str) -> Progress:
            return Counting(device)

        def outcome(self, outcome: Outcome) -> None:
            heard.setdefault(self.name, []).append(outcome.key)

    swept(tmp_path / "run", both(fakes.formula, fakes.formula), progress=Counting())
    assert {name: sorted(keys) for name, keys in heard.items()} == {
        "Fast GPU": KEYS, "Slow GPU": KEYS
    }  # fmt: skip


def test_the_page_and_the_command_show_answers_side_by_side_and_what_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = swept(tmp_path / "run", both())
    section = next(one for one in build(run).sections if one.anchor == "devices")
    (listing,) = section.parts
    assert isinstance(listing, Listing)
    assert [row["device"] for row in listing.table.rows] == ["Fast GPU", "Slow GPU"]
    changes = listing.table.rows[1]["changes"]
    assert "attention beats mamba2 at 128, 256 on Slow GPU, and loses on Fast GPU" in changes
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path / "run")])
    assert "beats mamba2 at 128, 256 on Slow GPU" in capsys.readouterr().err


def test_devices_that_agree_change_nothing_and_one_alone_has_no_such_table(tmp_path: Path) -> None:
    run = swept(tmp_path / "run", both(quick, quick))
    assert all("nothing that is certain changes" in line for line in told(run, analyze(run)))
    alone = swept(tmp_path / "alone", Virtual(quick, FAST))
    assert not [one for one in build(alone).sections if one.anchor == "devices"]


def test_devices_of_one_run_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run"
    swept(path, both())
    with pytest.raises(SystemExit) as end:
        main(["compare", f"{path}@fast", f"{path}@slow gpu", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert end.value.code == EXIT_FINDING
    assert {row["block"] for row in found} == {"mamba2"}
    assert all(row["verdict"] == "slower" for row in found)
    assert all(row["ratio"] == pytest.approx(4, rel=1e-3) for row in found)
    for wanted, said in (("third", "no device"), ("gpu", "more than one device")):
        with pytest.raises(SystemExit):
            main(["compare", f"{path}@{wanted}", f"{path}@slow"])
        told_there = capsys.readouterr().err
        assert said in told_there
        assert "Fast GPU, Slow GPU" in told_there
