"""Sweeps that are hurt: no finished point is lost, no process left, a resume completes them."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import fakes
import make
import pytest
from msgspec import structs

from ssmprof.errors import StoreError
from ssmprof.records import Failure, Measurement
from ssmprof.session.loop import measure_all
from ssmprof.store.journal import Journal

ASKED = make.scenario(
    "attention", "mamba1", "mamba2", "hybrid",
    contexts=tuple(range(64, 64 * 26, 64)),
    budget=structs.replace(make.QUICK, rounds=2),
)  # fmt: skip
# A deadline that a test can wait for.
HURRIED = structs.replace(ASKED.budget, timeout_s=0.5)
# Every kind, the ones that cost a deadline or a farewell less often.
KINDS = ["kill", "segfault", "rubbish", "illegal-address", "unsupported", "exit", "orphan"] * 4
KINDS += ["chatter"] * 4 + ["wrong"] * 4 + ["hang"]


def nothing_more(scenario, outcomes):
    """A refinement that finds the answer good enough."""
    return ()


def scattered(scenario):
    """Its jobs, each on a curve of its own, so that no failure is a reason to skip another."""
    return tuple(
        structs.replace(job, point=structs.replace(job.point, seed=number))
        for number, job in enumerate(make.jobs(scenario))
    )


def swept(file: Path, measure, expand=scattered) -> str:
    journal = Journal(file)
    try:
        return measure_all(ASKED, journal, measure, nothing_more, expand=expand)
    finally:
        journal.close()


def outcomes(file: Path) -> dict:
    journal = Journal(file)
    journal.close()
    return {outcome.key: outcome for outcome in journal.outcomes}


@pytest.fixture
def uninterrupted(tmp_path):
    """Outcomes of the sweep when nothing happens to it."""
    with fakes.client() as client:
        swept(tmp_path / "whole.jsonl", client)
    return outcomes(tmp_path / "whole.jsonl")


def test_two_hundred_random_injections_lose_no_point_and_leave_no_process(tmp_path):
    jobs = scattered(ASKED)
    assert len(jobs) == 200
    draw = random.Random(20260)
    faults = {job.key: draw.choice(KINDS) for job in jobs}
    # One of the expensive kinds each, and a few untouched points among them.
    faults[jobs[40].key] = "closed-pipe"
    untouched = {job.key for job in jobs[::20]}
    faults = {key: fault for key, fault in faults.items() if key not in untouched}

    def expand(scenario):
        return tuple(
            structs.replace(job, budget=HURRIED) if faults.get(job.key) == "hang" else job
            for job in scattered(scenario)
        )

    tag = f"tag-200-{os.getpid()}"
    file = tmp_path / "outcomes.jsonl"
    with fakes.client(faults, tmp_path, environ={"SSMPROF_TEST_TAG": tag}) as client:
        assert swept(file, client, expand) == "done"
    found = outcomes(file)
    assert list(found) == [job.key for job in jobs]
    for job in jobs:
        fault = faults.get(job.key, "chatter")
        outcome, reason = found[job.key], fakes.EXPECTED.get(fault, "crash")
        if reason is None:
            assert isinstance(outcome, Measurement)
            assert outcome.times_s == pytest.approx(fakes.formula(job).times_s, rel=1e-5)
        else:
            assert isinstance(outcome, Failure)
            assert outcome.reason == reason, (fault, outcome.detail)
    assert fakes.gone(tag) == []


SWEEP = """
    import sys
    import fakes
    from measure_faults import ASKED, nothing_more, swept
    from pathlib import Path

    class Slow:
        def __init__(self, client):
            self.client = client
        def __call__(self, jobs):
            import time
            for outcome in self.client(jobs):
                time.sleep(0.01)
                yield outcome

    if __name__ == "__main__":
        with fakes.client(environ={"SSMPROF_TEST_TAG": sys.argv[2]}) as client:
            print(swept(Path(sys.argv[1]), Slow(client)))
