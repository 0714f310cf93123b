"""The strategy `surface`: few points, held-out ones predicted, the line between two contenders."""

from __future__ import annotations

from pathlib import Path

import make
import pytest
from msgspec import structs

from ssmprof.analysis.compare.conditions import by_conditions
from ssmprof.analysis.compare.curve import contenders
from ssmprof.analysis.surface.frontier import frontier, gaps, missed
from ssmprof.analysis.surface.places import BAR, batches, held_out
from ssmprof.analysis.surface.rows import Rows
from ssmprof.planning import library, scenario
from ssmprof.planning.deciding import questions
from ssmprof.planning.expand import expand
from ssmprof.planning.left import Left
from ssmprof.planning.strategies import STRATEGIES, expected, surface
from ssmprof.records import Job, Measurement, Point, Visit
from ssmprof.scalars import Phase
from ssmprof.store import folder

LATTICE = scenario.load(library.find("serving"))
NAMES = [block.name for block in LATTICE.blocks]


def truth(point: Point, jag: float = 0.0) -> float:
    """Weights once, states per sequence, keys per token; a tile of the products at 48 sequences."""
    keys = {"transformer": 4e-9, "hybrid": 2e-9, "mamba2": 0.0}[point.block]
    state = {"transformer": 0.0, "hybrid": 3e-6, "mamba2": 6e-6}[point.block]
    if point.phase == "prefill":
        return 1e-4 + 1.2e-6 * point.tokens + 10 * keys * point.past
    step = 2e-4 + point.batch * (state + keys * point.context)
    return step * (1 + jag * (point.batch > 48))


def swept(jag: float = 0.0, killed: bool = False):
    """Outcomes of the whole strategy, one step after the other, and the steps."""
    outcomes, steps, hit = [], [], killed
    while True:
        asked = surface.next_step(LATTICE, outcomes).asked
        if not asked:
            return outcomes, steps
        steps.append(asked)
        for job in (job for one in asked for job in one.jobs()):
            if hit:
                hit = False
                outcomes.append(make.failure(job.point.block, transient=True, point=job.point,
                                             round=job.round, reason="crash"))  # fmt: skip
                continue
            one = make.measurement(job.point.block)
            time_s = truth(job.point, jag)
            outcomes.append(
                structs.replace(one, point=job.point, round=job.round, times_s=(time_s,) * 5)
            )
        assert len(steps) < 20


def places(outcomes, phase: Phase) -> set[tuple[int, int]]:
    return {(o.point.batch, o.point.context) for o in outcomes if o.point.phase == phase}


def rows(outcomes, name: str, phase: Phase) -> Rows:
    found: dict[int, dict[int, float]] = {}
    for one in outcomes:
        if isinstance(one, Measurement) and (one.point.block, one.point.phase) == (name, phase):
            found.setdefault(one.point.batch, {})[one.point.context] = one.time_s
    return Rows(phase, found, LATTICE.sweep.chunk if phase == "prefill" else None)


def test_few_points_predict_those_that_were_held_out() -> None:
    outcomes, steps = swept()
    lattice = len(LATTICE.sweep.batch) * len(LATTICE.sweep.contexts)
    assert len(places(outcomes, "decode")) < lattice / 3
    for name in NAMES:
        for phase in LATTICE.sweep.phase:
            held = held_out(LATTICE.sweep, phase, LATTICE.seed)
            errors = [one.error for one in missed(name, rows(outcomes, name, phase), held)]
            assert len(errors) == len(held) > 2
            assert all(abs(error) < BAR for error in errors if error is not None)
    # Every contender at every point, so that they can be compared; one process per step.
    assert all(isinstance(step[0], Visit) and len(step) == 1 for step in steps)
    assert all(len(group) == len(NAMES) for step in steps for group in step[0].points)


def test_a_step_in_batch_gets_rows_on_either_side() -> None:
    smooth, jagged = ({b for b, _ in places(swept(jag)[0], "decode")} for jag in (0.0, 0.4))
    assert len(jagged) > len(smooth)


def test_the_line_between_two_contenders_is_closed_in_on() -> None:
    outcomes, _ = swept()
    held = held_out(LATTICE.sweep, "decode", LATTICE.seed)
    left = [rows(outcomes, name, "decode").without(held) for name in ("transformer", "mamba2")]
    one, other = (found for found in left if found is not None)
    for gap in gaps(one, other):
        inside = [a for a in LATTICE.sweep.contexts if gap.low_tokens < a < gap.high_tokens]
        assert all((gap.batch, at) in held for at in inside)
    # keys of 1,500 tokens are as large as a state, whatever the batch
    edges = frontier(("transformer", "mamba2"), one, other)
    cuts = [edge for edge in edges if edge.at_tokens is not None]
    assert len(cuts) >= 3
    for edge in cuts:
        assert edge.before == "transformer"
        assert edge.at_tokens == pytest.approx(1500, rel=0.02)


