"""The worker by itself: what it says on the pipe, and how an exception becomes a reason."""

from __future__ import annotations

import os

import fakes
import make
import pytest

from ssmprof.errors import ConfigError
from ssmprof.measure.workers import wire
from ssmprof.measure.workers.worker import UnsupportedError, classify, load
from ssmprof.records import Measurement


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError("no"), "out-of-memory"),
        (fakes.OutOfMemoryError("CUDA out of memory."), "out-of-memory"),
        (RuntimeError("CUDA error: out of memory"), "out-of-memory"),
        (RuntimeError("NVML_SUCCESS == r INTERNAL ASSERT FAILED; out of memory"), "out-of-memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: error 12"), "out-of-memory"),
        (RuntimeError("CUDA error: device-side assert triggered"), "crash"),
        (TypeError("no"), "crash"),
        (NotImplementedError("no kernel for this shape"), "unsupported"),
        (UnsupportedError("no graphs"), "unsupported"),
        (ConfigError("no such provider"), "unsupported"),
    ],
)
def test_an_exception_is_classified_by_what_it_means(error, reason):
    assert classify(error)[0] == reason


def test_the_sizes_of_an_out_of_memory_error_are_read_from_it():
    _, _, asked, free = classify(fakes.OutOfMemoryError(fakes.OUT_OF_MEMORY))
    assert (asked, free) == (2 * 2**30, 1.5 * 2**30)


def test_the_detail_of_a_failure_is_one_line_of_bounded_length():
    _, detail, _, _ = classify(RuntimeError("a\nb" * 1000))
    assert "\n" not in detail
    assert len(detail) <= 400


def test_a_runner_is_named_by_module_and_attribute():
    assert load(fakes.RUNNER).__name__ == "FakeRunner"


@pytest.mark.parametrize(
    "message", [wire.Measure(job=make.job()), wire.Weigh(job=make.job("attention"))]
)
def test_requests_survive_the_pipe(message):
    assert wire.request(wire.line(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        wire.Hello(environment=make.ENVIRONMENT),
        wire.Doing(stage="latency"),
        wire.Answer(outcome=make.measurement()),
        wire.Answer(outcome=make.failure()),
        wire.Weighed(key="k", memory=make.memory()),
    ],
)
def test_answers_survive_the_pipe(message):
    assert wire.reply(wire.line(message)) == message


def test_a_worker_is_the_first_victim_of_a_host_without_memory_and_leads_a_group():
    with fakes.client() as client:
        (outcome,) = client([make.job()])
        assert isinstance(outcome, Measurement)
        pid = client._worker.pid
        with open(f"/proc/{pid}/oom_score_adj") as file:
            assert file.read().strip() == "1000"
        assert os.getpgid(pid) == pid
