"""A real block through all passes on this CPU, in this process and in a worker."""

from __future__ import annotations

import make
import pytest
from msgspec import structs

from ssmprof.measure.point import PointRunner
from ssmprof.measure.workers import wire
from ssmprof.measure.workers.client import Client
from ssmprof.measure.workers.worker import UnsupportedError
from ssmprof.spec import Passes

EVERYTHING = Passes(parts=True, memory="block", energy=False, host=False, cupti=False)


@pytest.fixture(scope="module")
def runner():
    return PointRunner("cpu")


def measure(runner, job, stage):
    return runner.measure(wire.Measure(job=job), stage)


class Stages(list):
    """Stages as they are told, and what was kept on the way."""

    def __call__(self, name):
        self.append(name)

    def keep(self, measurement):
        self.append(measurement)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", ["attention", "mamba1", "mamba2", "hybrid"])
def test_every_kind_of_block_is_measured_with_its_parts_and_memory(runner, name, phase):
    job = make.job(name, 64, phase=phase, passes=EVERYTHING)
    found = measure(runner, job, Stages())
    assert found.point == job.point
    assert found.environment == runner.environment().fingerprint
    assert found.timer == "wall-clock"
    assert len(found.times_s) >= 3
    assert all(time_s > 0 for time_s in found.times_s)
    assert not found.hot_times_s
    assert found.attribution.route == "wall-clock"
    assert {part.family for part in found.attribution.kernels} & {"scan", "attention"}
    assert found.memory.weights_bytes > 0
    assert found.memory.cache_bytes > 0
    assert found.cost.flops > 0
    assert found.providers
    assert 0 < found.measuring_s <= found.wall_s


def test_a_graph_on_a_cpu_is_unsupported_and_never_silently_eager(runner):
    with pytest.raises(UnsupportedError, match="a CPU has no CUDA graphs"):
        measure(runner, make.job("attention", 64, execution="graph"), Stages())


def test_a_block_is_built_once_for_all_its_contexts(runner):
    measure(runner, make.job("attention", 64), Stages())
    built = runner._model
    measure(runner, make.job("attention", 128), Stages())
    assert runner._model is built
    measure(runner, make.job("mamba2", 64), Stages())
    assert runner._model is not built


def test_a_pass_that_fails_costs_a_note_and_not_the_latency(runner, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("the profiler is not permitted")

    monkeypatch.setattr("ssmprof.measure.attribution.attribute", broken)
    found = measure(runner, make.job("attention", 64, passes=EVERYTHING), Stages())
    assert found.times_s
    assert found.attribution is None
    assert [note.text for note in found.notes if note.kind == "broken-pass"] == [
        "parts: RuntimeError: the profiler is not permitted"
    ]


def test_stages_name_the_passes_in_their_order(runner):
    stages = Stages()
    found = measure(runner, make.job("attention", 64, passes=EVERYTHING), stages)
    kept = stages.pop(3)
    assert stages == ["build", "warm-up", "latency", "parts", "memory"]
    assert kept.times_s == found.times_s
    assert kept.attribution is None


def test_a_real_block_is_measured_in_a_worker_and_weighed_in_another():
    fresh = structs.replace(EVERYTHING, parts=False, memory="fresh")
    jobs = [make.job("hybrid", 64, passes=fresh), make.job("hybrid", 64, execution="graph")]
    with Client("cpu") as client:
        measured, unsupported = client(jobs)
    assert measured.memory.fresh
    assert measured.cold_s > 0
    assert unsupported.reason == "unsupported"
    assert client.environments[measured.environment].torch
