"""Executors: what a run keeps of what they find, and that a resumed session starts with it."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import fakes
import make
import pytest
from msgspec.structs import replace

import ssmprof
from ssmprof.chips import find_chip
from ssmprof.errors import StoreError
from ssmprof.measure.environment import CARD, bare, called
from ssmprof.measure.workers.client import Client
from ssmprof.records import DisabledPass, Measurement
from ssmprof.session.executors import Local, Virtual
from ssmprof.session.progress import Progress
from ssmprof.session.run import conduct
from ssmprof.spec import Passes
from ssmprof.store import decisions, folder

PASSES = Passes(parts=True, memory="off", energy=False, host=False, cupti=True)
ASKED = make.scenario(
    contexts=(64, 128), device="cpu", budget=replace(make.QUICK, rounds=1), passes=PASSES
)


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Workers on this machine are formulas; the returned file says how they die."""
    file = tmp_path / "faults.json"
    file.write_text("{}")
    for name, value in (fakes.ENVIRON | {fakes.FAULTS_FILE: str(file)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(Client.__init__.__kwdefaults__, "runner", fakes.RUNNER)
    return file


def broken(run: ssmprof.Run) -> list[str]:
    return [
        one.key for one in run.measurements() for note in one.notes if note.kind == "broken-pass"
    ]


def test_a_pass_that_killed_its_worker_is_kept_and_not_tried_again_by_a_resume(
    tmp_path: Path, faulty: Path
) -> None:
    faulty.write_text(json.dumps({"cupti of all": "segfault"}))
    first = ssmprof.sweep(ASKED, examine=False, output=tmp_path / "run")
    assert len(broken(first)) == 1
    (kept,) = decisions.read_disabled(tmp_path / "run")
    assert kept.name == "cupti"
    assert kept.environment == make.ENVIRONMENT.fingerprint
    assert "SIGSEGV" in kept.detail
    journal = tmp_path / "run" / "outcomes.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2]))  # the rest is lost: measured again, in a new process
    again = ssmprof.resume(tmp_path / "run", examine=False)
    assert len(again.outcomes) == len(first.outcomes)
    assert broken(again) == broken(first), "no worker dies of it once more"
    assert decisions.read_disabled(tmp_path / "run") == (kept,)


def test_a_pass_is_disabled_on_its_machine_alone(tmp_path: Path, faulty: Path) -> None:
    elsewhere = DisabledPass(name="cupti", environment="0123456789ab", detail="it died there")
    with folder.create(tmp_path / "run", ASKED) as opened:
        opened.add_disabled(elsewhere)
    faulty.write_text(json.dumps({"cupti of all": "segfault"}))
    ssmprof.resume(tmp_path / "run", examine=False)
    here = decisions.read_disabled(tmp_path / "run")
    assert [one.environment for one in here] == ["0123456789ab", make.ENVIRONMENT.fingerprint]


def test_who_runs_which_op_is_kept_and_asked_once(tmp_path: Path, faulty: Path) -> None:
    first = ssmprof.sweep(ASKED, examine=False, output=tmp_path / "run")
    assert [one.block for one in first.decisions] == ["attention", "mamba2"]
    faulty.write_text(json.dumps({"decide attention": "kill", "decide mamba2": "kill"}))
    again = ssmprof.resume(tmp_path / "run", rerun_noisy=True, examine=False)
    assert again.decisions == first.decisions


def test_a_local_run_and_one_by_formula_are_equal_up_to_times(tmp_path: Path, faulty: Path) -> None:
    local = ssmprof.sweep(ASKED, examine=False, output=tmp_path / "a")
    other = Virtual(fakes.formula, make.ENVIRONMENT)
    virtual = ssmprof.sweep(ASKED, executor=other, examine=False, output=tmp_path / "b")

    def timeless(run: ssmprof.Run) -> list[Any]:
        return [
            replace(one, wall_s=0.0, started_unix_s=0.0, providers={})
            for one in run.outcomes
            if isinstance(one, Measurement)
        ]

    assert timeless(local) == timeless(virtual)


def test_a_run_begun_on_a_formula_is_completed_here_and_the_reverse(
    tmp_path: Path, faulty: Path
) -> None:
    virtual = Virtual(fakes.formula, make.ENVIRONMENT)
    for name, first, then in (("a", virtual, None), ("b", None, virtual)):
        path = tmp_path / name
        whole = ssmprof.sweep(ASKED, executor=first, examine=False, output=path)
        journal = path / "outcomes.jsonl"
        journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:3]))
        found = ssmprof.resume(path, executor=then, examine=False)
        assert [one.key for one in found.outcomes] == [one.key for one in whole.outcomes]


def test_an_executor_that_was_given_stays_open(tmp_path: Path, faulty: Path) -> None:
    local = Local("cpu")
    closed: list[bool] = []
    local.close = lambda: closed.append(True)  # type: ignore[method-assign]
    ssmprof.sweep(ASKED, executor=local, examine=False, output=tmp_path / "run")
    assert closed == []


def test_a_damaged_file_of_disabled_passes_is_named(tmp_path: Path) -> None:
    folder.create(tmp_path / "run", ASKED).close()
    (tmp_path / "run" / "disabled_passes.json").write_text('[{"name": "sleep"}]')
    with pytest.raises(StoreError, match="disabled_passes"):
        ssmprof.resume(tmp_path / "run", executor=Virtual(fakes.formula, make.ENVIRONMENT))


def test_who_runs_which_op_is_not_looked_into_where_nobody_asks(
    tmp_path: Path, faulty: Path
) -> None:
    faulty.write_text(json.dumps({"decide attention": "kill", "decide mamba2": "kill"}))
    with folder.create(tmp_path / "run", ASKED) as opened, closing(Local("cpu")) as here:
        end = conduct(opened, ASKED, here, Progress(), examine=False, decide=False)
    found = ssmprof.load(tmp_path / "run")
    assert end == "done"
    assert found.decisions == ()
    assert all(isinstance(one, Measurement) for one in found.outcomes)


def test_a_bench_heeds_what_others_found(faulty: Path) -> None:
    """Two lengths ran out of memory elsewhere: the next one is not tried here."""
    longer = make.job("mamba2", 512)
    died = [make.failure(point=make.job("mamba2", context).point) for context in (128, 256)]
    with fakes.client() as client:
        assert [one.key for one in client([longer])] == [longer.key]
        client.heed(died, (), ())
        (skipped,) = client([make.job("mamba2", 512, round=1)])
    assert skipped.reason == "skipped"


def test_cards_of_one_name_are_told_apart_where_that_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert called("NVIDIA H200") == "NVIDIA H200"
    monkeypatch.setenv(CARD, "1")
    assert called("NVIDIA H200") == "NVIDIA H200 #1"
    assert find_chip("NVIDIA H200 #1") == find_chip("NVIDIA H200") is not None
    assert bare("cpu").device.endswith(" #1")
