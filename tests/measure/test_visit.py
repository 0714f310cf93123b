"""Contenders in turn on a real device: this machine's CPU, real blocks."""

from __future__ import annotations

import time

import make
import pytest
from msgspec import structs

from ssmprof.devices import NullDevice
from ssmprof.devices.base import Device
from ssmprof.measure.timing.bench import Bench
from ssmprof.measure.timing.pairs import log_ratio
from ssmprof.measure.timing.sustained import Steady
from ssmprof.measure.visit import Contenders
from ssmprof.measure.workers import wire
from ssmprof.measure.workers.client import Client
from ssmprof.records import Energy, Failure, Measurement, Sampling, Visit
from ssmprof.scalars import digest
from ssmprof.spec import ForeignSpec

SHORT = Sampling(pairs=4)


def quiet(name: str) -> None:
    """Stages that nobody listens to."""


def bench(device: Device | None = None) -> Bench:
    return Bench("cpu", device or NullDevice("cpu", "no sensors", "cpu"), "here", lambda: 0)


def pair(*names: str, context: int = 64, sampling: Sampling = SHORT, **changes) -> wire.Pair:
    visit = make.visit(*names, contexts=(context,), sampling=sampling, **changes)
    (jobs,) = visit.lengths()
    return wire.Pair(jobs=jobs, chosen=({},) * len(jobs), sampling=sampling)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("batch", [1, 3])
def test_two_blocks_are_measured_in_turn(phase, batch):
    asked = pair("attention", "mamba2", phase=phase, batch=batch)
    found = Contenders(bench()).measure(asked, quiet)
    assert found.apart is None
    assert [one.key for one in found.outcomes] == [job.key for job in asked.jobs]
    first, second = found.outcomes
    assert (first.beside, second.beside) == ("mamba2", "attention")
    assert len(first.times_s) == len(second.times_s) == 4
    assert first.mode == "cold"
    assert first.timer == "wall-clock"
    assert first.providers["rms_norm"] == "torch"
    assert first.cost is not None
    assert 0 < first.measuring_s < first.wall_s


def test_three_contenders_stand_beside_two_each_and_one_alone_beside_none():
    contenders = Contenders(bench())
    found = contenders.measure(pair("attention", "mamba1", "mamba2"), quiet).outcomes
    assert [one.beside for one in found] == [
        "mamba1, mamba2", "attention, mamba2", "attention, mamba1"
    ]  # fmt: skip
    asked = pair("attention", "mamba2")
    alone = wire.Pair(jobs=asked.jobs[:1], chosen=({},), sampling=SHORT)
    (one,) = contenders.measure(alone, quiet).outcomes
    assert one.beside is None


def test_a_contender_is_built_once_for_all_lengths(monkeypatch):
    built = []
    real = make_build()
    monkeypatch.setattr(
        "ssmprof.measure.visit.build", lambda *args: (built.append(args[0].name), real(*args))[1]
    )
    contenders = Contenders(bench())
    for context in (32, 64, 128):
        contenders.measure(pair("attention", "mamba2", context=context), quiet)
    assert built == ["attention", "mamba2"]


def make_build():
    from ssmprof.models.build import build

    return build


def test_one_block_under_two_names_is_equal_within_its_error():
    """A ratio of wall times on a busy machine: six errors, and a tenth at most."""
    twins = (make.block("mamba2"), make.block("other"))
    points = tuple(
        structs.replace(make.point("mamba2", 256), block=twin.name, block_digest=digest(twin))
        for twin in twins
    )
    sampling = Sampling(pairs=60, length_s=20.0)
    visit = Visit(subjects=twins, points=(points,), round=0, budget=make.QUICK, sampling=sampling)
    asked = wire.Pair(jobs=visit.jobs(), chosen=({}, {}), sampling=sampling)
    first, second = Contenders(bench()).measure(asked, quiet).outcomes
    found = log_ratio(first.times_s, second.times_s)
    assert abs(found.mean) < max(0.1, 6 * found.error)


def test_a_foreign_model_is_measured_beside_ours(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\n"
        "def tiny():\n"
        "    return torch.nn.Sequential(torch.nn.Embedding(30, 16), torch.nn.Linear(16, 16))\n"
    )
    theirs = ForeignSpec(name="tiny", factory=f"{file}:tiny")
    asked = pair("attention", "mamba2")
    point = structs.replace(asked.jobs[0].point, block="tiny", block_digest=digest(theirs))
    jobs = (structs.replace(asked.jobs[0], point=point, subject=theirs), asked.jobs[1])
    found = Contenders(bench()).measure(structs.replace(asked, jobs=jobs), quiet)
    assert [one.beside for one in found.outcomes] == ["mamba2", "tiny"]


