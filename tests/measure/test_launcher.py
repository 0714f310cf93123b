"""The process that workers are forked from: dead, stopped or unable to fork, it costs no point."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
import time

import fakes
import make
import pytest

from ssmprof.measure.workers import control, process


def test_a_launcher_that_is_killed_is_replaced(tmp_path):
    first, second, third = fakes.jobs(3)
    with fakes.client() as client:
        assert list(client([first])) == [fakes.formula(first)]
        client._staff.pool.process.kill()
        client._staff.pool.process.wait()
        assert list(client([second, third])) == [fakes.formula(second), fakes.formula(third)]


def test_a_launcher_whose_socket_ended_is_replaced_although_it_runs():
    first, second = fakes.jobs(2)
    with fakes.client() as client:
        list(client([first]))
        client._end_worker()
        client._staff.pool._control.close()
        client._staff.pool._control.broken = True
        assert list(client([second])) == [fakes.formula(second)]


def test_a_stopped_launcher_is_replaced_and_holds_nobody(monkeypatch):
    monkeypatch.setattr(control, "ANSWER_S", 0.5)
    first, second = fakes.jobs(2)
    tag = f"tag-{os.getpid()}-stopped"
    with fakes.client(environ={"SSMPROF_TEST_TAG": tag}) as client:
        list(client([first]))
        client._end_worker()
        os.kill(client._staff.pool.process.pid, signal.SIGSTOP)
        began = time.monotonic()
        assert list(client([second])) == [fakes.formula(second)]
        assert time.monotonic() - began < 10.0
    assert fakes.gone(tag) == []


def test_a_launcher_that_is_stopped_while_its_worker_hangs_holds_nobody(monkeypatch, tmp_path):
    monkeypatch.setattr(process, "FAREWELL_S", 0.2)
    hung, after = fakes.jobs(2, budget=fakes.IMPATIENT)
    tag = f"tag-{os.getpid()}-both"
    environ = {"SSMPROF_TEST_TAG": tag}
    with fakes.client({hung.key: "hang"}, tmp_path, environ=environ) as client:
        client._worker, client._group = client._staff.start(0), (hung.point.block_digest, 0)
        os.kill(client._staff.pool.process.pid, signal.SIGSTOP)
        lost, measured = client([hung, after])
    assert lost.reason == "timeout"
    assert measured == fakes.formula(after)
    assert fakes.gone(tag) == []


def test_a_fork_that_fails_is_tried_again(tmp_path):
    first, second = fakes.jobs(2)
    faults = {"fork": "refuse 2"}
    with fakes.client(faults, tmp_path) as client:
        assert list(client([first, second])) == [fakes.formula(first), fakes.formula(second)]


def test_a_fork_that_always_fails_is_a_transient_failure_and_the_launcher_lives(tmp_path):
    (job,) = fakes.jobs(1)
    with fakes.client({"fork": "refuse"}, tmp_path) as client:
        (lost,) = client([job])
        assert client._staff.pool.alive()
    assert lost.transient
    assert "no worker could be started: Resource temporarily unavailable" in lost.detail


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_a_launcher_that_cannot_be_started_is_tried_again(monkeypatch, number):
    started, failures = subprocess.Popen, [number, number]

    def popen(*arguments, **changes):
        if failures:
            raise OSError(failures.pop(), os.strerror(number))
        return started(*arguments, **changes)

    monkeypatch.setattr(subprocess, "Popen", popen)
    (job,) = fakes.jobs(1)
    with fakes.client() as client:
        assert list(client([job])) == [fakes.formula(job)]


def test_a_launcher_that_is_killed_while_it_starts_is_tried_again(tmp_path):
    (job,) = fakes.jobs(1)
    with fakes.client({"import": "kill 2"}, tmp_path) as client:
        assert list(client([job])) == [fakes.formula(job)]


def test_a_later_launcher_that_cannot_start_does_not_end_the_sweep(tmp_path):
    first = make.job("mamba2", 64, round=0)
    second = make.job("mamba2", 64, round=1)
    with fakes.client({}, tmp_path) as client:
        list(client([first]))
        client._staff.runner = "no_such_module:Runner"
        (lost,) = client([second])
    assert lost.transient
    assert "no_such_module" in lost.detail


def test_what_a_killed_launcher_leaves_of_its_workers_is_ended(tmp_path):
    """The kernel kills a worker with its launcher, and a compiler of the worker by our hand."""
    (job,) = fakes.jobs(1)
    tag = f"tag-{os.getpid()}-compiler"
    faults = {job.key: "compiling 1"}
    environ = {"SSMPROF_TEST_TAG": tag}
    with fakes.client(faults, tmp_path, environ=environ) as client:
        client._worker, client._group = client._staff.start(0), (job.point.block_digest, 0)
        threading.Timer(0.3, client._staff.pool.process.kill).start()
        assert list(client([job])) == [fakes.formula(job)]
        assert len(fakes.processes(tag)) == 2
    assert fakes.gone(tag) == []


def test_workers_of_a_cpu_keep_what_they_free_unless_the_user_says_otherwise(monkeypatch, tmp_path):
    monkeypatch.setenv("MALLOC_TOP_PAD_", "4096")
    monkeypatch.delenv("MALLOC_MMAP_MAX_", raising=False)
    (first,) = fakes.jobs(1)
    with fakes.client(folder=tmp_path) as client:
        list(client([first]))
        own = client._staff.pool.process.pid
        with open(f"/proc/{own}/environ", "rb") as file:
            found = dict(one.split(b"=", 1) for one in file.read().split(b"\0") if b"=" in one)
    assert (found[b"MALLOC_MMAP_MAX_"], found[b"MALLOC_TOP_PAD_"]) == (b"0", b"4096")


def test_an_interrupt_while_the_launcher_ends_leaves_nothing(monkeypatch):
    (first,) = fakes.jobs(1)
    tag = f"tag-{os.getpid()}-interrupted"
    with fakes.client(environ={"SSMPROF_TEST_TAG": tag}) as client:
        list(client([first]))
        client._end_worker()
        pool = client._staff.pool

        def interrupted(timeout=None):
            raise KeyboardInterrupt

        monkeypatch.setattr(pool.process, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.close()
        monkeypatch.undo()
        assert not pool._scratch.path.exists()
        pool.process.wait()
    assert fakes.gone(tag) == []
