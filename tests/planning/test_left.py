"""The time left of a sweep: from the plan first, then from what was seen, never past the budget."""

from __future__ import annotations

import estimates
import make
import pytest
from msgspec.structs import replace

from ssmprof.planning.feasible import Machine
from ssmprof.planning.left import Left
from ssmprof.planning.strategies import decide, expected

H200 = Machine.of_device("NVIDIA H200", "cuda")


@pytest.mark.parametrize("path", estimates.RECORDED, ids=lambda path: path.name)
def test_what_a_recorded_sweep_would_have_said_first_is_within_a_factor_of_two(path) -> None:
    assert 0.5 <= estimates.recorded(path).ratio <= 2.0


def test_simulated_sweeps_are_told_within_a_factor_of_two() -> None:
    walls = estimates.walls_of(estimates.folder.load(estimates.RECORDED[0]))
    found = [estimates.simulated(kind, 11, walls) for kind in ("smooth", "jagged", "never", "five")]
    near = [one for one in found if 0.5 <= one.ratio <= 2.0]
    assert len(near) >= 3, estimates.table(found)


def test_before_the_pilot_nothing_is_told_but_the_budget() -> None:
    asked = estimates.deciding.scenario("attention", "mamba2")
    asked = replace(asked, budget=replace(asked.budget, sweep_s=100.0))
    left = Left(asked, "cuda", H200)
    left.expect(decide.next_step(asked, ()).asked)
    left.took("one", 30.0)
    assert left.left_s() is None
    assert left.most_s() == 70.0


def test_a_grid_takes_what_is_planned_then_what_was_seen_and_ends_at_nothing() -> None:
    asked = make.scenario("attention", "mamba2", contexts=(512, 1024, 2048))
    jobs = expected(asked)
    left = Left(asked, "cuda", H200)
    left.expect(jobs)
    planned = left.left_s() or 0.0
    assert planned > 0
    for job in jobs[:-1]:
        left.took(job.key, 20.0)
    assert 0.6 < (left.left_s() or 0.0) < 60.0
    left.took(jobs[-1].key, 20.0)
    assert left.left_s() == 0.0


def test_what_deciding_has_compiled_counts_for_no_point() -> None:
    asked = make.scenario("attention", "mamba2", contexts=(512, 1024))
    known, left = (Left(asked, "cuda", H200, compiled=found) for found in (True, False))
    for one in (known, left):
        one.expect(expected(asked, "cuda"))
    assert (left.left_s() or 0.0) > (known.left_s() or 0.0)
    left.decided()
    assert left.left_s() == pytest.approx(known.left_s())


def test_kernels_that_are_not_compiled_yet_count_once_for_each_contender() -> None:
    asked = make.scenario("attention", "mamba2", contexts=(512, 1024, 2048))
    times = [Left(asked, "cuda", H200, compiled=found).left_s() or 0.0 for found in (True, False)]
    assert times[1] - times[0] == pytest.approx(40.0)


def test_what_an_earlier_session_answered_takes_nothing() -> None:
    asked = make.scenario("attention", "mamba2", contexts=(512, 1024))
    left = Left(asked, "cuda", H200)
    left.expect(expected(asked))
    left.skip([job.key for job in expected(asked)])
    assert left.left_s() == 0.0