def test_what_cannot_run_here_is_its_own_failure_and_the_other_goes_on():
    asked = pair("attention", "mamba2")
    graph = structs.replace(asked.jobs[0].point, execution="graph")
    jobs = (structs.replace(asked.jobs[0], point=graph), asked.jobs[1])
    failed, measured = (
        Contenders(bench()).measure(structs.replace(asked, jobs=jobs), quiet).outcomes
    )
    assert isinstance(failed, Failure)
    assert failed.reason == "unsupported"
    assert isinstance(measured, Measurement)
    assert measured.beside is None


@pytest.mark.parametrize("where", ["warm-up of attention", "samples"])
@pytest.mark.parametrize(
    ("error", "apart"),
    [(RuntimeError("CUDA error: illegal memory access"), False), (MemoryError("no room"), True)],
)
def test_a_contender_that_breaks_is_blamed_or_told_not_to_fit(monkeypatch, where, error, apart):
    from ssmprof.models.build import workload

    stages = []

    def breaking(model, point, chosen):
        load = workload(model, point, chosen)
        call = load.call

        def limited():
            if point.block == "attention" and stages[-1] == where:
                raise error
            return call()

        load.call = limited
        return load

    monkeypatch.setattr("ssmprof.measure.visit.workload", breaking)
    found = Contenders(bench()).measure(pair("attention", "mamba2"), stages.append)
    if apart:
        assert "no room" in found.apart
        assert not found.outcomes
    else:
        assert [(one.point.block, one.reason) for one in found.outcomes] == [("attention", "crash")]


def test_stages_name_the_contender_they_belong_to():
    stages = []
    Contenders(bench()).measure(pair("attention", "mamba2"), stages.append)
    assert stages == [
        "build of attention", "warm-up of attention", "capture of attention", "build of mamba2",
        "warm-up of mamba2", "capture of mamba2", "samples",
    ]  # fmt: skip


def test_a_provider_that_gives_way_is_a_note():
    asked = pair("attention", "mamba2")
    chosen = ({"rms_norm": "fla"}, {})
    first, second = (
        Contenders(bench()).measure(structs.replace(asked, chosen=chosen), quiet).outcomes
    )
    assert [note.text for note in first.notes if note.kind == "provider"] == [
        "rms_norm: torch for fla, which is not installed here"
    ]
    assert not [note for note in second.notes if note.kind == "provider"]


def test_sustained_windows_last_as_long_as_asked_and_alternate():
    sampling = Sampling(mode="sustained", windows=3, window_s=0.05)
    first, second = (
        Contenders(bench()).measure(pair("attention", "mamba2", sampling=sampling), quiet).outcomes
    )
    assert first.mode == second.mode == "sustained"
    assert len(first.times_s) == len(second.times_s) == 3
    for one in (first, second):
        assert one.calls_per_sample * one.times_s[-1] >= 0.05
        assert one.sm_clocks_hz == ()


def test_a_window_counts_its_calls_after_a_lead_in():
    calls = []

    def call():
        calls.append(time.perf_counter())
        time.sleep(1e-3)

    steady = Steady(call, bench(), 1e-3, least_s=0.02)
    taken = steady.window()
    assert taken > 1e-3
    assert steady.calls * taken >= 0.02
    assert len(calls) >= steady.calls + 200  # 0.2 s of a millisecond each before


class Meter(NullDevice):
    """A device whose counter moves with the clock, at 10 W."""

    def energy_j(self) -> float | None:
        return round(time.perf_counter() * 100) / 100 * 10.0


def test_joules_of_contenders_come_from_windows_in_turn(monkeypatch):
    monkeypatch.setattr("ssmprof.measure.visit._ENERGY_WINDOW_S", 0.1)
    device = Meter("cpu", "", "cpu")
    sampling = Sampling(mode="sustained", windows=2, window_s=0.05, energy=True)
    found = Contenders(bench(device)).measure(pair("attention", "mamba2", sampling=sampling), quiet)
    for one in found.outcomes:
        assert isinstance(one.energy, Energy)
        assert len(one.energy.windows_j) == 2
        assert one.energy.mean_power_w == pytest.approx(10, rel=0.2)


def test_a_device_without_a_meter_gives_times_and_a_reason():
    sampling = Sampling(mode="sustained", windows=1, window_s=0.05, energy=True)
    first, _ = (
        Contenders(bench()).measure(pair("attention", "mamba2", sampling=sampling), quiet).outcomes
    )
    assert first.energy is None
    assert [note.kind for note in first.notes if note.kind == "energy"] == ["energy"]


def test_a_visit_of_real_blocks_goes_through_a_real_worker():
    visit = make.visit("attention", "mamba2", contexts=(32, 64))
    with Client("cpu") as client:
        outcomes = list(client([visit]))
    assert [one.key for one in outcomes] == [job.key for job in visit.jobs()]
    assert [getattr(one, "detail", "") for one in outcomes] == [""] * 4
    assert [one.beside for one in outcomes] == ["mamba2", "attention"] * 2
    assert outcomes[0].environment in client.environments