"""


def start_sweep(tmp_path: Path, tag: str, hang_at: int | None = None) -> subprocess.Popen:
    """The same sweep in a process of its own, slow enough to be hit in the middle."""
    (tmp_path / "measure_faults.py").write_text(Path(__file__).read_text())
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SWEEP))
    paths = os.pathsep.join([fakes.ENVIRON["PYTHONPATH"], str(tmp_path)])
    environ = {**os.environ, "PYTHONPATH": paths}
    if hang_at is not None:
        file = tmp_path / "faults.json"
        file.write_text(json.dumps({scattered(ASKED)[hang_at].key: "hang"}))
        environ[fakes.FAULTS_FILE] = str(file)
    return subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "outcomes.jsonl"), tag],
        env=environ,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_lines(file: Path, count: int) -> None:
    end = time.monotonic() + 60.0
    while not file.exists() or file.read_bytes().count(b"\n") < count:
        assert time.monotonic() < end, "the sweep does not get going"
        time.sleep(0.01)


def resumed(file: Path) -> dict:
    with fakes.client() as client:
        swept(file, client)
    return outcomes(file)


def test_a_killed_parent_loses_no_finished_point_and_a_resume_equals_an_uninterrupted_run(
    tmp_path, uninterrupted
):
    tag, file = f"tag-parent-{os.getpid()}", tmp_path / "outcomes.jsonl"
    process = start_sweep(tmp_path, tag)
    wait_for_lines(file, 20)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert fakes.gone(tag) == []
    kept = outcomes(file)
    assert 20 <= len(kept) < len(uninterrupted)
    assert kept.items() <= uninterrupted.items()
    assert resumed(file) == uninterrupted
    assert file.read_bytes().count(b"\n") == len(uninterrupted), "a point was measured twice"


def test_one_interrupt_finishes_the_point_in_flight_and_saves_it(tmp_path, uninterrupted):
    tag, file = f"tag-int-{os.getpid()}", tmp_path / "outcomes.jsonl"
    process = start_sweep(tmp_path, tag)
    wait_for_lines(file, 10)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert said.strip() == "interrupted"
    assert fakes.gone(tag) == []
    assert outcomes(file).items() <= uninterrupted.items()
    assert resumed(file) == uninterrupted


def test_a_second_interrupt_stops_at_once_and_leaves_nothing(tmp_path, uninterrupted):
    tag, file = f"tag-twice-{os.getpid()}", tmp_path / "outcomes.jsonl"
    process = start_sweep(tmp_path, tag, hang_at=12)
    wait_for_lines(file, 12)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None, "the point in flight is waited for"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=5)
    assert process.returncode == -signal.SIGINT or process.returncode == 130
    assert fakes.gone(tag) == []
    assert resumed(file) == uninterrupted


def test_a_killed_launcher_takes_its_workers_along(tmp_path):
    tag = f"tag-launcher-{os.getpid()}"
    job = make.job("mamba2", 64, budget=structs.replace(make.QUICK, timeout_s=60.0))
    environ = {"SSMPROF_TEST_TAG": tag}
    with fakes.client({job.key: "hang"}, tmp_path, environ=environ) as client:
        client._worker = client._staff.start(job.round)
        client._group = (job.point.block_digest, job.round)
        threading.Timer(0.3, client._staff.pool.process.kill).start()
        client._first_call_s = 0.0
        (failed,) = client([structs.replace(job, budget=HURRIED)])
    assert fakes.gone(tag) == []
    assert failed.reason == "timeout", "tried again by another launcher, where it hangs, too"


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_torn_journal_line_is_measured_again(cut, tmp_path, uninterrupted):
    file = tmp_path / "whole.jsonl"
    data = file.read_bytes()
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(b"".join(data.splitlines(keepends=True)[:50])[:-cut])
    assert resumed(torn) == uninterrupted


def test_a_full_disk_stops_the_sweep_at_once_and_a_resume_completes_it(tmp_path, uninterrupted):
    file = tmp_path / "outcomes.jsonl"
    measured = 0

    def counting(jobs):
        nonlocal measured
        for outcome in make.measured_by(fakes.formula)(jobs):
            measured += 1
            yield outcome

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(StoreError, match="cannot be written"):
            swept(file, counting)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = outcomes(file)
    assert 0 < len(kept) == measured - 1
    assert resumed(file) == uninterrupted
