"""A real block on a real GPU, through workers and every pass."""

from __future__ import annotations

import make
import pytest
from msgspec import structs

from ssmprof.measure.workers.client import Client
from ssmprof.records import Measurement
from ssmprof.spec import Budget, Passes

pytestmark = pytest.mark.gpu

BUDGET = Budget(rounds=1, min_samples=10, min_time_s=0.05, max_noise=0.02, point_s=1.0)
EVERYTHING = Passes(parts=True, memory="fresh", energy=False, host=False, cupti=True)


@pytest.fixture(scope="module")
def outcomes():
    jobs = [
        make.job(
            name, 1024, phase=phase, execution=execution, dtype="bfloat16", budget=BUDGET,
            passes=structs.replace(EVERYTHING, parts=execution == "graph"),
        )
        for name in ("attention", "mamba1", "mamba2", "parallel")
        for phase in ("prefill", "decode")
        for execution in ("graph", "eager")
    ]  # fmt: skip
    with Client("cuda") as client:
        return list(client(jobs))


def test_every_point_is_measured(outcomes):
    assert [getattr(outcome, "detail", "") for outcome in outcomes] == [""] * len(outcomes)


def test_a_graph_is_no_slower_than_the_eager_call(outcomes):
    for graph, eager in zip(outcomes[::2], outcomes[1::2], strict=True):
        assert graph.timer == "cuda-graph"
        assert eager.timer == "wall-clock"
        assert 0 < graph.time_s < eager.time_s


def test_the_parts_explain_the_whole_of_a_graph(outcomes):
    for graph in outcomes[::2]:
        assert graph.attribution.route == "graph-events"
        assert graph.attribution.closure < 0.10
        assert graph.launches >= len(graph.attribution.kernels) / 2


def test_memory_is_weighed_in_a_fresh_process(outcomes):
    for outcome in outcomes:
        assert isinstance(outcome, Measurement)
        assert outcome.memory.fresh
        assert outcome.memory.allocator_peak_bytes > outcome.memory.weights_bytes


def test_the_clock_of_the_device_is_read_on_the_device(outcomes):
    for outcome in outcomes:
        assert 3e8 < outcome.clocks.sm_after_hz < 4e9