def test_what_was_killed_from_outside_is_measured_once_more() -> None:
    outcomes, _ = swept(killed=True)
    first = outcomes[0].point
    again = [o for o in outcomes if o.point == first]
    assert [isinstance(one, Measurement) for one in again] == [False, True]


def test_the_plan_is_the_first_points_and_the_held_out_ones() -> None:
    jobs = expected(LATTICE)
    decode = {(j.point.batch, j.point.context) for j in jobs if j.point.phase == "decode"}
    assert len(decode) == 9 + 8
    assert decode >= set(held_out(LATTICE.sweep, "decode", 0))
    assert not STRATEGIES["surface"].begin(LATTICE, (), {}, "cuda")
    assert batches(LATTICE.sweep, "prefill") == (1,)
    assert {j.point.batch for j in jobs if j.point.phase == "prefill"} == {1}


def test_providers_are_decided_for_the_ends_of_the_batches() -> None:
    asked = questions(LATTICE)
    assert {(one.points[0].phase, one.points[0].batch) for one in asked} == {
        ("prefill", 1), ("decode", 1), ("decode", 128),
    }  # fmt: skip
    assert all(len(one.points) == 2 for one in asked)


def test_a_chunk_is_the_end_of_its_prompt() -> None:
    jobs = [job for job in expand(LATTICE) if job.point.phase == "prefill"]
    long = next(job.point for job in jobs if job.point.context == 8192)
    short = next(job.point for job in jobs if job.point.context == 512)
    assert (long.tokens, long.past, long.chunk) == (2048, 6144, 2048)
    assert (short.tokens, short.past) == (512, 0)
    assert long.conditions() == structs.replace(long.conditions(), chunk=2048)
    assert "prefill in chunks of 2,048" in long.conditions().label()


def test_how_long_it_takes_is_told_from_the_first_points() -> None:
    from ssmprof.planning.feasible import Machine

    left = Left(LATTICE, "cuda", Machine.of_device("NVIDIA H100 80GB HBM3", "cuda"))
    left.expect(surface.next_step(LATTICE, ()).asked)
    told = left.left_s()
    assert told is not None
    assert 10 < told < 600


def test_outside_of_what_was_measured_the_nearest_end_is_told_as_held() -> None:
    made = Rows("decode", {1: {512: 1.0, 1024: 2.0}, 8: {512: 8.0}})
    assert made.at(1, 768) == (1.5, ())
    assert made.at(1, 2048).held[0].axis == "context"
    assert made.at(16, 512).held[0].axis == "batch"
    assert made.at(8, 1024).time_s == 8.0
    assert made.without([(1, 512), (1, 1024), (8, 512)]) is None
    whole = Rows("prefill", {1: {512: 1.0, 2048: 16.0}})
    assert whole.at(1, 1024).time_s == pytest.approx(4.0)
    with pytest.raises(ValueError, match="needs a point"):
        Rows("decode", {})


def worst(phase: Phase, execution: str) -> float:
    """The largest miss of a committed step left out, by what lies between points of `phase`."""
    run = folder.load(Path(__file__).parents[2] / "reports" / "2026-11-22-crossover-h100-80gb-hbm3")
    errors = [
        abs(one.error)
        for conditions, outcomes in by_conditions(run.outcomes, run.environments).items()
        if (conditions.phase, conditions.execution) == ("decode", execution)
        for name, found in contenders(outcomes).items()
        for context in found.medians
        for one in missed(name, Rows(phase, {1: found.medians}), [(1, context)])
        if one.error is not None
    ]
    assert len(errors) >= 25
    return max(errors)


def test_committed_steps_are_linear_in_context_as_the_document_says() -> None:
    assert 0.06 < worst("decode", "graph") < 0.07
    # Whole prompts are taken on log axes: steps would be met worse there.
    assert 0.09 < worst("prefill", "graph") < 0.10
    assert worst("decode", "eager") > 0.10 < worst("prefill", "eager")


def test_a_job_is_a_job_of_the_scenario() -> None:
    asked = surface.next_step(LATTICE, ()).asked[0]
    job = asked.jobs()[0]
    assert isinstance(job, Job)
    assert job.point.execution == "graph"
    assert (
        surface.next_step(LATTICE, (), device="cpu").asked[0].jobs()[0].point.execution == "eager"
    )
