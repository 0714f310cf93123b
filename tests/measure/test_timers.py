"""Timers on the host's clock; device timers are tested where there is a device."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch

from ssmprof.measure.timing.bench import captured
from ssmprof.measure.timing.timers import (
    CudaTimer,
    GraphTimer,
    L2Flush,
    WallTimer,
    Window,
    calls_for,
    capture,
)
from ssmprof.measure.workers.worker import UnsupportedError


class Steps:
    """A clock and the things that move it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def step(self, name: str, seconds: float):
        def run() -> None:
            self.log.append(name)
            self.now += seconds

        return run


def test_a_wall_timer_counts_submission_and_waiting_but_not_the_flush():
    steps = Steps()
    timer = WallTimer(
        steps.step("call", 0.002),
        synchronize=steps.step("wait", 0.5),
        flush=steps.step("flush", 7.0),
        clock=lambda: steps.now,
    )
    assert timer.sample() == pytest.approx(0.502)
    assert steps.log == ["flush", "wait", "call", "wait"]


@pytest.mark.parametrize(("call_s", "calls"), [(1.0, 1), (2e-3, 1), (0.9e-3, 3), (1e-9, 64)])
def test_a_window_holds_as_many_calls_as_its_events_need(call_s, calls):
    assert calls_for(call_s) == calls


@pytest.mark.gpu
def test_a_spin_of_one_millisecond_is_measured_as_one():
    from ssmprof.measure.timing.spin import Spin

    spin = Spin(1e-3)
    spin()
    timer = CudaTimer(spin, 1e-3)
    assert sorted(timer.sample() for _ in range(9))[4] == pytest.approx(spin.spun_s(), rel=5e-3)


def test_a_capture_that_fails_says_what_failed_first(monkeypatch):
    """The end of a broken capture raises an error of its own, which says nothing."""

    def broken(call):
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nCompile with")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    monkeypatch.setattr("ssmprof.measure.timing.bench.capture", broken)
    monkeypatch.setattr("torch.cuda.synchronize", lambda: None)
    load: Any = types.SimpleNamespace(call=None)
    with pytest.raises(
        UnsupportedError, match=r"graph: operation not permitted when stream is capturing$"
    ):
        captured(load)


def test_the_first_graph_of_a_process_is_given_up_before_any_is_timed(monkeypatch):
    made: list[str] = []

    class Graph:
        def __init__(self) -> None:
            made.append("made")

        def replay(self) -> None:
            made.append("replayed")

        def __del__(self) -> None:
            made.append("given up")

    monkeypatch.setattr("ssmprof.measure.timing.bench._young", True)
    monkeypatch.setattr("ssmprof.measure.timing.bench.capture", lambda call: (Graph(), 3))
    monkeypatch.setattr("torch.cuda.synchronize", lambda: None)
    load: Any = types.SimpleNamespace(call=None)
    first, launches = captured(load)
    assert (made, launches) == (["made", "replayed", "given up", "made"], 3)
    second, _ = captured(load)
    assert made[4:] == ["made"]
    assert first is not second


@pytest.mark.gpu
def test_a_flushed_call_is_slower_than_a_hot_one_and_the_flush_is_not_counted():
    words = torch.ones(8 * 2**20, dtype=torch.int32, device="cuda")  # 32 MiB: fits in the L2
    out = torch.zeros((), dtype=torch.int32, device="cuda")

    def call() -> None:
        torch.amax(words, 0, out=out)

    call()
    graph, launches = capture(call)
    assert launches is None or launches >= 1
    flush = L2Flush.of_device()
    hot, cold = GraphTimer(graph, 20e-6), GraphTimer(graph, 20e-6, flush)
    hot_s, cold_s = (sorted(timer.sample() for _ in range(9))[4] for timer in (hot, cold))
    assert 0 < hot_s < cold_s < hot_s + Window().seconds(flush)
