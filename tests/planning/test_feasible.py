"""Estimates before anything runs: what does not fit is named, and longer costs more."""

import pytest
from make import block, job, jobs, scenario
from msgspec.structs import replace

from ssmprof.planning import calls, feasible, library, spent
from ssmprof.planning.decided import deciding_s
from ssmprof.planning.expand import expand
from ssmprof.planning.scenario import load
from ssmprof.planning.strategies import expected
from ssmprof.spec import Budget, ForeignSpec, Passes

H200 = feasible.Machine.of_device("NVIDIA H200", "cuda")
H100 = feasible.Machine.of_device("NVIDIA H100 80GB HBM3", "cuda")
ORIN = feasible.Machine.of_device("NVIDIA Jetson Orin Nano 8GB", "cuda")
CPU = feasible.Machine.of_device("some CPU", "cpu", 8 * 2**30)


def test_known_chips_have_their_rates_and_unknown_ones_small_ones():
    assert H100.hopper
    assert H100.bytes_per_s > 3e12
    assert H100.memory_bytes > 70 * 2**30
    unknown = feasible.Machine.of_device("NVIDIA Nonesuch", "cuda")
    assert unknown.flops < H100.flops
    assert unknown.memory_bytes is None


def test_a_longer_call_on_a_slower_machine_takes_longer():
    def times(machine):
        return [
            calls.call_s(job("attention", c).subject, job("attention", c).point, machine)
            for c in (512, 4096, 32768)
        ]

    assert times(H100) == sorted(times(H100))
    assert all(slow > fast for slow, fast in zip(times(ORIN), times(H100), strict=True))


def test_a_pass_costs_its_time():
    plain = spent.job_s(job(passes=Passes(parts=False, memory="off")), H100)
    fresh = spent.job_s(job(passes=Passes(parts=False, memory="fresh")), H100)
    assert fresh >= plain + spent.FRESH_S["cuda"]


def test_a_plan_has_a_row_per_block_with_points_time_and_energy():
    asked = scenario(contexts=(512, 1024), budget=Budget(rounds=3))
    rows = feasible.plan(jobs(asked), H100)
    assert [row.block for row in rows] == ["attention", "mamba2"]
    assert [row.points for row in rows] == [2, 2]
    assert all(row.seconds > 3 * spent.START_S["cuda"] for row in rows)
    assert all(row.energy_j > 0 for row in rows)
    assert feasible.plan(jobs(asked), CPU)[0].energy_j is None


def test_the_time_of_a_model_that_is_not_ours_is_unknown_and_not_invented():
    mine = ForeignSpec(name="mine", factory="mymodels:tiny")
    asked = replace(scenario(contexts=(512,)), blocks=(mine, block("mamba2")))
    rows = feasible.plan(expand(asked, device="cuda"), H100)
    assert [row.seconds is None for row in rows] == [True, False]
    assert rows[0].energy_j is None
    assert feasible.limited_s(asked, rows) is None


@pytest.mark.parametrize(
    ("name", "machine", "limit_s"),
    [("crossover", H100, 620), ("kernel-dominance", H100, 240), ("quickstart", CPU, 170)],
)
def test_scenarios_with_a_time_limit_are_planned_within_it(name, machine, limit_s):
    asked = load(library.shipped()[name])
    rows = feasible.plan(expand(asked, device=machine.kind), machine)
    assert sum(row.seconds for row in rows) <= limit_s
    assert asked.budget.sweep_s is not None
    assert feasible.limited_s(asked, rows) <= asked.budget.sweep_s


@pytest.mark.parametrize(
    "name",
    ["whole-models", "hybrid-ratio", "paper-57k", "kernel-dominance", "providers", "experts"],
)
def test_a_grid_is_planned_within_twenty_minutes_of_an_h200(name):
    """Deciding included, nothing compiled before: ten minutes of two of them."""
    asked = load(library.shipped()[name])
    deciding = deciding_s(asked, H200, "cuda", compiled=False)
    rows = feasible.plan(expected(asked, "cuda"), H200, deciding)
    assert feasible.whole_s(asked, rows) <= 20 * 60
    assert asked.budget.rounds >= 3
    assert not any(row.skipped for row in rows)
