"""One outcome per job, whatever happens to the process that measures it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile

import fakes
import make
import pytest
from msgspec import structs

from ssmprof.errors import SsmprofError
from ssmprof.measure.workers import scratch
from ssmprof.records import Failure, Measurement
from ssmprof.spec import Passes

FRESH = Passes(parts=False, memory="fresh", energy=False, host=False, cupti=False)
HANGS = ("hang", "nap")


def patience(fault):
    """The budget of a job with this fault."""
    return fakes.IMPATIENT if fault in HANGS else make.QUICK


def test_every_job_gets_its_outcome_in_the_order_of_the_jobs():
    todo = [make.job(name, context) for name in ("attention", "mamba2") for context in (64, 128)]
    with fakes.client() as client:
        outcomes = list(client(todo))
    assert outcomes == [fakes.formula(job) for job in todo]


@pytest.mark.parametrize("fault", [*fakes.FAULTS, "wrong"])
def test_a_worker_that_fails_becomes_its_own_failure_and_the_sweep_goes_on(fault, tmp_path):
    todo = fakes.jobs(3)
    todo[1] = structs.replace(todo[1], budget=patience(fault))
    tag = f"tag-{os.getpid()}-{fault}"
    environ = {"SSMPROF_TEST_TAG": tag}
    with fakes.client({todo[1].key: fault}, tmp_path, environ=environ) as client:
        before, failed, after = client(todo)
    assert [before, after] == [fakes.formula(todo[0]), fakes.formula(todo[2])]
    reason = fakes.EXPECTED.get(fault, "crash")
    if reason is None:
        assert failed == fakes.formula(todo[1])
    else:
        assert isinstance(failed, Failure)
        assert failed.key == todo[1].key
        assert failed.reason == reason
        assert failed.environment == make.ENVIRONMENT.fingerprint
    assert fakes.gone(tag) == []


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("kill", "killed by SIGKILL; in pass latency"),
        ("segfault", "killed by SIGSEGV; in pass latency"),
        ("exit", "ended with exit status 3; in pass latency; last output: last words"),
        ("hang", "no answer within 0.4 s"),
        ("rubbish", "gave no valid answer: "),
        ("wrong", "gave no valid answer: not that of mamba2 prefill 64 b1 eager"),
        ("out-of-memory", "OutOfMemoryError: CUDA out of memory."),
        ("illegal-address", "RuntimeError: CUDA error: an illegal memory access"),
        ("unsupported", "no kernel for this shape"),
    ],
)
def test_a_failure_says_what_happened_and_where(fault, text, tmp_path):
    todo = fakes.jobs(1, budget=patience(fault))
    with fakes.client({todo[0].key: fault}, tmp_path) as client:
        (failed,) = client(todo)
    assert failed.detail.startswith(text)


def test_a_hang_is_reported_with_its_stack(tmp_path):
    todo = fakes.jobs(1, budget=structs.replace(make.QUICK, timeout_s=1.0))
    with fakes.client({todo[0].key: "hang"}, tmp_path) as client:
        (failed,) = client(todo)
    assert "_hang (fakes.py:" in failed.detail


def test_out_of_memory_tells_what_was_asked_free_and_predicted(tmp_path):
    todo = fakes.jobs(1)
    faults = {todo[0].key: "out-of-memory"}
    with fakes.client(faults, tmp_path, predict=lambda job: 4 * 2**30) as client:
        (failed,) = client(todo)
    assert failed.asked_bytes == 2 * 2**30
    assert failed.free_bytes == 1.5 * 2**30
    assert failed.predicted_bytes == 4 * 2**30


def test_beyond_two_contexts_without_room_the_rest_is_skipped_with_the_prediction(tmp_path):
    todo = [make.job("attention", context) for context in (512, 1024, 2048, 4096, 8192)]
    faults = {job.key: "out-of-memory" for job in todo[2:]}
    with fakes.client(faults, tmp_path, predict=lambda job: 2**40) as client:
        outcomes = list(client(todo))
    assert [getattr(outcome, "reason", "measured") for outcome in outcomes] == [
        "measured", "measured", "out-of-memory", "out-of-memory", "skipped"
    ]  # fmt: skip
    assert "2K and 4K tokens ran out of memory; predicted: 1.00 TiB" in outcomes[4].detail


def test_what_did_not_fit_in_an_earlier_session_is_not_tried_again():
    known = [make.failure("attention", context) for context in (2048, 4096)]
    with fakes.client(known=known) as client:
        (skipped,) = client([make.job("attention", 8192)])
    assert skipped.reason == "skipped"


def test_a_block_in_a_round_is_served_by_one_worker_and_another_round_by_another():
    todo = [make.job("mamba2", 64, round=number, passes=FRESH, seed=number) for number in (0, 1)]
    pids = []
    with fakes.client() as client:
        for outcome in client(todo):
            pids.append(outcome.memory.process_used_bytes)
            pids.append(client._worker.pid)
    assert len(set(pids)) == 4


def test_memory_is_weighed_in_a_process_of_its_own_and_joins_the_measurement():
    todo = [make.job("mamba2", context, passes=FRESH) for context in (64, 128)]
    with fakes.client() as client:
        first, second = client(todo)
    assert first.memory.process_used_bytes != second.memory.process_used_bytes
    assert first.cold_s == 1.5
    assert first.measuring_s == pytest.approx(0.1)
    assert first.wall_s > 0.0


@pytest.mark.parametrize("fault", ["kill", "hang", "rubbish", "out-of-memory", "closed-pipe"])
def test_memory_that_cannot_be_weighed_costs_a_note_and_not_the_point(fault, tmp_path):
    todo = fakes.jobs(1, budget=patience(fault), passes=FRESH)
    with fakes.client({f"memory {todo[0].key}": fault}, tmp_path) as client:
        (measured,) = client(todo)
    assert isinstance(measured, Measurement)
    assert measured.memory is None
    assert [note.kind for note in measured.notes] == ["memory"]


@pytest.mark.parametrize("fault", ["kill", "exit", "illegal-address"])
def test_a_worker_that_dies_while_it_starts_is_a_failure_of_its_point(fault, tmp_path):
    with fakes.client({"start": fault}, tmp_path) as client:
        outcomes = list(client(fakes.jobs(2)))
    assert [outcome.reason for outcome in outcomes] == ["crash", "crash"]
    assert outcomes[0].environment in client.environments


DEADLY = ("kill", "segfault", "orphan")


@pytest.mark.parametrize("fault", DEADLY)
@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_a_point_whose_process_was_killed_is_tried_twice_more(fault, deaths, tmp_path):
    todo = fakes.jobs(2)
    faults = {todo[0].key: f"{fault} {deaths}"}
    with fakes.client(faults, tmp_path) as client:
        first, second = client(todo)
    assert second == fakes.formula(todo[1])
    if deaths <= 2:
        assert first == fakes.formula(todo[0])
    else:
        assert first.reason == "crash"
        assert first.transient
        assert first.detail.endswith("; tried 3 times")


@pytest.mark.parametrize("fault", [*fakes.FAULTS, "wrong"])
def test_what_says_something_about_the_point_is_not_transient(fault, tmp_path):
    (job,) = fakes.jobs(1, budget=patience(fault))
    with fakes.client({job.key: fault}, tmp_path) as client:
        (outcome,) = client([job])
    transient = fault in (*DEADLY, "closed-pipe")
    assert getattr(outcome, "transient", False) == transient


@pytest.mark.parametrize("deaths", [1, 2])
def test_memory_is_weighed_again_where_its_process_was_killed(deaths, tmp_path):
    (job,) = fakes.jobs(1, passes=FRESH)
    with fakes.client({f"memory {job.key}": f"kill {deaths}"}, tmp_path) as client:
        (measured,) = client([job])
    assert measured.memory is not None
    assert measured.notes == ()


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_passing_death_in_a_pass_does_not_spare_the_pass(deaths, tmp_path):
    passes = structs.replace(FRESH, parts=True, memory="off")
    todo = fakes.jobs(2, passes=passes)
    told = []
    faults = {"parts of all": f"kill {deaths}"}
    with fakes.client(faults, tmp_path, on_disabled=told.append) as client:
        outcomes = list(client(todo))
        assert outcomes == [fakes.formula(job) for job in todo]
        assert told == []


def test_a_worker_that_reads_nothing_cannot_hold_its_parent():
    (job,) = fakes.jobs(1, budget=fakes.IMPATIENT)
    with fakes.client() as client:
        client._worker, client._group = client._staff.start(0), (job.point.block_digest, 0)
        client._chosen = lambda _: {f"op {number}": "x" * 1000 for number in range(1000)}
        os.kill(client._worker.pid, signal.SIGSTOP)
        (lost,) = client([job])
    assert lost.reason == "timeout"
    assert "no answer within 0.4 s" in lost.detail


def test_a_death_by_a_signal_without_a_name_is_told_by_its_number(tmp_path):
    (job,) = fakes.jobs(1)
    with fakes.client({job.key: "real-time-signal"}, tmp_path) as client:
        (lost,) = client([job])
    assert "killed by signal 40" in lost.detail


def test_scratch_goes_with_the_run_and_that_of_a_dead_one_with_the_next(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    code = (
        "from ssmprof.measure.workers.scratch import Scratch; import os; s = Scratch(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **fakes.ENVIRON})
    (abandoned,) = tmp_path.iterdir()
    with fakes.client() as client:
        list(client(fakes.jobs(1)))
        assert not abandoned.exists()
        (mine,) = tmp_path.iterdir()
        other = scratch.Scratch()
        assert mine.exists(), "a living run keeps its own"
        other.close()
    assert list(tmp_path.iterdir()) == []


def test_a_scratch_folder_that_is_closed_while_it_is_closed_is_closed_once(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    one, closed, calls = scratch.Scratch(), [], []

    def again(*_, **__):
        calls.append(0)
        if len(calls) == 1:
            raise KeyboardInterrupt
        if len(calls) == 2:
            one.close()

    monkeypatch.setattr(scratch.shutil, "rmtree", again)
    monkeypatch.setattr(scratch.os, "close", closed.append)
    with pytest.raises(KeyboardInterrupt):
        one.close()
    one.close()
    assert (len(calls), len(closed)) == (3, 1)


def test_temporary_files_of_workers_go_with_the_scratch_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (job,) = fakes.jobs(1)
    folder = tmp_path.with_name("faults")
    folder.mkdir()
    with fakes.client({job.key: "litter 1"}, folder) as client:
        assert list(client([job])) == [fakes.formula(job)]
        assert any(file.name == "litter" for file in tmp_path.rglob("*"))
    assert list(tmp_path.iterdir()) == []


def test_a_watch_can_condemn_a_worker(tmp_path):
    class Watch:
        period_s = 0.05

        def __call__(self, pid):
            return "available memory fell below 300 MiB"

    todo = fakes.jobs(1)
    with fakes.client({todo[0].key: "hang"}, tmp_path, watch=Watch()) as client:
        (failed,) = client(todo)
    assert failed.reason == "out-of-memory"
    assert failed.detail.startswith("available memory fell below 300 MiB")


def test_a_runner_that_cannot_be_imported_is_an_error_a_user_can_read():
    client = fakes.client(environ={"PYTHONPATH": ""})
    client._staff.runner = "no_such_module:Runner"
    with client, pytest.raises(SsmprofError, match="does not start") as raised:
        list(client(fakes.jobs(1)))
    assert "no_such_module" in raised.value.cause


def test_environments_are_announced_before_the_outcomes_that_name_them():
    told = []
    with fakes.client(on_environment=told.append) as client:
        for outcome in client(fakes.jobs(2)):
            assert outcome.environment in {found.fingerprint for found in told}
    assert told == [make.ENVIRONMENT]


def test_the_parent_sleeps_while_a_worker_measures(tmp_path):
    todo = fakes.jobs(1, budget=structs.replace(make.QUICK, timeout_s=1.5))
    with fakes.client({todo[0].key: "hang"}, tmp_path) as client:
        client._staff.start(0).end()
        before = os.times()
        list(client(todo))
        after = os.times()
    assert (after.user - before.user) + (after.system - before.system) < 0.3


@pytest.mark.parametrize("fault", ["segfault", "hang", "exit", "rubbish"])
def test_a_pass_that_kills_the_worker_costs_a_note_once_and_no_latency(fault, tmp_path):
    passes = structs.replace(FRESH, parts=True, cupti=True, energy=True, memory="off")
    todo = fakes.jobs(4, budget=patience(fault), passes=passes)
    faults = {"cupti of all": fault, "energy of all": fault}
    with fakes.client(faults, tmp_path) as client:
        outcomes = list(client(todo))
    bare = [structs.replace(outcome, notes=()) for outcome in outcomes]
    assert bare == [fakes.formula(job) for job in todo]
    kinds = [[note.kind for note in outcome.notes] for outcome in outcomes]
    assert kinds == [["broken-pass"], ["broken-pass"], [], []]
    assert " in pass parts: " in outcomes[0].notes[0].text
    assert " in pass energy: " in outcomes[1].notes[0].text


def test_the_first_call_of_a_block_may_compile_beyond_the_deadline(tmp_path):
    first, second = fakes.jobs(2)
    second = structs.replace(second, budget=fakes.IMPATIENT)
    faults = {first.key: "nap", second.key: "nap"}
    with fakes.client(faults, tmp_path, first_call_s=30.0) as client:
        compiled, hung = client([first, second])
    assert compiled == fakes.formula(first)
    assert hung.reason == "timeout"
