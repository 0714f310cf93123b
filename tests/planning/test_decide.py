"""Sweeps that decide, on virtual devices: planted crossings are found, whatever happens midway."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import make
import numpy as np
import planted
import pytest
from deciding import (
    ENVIRONMENTS,
    QUIET,
    MemoryJournal,
    Virtual,
    answer_of,
    rounds_of,
    scenario,
    swept,
)
from msgspec import structs
from planted import A, B, Truth

from ssmprof import limits
from ssmprof.planning.strategies import STRATEGIES, decide, expected
from ssmprof.planning.strategies.decide import next_step
from ssmprof.records import Failure, Job, Measurement, Visit
from ssmprof.spec import Passes, Scenario

CROSSING = planted.pair(planted.smooth(5000, 0.4))


def zones(journal: MemoryJournal, phase: str = "prefill") -> list[tuple[int, int]]:
    found = answer_of(journal, phase).crossings
    assert all(one.kind == "zone" for one in found), found
    return [(one.low_tokens, one.high_tokens) for one in found]


def sound(device: Virtual, journal: MemoryJournal) -> None:
    """What holds of every sweep: no key twice, a round per process, latency alone in visits."""
    keys = [one.key for one in journal.outcomes]
    assert len(set(keys)) == len(keys)
    rounds = [visit.round for visit in device.visits]
    assert len(set(rounds)) == len(rounds)
    assert 0 not in rounds, "round 0 is the grid's"


PLANTED = {
    "smooth": (planted.smooth(5000, 0.4), [5000]),
    "shallow": (planted.smooth(5000, 0.2), [5000]),
    "as on an H200": (planted.h200, [4400]),
    "jagged": (planted.both(planted.smooth(6000, 0.2), planted.sawtooth(0.03, 500, 0.3)), [6000]),
    "stepped": (planted.both(planted.smooth(8000, 0.1), planted.step(5500, 0.06)), [5500]),
    "three": (planted.wave(5000, 2.0, 0.06), [2500, 5000, 10_000]),
}


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_crossings_are_found_between_the_lengths_of_the_pilot(name: str, seed: int) -> None:
    curve, crossings = PLANTED[name]
    device = Virtual(planted.pair(curve), seed=seed)
    end, journal = swept(scenario(A, B), device)
    assert end == "done"
    sound(device, journal)
    found = zones(journal)
    assert len(found) == len(crossings)
    for (low, high), at in zip(found, crossings, strict=True):
        assert low <= at * 1.06
        assert high >= at / 1.06
        assert high <= low * 1.3, "an octave of the pilot was narrowed"


@pytest.mark.parametrize("seed", [0, 1])
def test_without_a_crossing_three_processes_say_so(seed: int) -> None:
    device = Virtual(planted.pair(lambda at: 0 * at - 0.15), seed=seed)
    _, journal = swept(scenario(A, B), device)
    sound(device, journal)
    answer = answer_of(journal)
    assert answer.crossings == ()
    assert [one.winners for one in answer.segments] == [(A,)]
    assert len(device.visits) <= limits.LAST_LOOK


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_block_under_two_names_ends_in_equal(seed: int) -> None:
    device = Virtual(planted.pair(lambda at: 0 * at), seed=seed)
    _, journal = swept(scenario(A, B), device)
    assert [one.equal for one in answer_of(journal).segments] == [True]
    looked = max(map(len, rounds_of(journal).values()))
    assert looked >= limits.FIRST_LOOK, "equality is told of three processes"


def test_five_contenders_are_decided_over_all_of_them() -> None:
    curves = {
        name: planted.both(planted.base, planted.smooth(at, steep))
        for name, at, steep in (
            (A, 5000, 0.4), ("mamba1", 1500, -0.3), ("hybrid", 3000, 0.15),
            ("parallel", 600, 0.5), (B, 5000, 0.0),
        )
    }  # fmt: skip
    device = Virtual(Truth(curves))
    _, journal = swept(scenario(*curves), device)
    sound(device, journal)
    contexts = np.array([at for at in rounds_of(journal) if 512 <= at <= 32768])
    logs = Truth(curves).logs(contexts)
    best = {int(at): min(logs, key=lambda n: logs[n][i]) for i, at in enumerate(contexts)}
    for segment in answer_of(journal).segments:
        inside = [at for at in best if segment.low_tokens <= at <= segment.high_tokens]
        assert {best[at] for at in inside if at not in segment.unsure} <= set(segment.winners)


def test_zones_of_several_questions_share_a_process() -> None:
    decode = planted.pair(planted.smooth(9000, 0.3))
    device = Virtual({"prefill": CROSSING, "decode": decode})
    _, journal = swept(scenario(A, B, phase=("prefill", "decode")), device)
    sound(device, journal)
    both = [visit for visit in device.visits if {p[0].phase for p in visit.points} > {"decode"}]
    assert len(both) >= limits.FIRST_LOOK
    assert len(zones(journal)) == len(zones(journal, "decode")) == 1


def test_a_zone_is_seen_by_three_processes_and_guards_stand_in_every_quarter_octave() -> None:
    device = Virtual(planted.pair(planted.smooth(5000, 0.1)))
    _, journal = swept(scenario(A, B), device)
    low, high = zones(journal)[0]
    seen = rounds_of(journal)
    inside = [at for at in seen if low <= at <= high]
    assert max(len(seen[at] - {0}) for at in inside) >= limits.FIRST_LOOK
    guards = [at for at in seen if at < 3000 and at & (at - 1)]
    quarters = {math.floor(math.log2(at / 512) * 4) for at in guards}
    assert len(quarters) >= 8
    assert any(at % 64 for at in guards)


def test_the_grid_follows_the_answer_in_one_round_with_parts() -> None:
    device = Virtual(CROSSING)
    _, journal = swept(scenario(A, B), device)
    jobs = [one for one in device.asked if isinstance(one, Job)]
    first = next(index for index, one in enumerate(device.asked) if isinstance(one, Job))
    assert all(isinstance(one, Job) for one in device.asked[first:])
    assert {job.round for job in jobs} == {0}
    assert {job.point.context for job in jobs} == set(scenario().sweep.contexts)
    assert all(job.passes.parts for job in jobs)
    assert len(journal.outcomes) == sum(len(one.jobs()) for one in device.asked)


def test_a_question_that_is_not_asked_first_is_zoomed_less_finely() -> None:
    device = Virtual(CROSSING)
    _, journal = swept(scenario(A, B, execution=("graph", "eager")), device)
    lengths = {
        execution: {
            one.point.context for one in journal.outcomes if one.point.execution == execution
        }
        for execution in ("graph", "eager")
    }
    assert len(lengths["eager"]) < 0.6 * len(lengths["graph"])
    assert zones(journal) != []


def test_the_longest_length_of_the_grid_is_weighed_in_a_process_of_its_own() -> None:
    asked = scenario(A, B, passes=Passes(memory="fresh"))
    jobs = expected(asked)
    grid = [job for job in jobs if job.round == 0]
    contexts = sorted({job.point.context for job in grid})
    weighed = {job.point.context: job.passes.memory for job in grid if job.passes.parts}
    assert weighed == {at: "fresh" if at == contexts[-1] else "block" for at in contexts}


@pytest.mark.parametrize("cut", [3, 20, 55, 120, -5])
def test_a_killed_and_resumed_sweep_equals_an_uninterrupted_one(cut: int) -> None:
    asked = scenario(A, B, phase=("prefill", "decode"))
    _, whole = swept(asked, Virtual(CROSSING))
    device = Virtual(CROSSING)
    # Both contenders of a length are kept together, or the length is measured again.
    cut = cut if cut > 0 else len(whole.outcomes) + cut
    _, resumed = swept(asked, device, MemoryJournal(whole.outcomes[: cut - cut % 2]))
    assert resumed.outcomes == whole.outcomes
    assert not any(one.remaining(set()) is None for one in device.asked)


def test_a_finished_sweep_asks_for_nothing() -> None:
    asked = scenario(A, B)
    _, whole = swept(asked, Virtual(CROSSING))
    plan = STRATEGIES["decide"]
    assert list(plan.begin(asked, whole.outcomes, ENVIRONMENTS, "cuda")) == []
    assert plan.go_on(asked, whole.outcomes, ENVIRONMENTS, "cuda").asked == []


def test_a_run_over_a_grid_goes_on_until_it_is_decided() -> None:
    over_a_grid = scenario(A, B, strategy="grid")
    device = Virtual(CROSSING)
    _, journal = swept(over_a_grid, device)
    assert not device.visits
    before = len(journal.outcomes)
    sweep = structs.replace(over_a_grid.sweep, strategy="decide")
    device = Virtual(CROSSING)
    _, journal = swept(structs.replace(over_a_grid, sweep=sweep), device, journal)
    sound(device, journal)
    assert device.asked, "visits"
    assert all(isinstance(one, Visit) for one in device.asked), "what it has is not measured again"
    low, high = zones(journal)[0]
    assert low <= 5000 <= high <= low * 1.1
    assert len(journal.outcomes) > before


class Died:
    """A contender that is lost at some lengths."""

    def __init__(self, reason: Any, name: str, low: int, high: int) -> None:
        self.reason, self.name, self.low, self.high = reason, name, low, high
        self.asked: list[int] = []

    def __call__(self, job: Job) -> Failure | None:
        if job.point.block != self.name or not self.low <= job.point.context <= self.high:
            return None
        self.asked.append(job.point.context)
        return make.failure(point=job.point, round=job.round, reason=self.reason)


def test_a_contender_that_dies_at_the_crossing_leaves_a_zone_around_it() -> None:
    died = Died("crash", A, 4800, 5300)
    device = Virtual(CROSSING, hurt=died)
    end, journal = swept(scenario(A, B), device)
    assert end == "done"
    sound(device, journal)
    assert len(died.asked) == len(set(died.asked)), "nobody is sent where somebody died"
    (crossing,) = answer_of(journal).crossings
    assert crossing.low_tokens is not None
    assert 4300 <= crossing.low_tokens <= 4800
    assert 5300 <= crossing.high_tokens <= 5900


def test_a_provider_that_fails_at_one_length_only_costs_that_length() -> None:
    died = Died("unsupported", A, 5056, 5056)
    device = Virtual(CROSSING, hurt=died)
    _, journal = swept(scenario(A, B), device)
    sound(device, journal)
    assert len(died.asked) <= 1
    low, high = zones(journal)[0]
    assert low <= 5000 <= high <= low * 1.1


def test_what_does_not_fit_is_not_asked_for_again() -> None:
    died = Died("out-of-memory", A, 16_000, 40_000)
    device = Virtual(CROSSING, hurt=died)
    _, journal = swept(scenario(A, B), device)
    low, high = zones(journal)[0] if len(answer_of(journal).crossings) == 1 else (0, 0)
    assert low <= 5000 <= high
    assert len(died.asked) <= 6


@pytest.mark.parametrize("at", [0.0, 0.5])
def test_a_clock_that_drops_by_a_third_in_a_zoom_moves_no_zone(at: float) -> None:
    def slower(round_: int, context: int) -> float:
        return 1.5 if round_ > 2 or (round_ == 2 and context > 5000 * at) else 1.0

    device = Virtual(CROSSING, slower=slower)
    _, journal = swept(scenario(A, B), device)
    low, high = zones(journal)[0]
    assert low <= 5000 <= high <= low * 1.1


def swept_by_the_second(asked: Scenario) -> tuple[str, MemoryJournal]:
    """A sweep in which every outcome takes a second."""
    now = 0.0

    def clocked(todo: Any) -> Any:
        nonlocal now
        for outcome in Virtual(CROSSING)(todo):
            now += 1.0
            yield outcome

    return swept(asked, clocked, clock=lambda: now)


def test_a_budget_too_small_for_a_pilot_ends_within_it_and_is_told() -> None:
    asked = scenario(A, B, budget=structs.replace(make.QUICK, sweep_s=4.5))
    end, journal = swept_by_the_second(asked)
    assert end == "out-of-time"
    assert decide.pilot_left(asked, journal.outcomes) == (5, 7)
    _, journal = swept(scenario(A, B), Virtual(CROSSING), journal)
    assert decide.pilot_left(asked, journal.outcomes) == (0, 7)
    assert len(zones(journal)) == 1


def test_what_a_spent_budget_leaves_open_says_what_it_would_cost() -> None:
    asked = scenario(A, B, budget=structs.replace(make.QUICK, sweep_s=20.0))
    end, journal = swept_by_the_second(asked)
    assert end == "out-of-time"
    open_ones = [one for one in answer_of(journal).crossings if one.context_tokens is None]
    assert open_ones
    assert all(one.cost_to_resolve_s and one.cost_to_resolve_s > 1 for one in open_ones)


def test_contenders_that_do_not_fit_beside_each_other_take_turns_as_processes() -> None:
    device = Virtual(CROSSING)

    def measure(todo: Any) -> Any:
        for asked in todo:
            for outcome in device([asked]):
                told = isinstance(outcome, Measurement) and isinstance(asked, Visit)
                if told and outcome.point.context >= 4096:
                    outcome = structs.replace(outcome, beside=None, notes=(make.note("apart"),))
                yield outcome

    _, journal = swept(scenario(A, B), measure)
    sound(device, journal)
    jobs = [one for one in device.asked if isinstance(one, Job) and one.round > 0]
    assert {job.point.context for job in jobs} > {5056}
    assert all(job.point.context >= 4096 and not job.passes.parts for job in jobs)
    turns = [job.point.block for job in jobs]
    assert sum(a != b for a, b in pairwise(turns)) >= limits.FIRST_LOOK
    low, high = zones(journal)[0]
    assert low <= 5000 <= high <= low * 1.3


def test_what_was_killed_from_outside_is_measured_again_by_a_resumed_sweep() -> None:
    asked = scenario(A, B)
    killed: list[str] = []

    def hurt(job: Job) -> Failure | None:
        if job.point.block == A and job.point.context in (1024, 4992) and len(killed) < 3:
            killed.append(job.key)
            return make.failure(point=job.point, round=job.round, reason="crash", transient=True)
        return None

    _, journal = swept(asked, Virtual(CROSSING, hurt=hurt))
    assert killed
    begun = STRATEGIES["decide"].begin(asked, journal.outcomes, ENVIRONMENTS, "cuda")
    again = {job.key for one in begun for job in one.jobs()}
    assert set(killed) <= again
    assert len(again) <= 2 * len(killed), "and little beside"


def test_a_single_contender_is_measured_over_its_grid_alone() -> None:
    device = Virtual(CROSSING)
    _, journal = swept(scenario(A), device)
    assert not device.visits
    assert len(journal.outcomes) == len(scenario().sweep.contexts)


def test_a_plan_counts_the_pilot_and_one_round() -> None:
    jobs = expected(scenario(A, B))
    assert {job.round for job in jobs} == {0, 1}
    assert len(jobs) == 2 * 2 * 7


def test_a_sweep_over_a_grid_is_as_it_was() -> None:
    asked = scenario(A, B, strategy="grid")
    assert expected(asked) == tuple(STRATEGIES["grid"].begin(asked, (), {}, "cuda"))
    assert {job.round for job in expected(asked)} == {0, 1, 2}


def test_a_cpu_is_not_looked_at_under_sustained_load_and_runs_eagerly() -> None:
    device = Virtual(CROSSING)
    swept(scenario(A, B), device, kind="cpu")
    assert {job.point.execution for one in device.asked for job in one.jobs()} == {"eager"}
    assert {visit.sampling.mode for visit in device.visits} == {"cold"}


def test_a_cpu_whose_calls_scatter_more_is_asked_for_more_pairs() -> None:
    asked = {}
    for kind in ("cuda", "cpu"):
        device = Virtual(CROSSING)
        swept(scenario(A, B), device, kind=kind)
        asked[kind] = next(visit.sampling for visit in device.visits if visit.round == 2)
    assert asked["cpu"].pairs > asked["cuda"].pairs
    assert asked["cpu"].length_s > asked["cuda"].length_s


def test_every_second_visit_turns_the_order_of_contenders() -> None:
    """Who is built first is slower in a young process: over an even number of visits it cancels."""
    device = Virtual(CROSSING)
    swept(scenario(A, B), device)
    for visit in device.visits:
        order = [A, B] if visit.round % 2 else [B, A]
        assert [subject.name for subject in visit.subjects] == order
        assert all([point.block for point in points] == order for points in visit.points)


def test_the_ends_of_a_zone_are_looked_at_under_sustained_load_once() -> None:
    device = Virtual(CROSSING)
    _, journal = swept(scenario(A, B), device)
    steady = [visit for visit in device.visits if visit.sampling.mode == "sustained"]
    assert len(steady) == 1
    low, high = zones(journal)[0]
    assert {low, high} <= {group[0].context for group in steady[0].points}


def test_steps_are_pure() -> None:
    asked = scenario(A, B)
    _, whole = swept(asked, Virtual(CROSSING))
    some = whole.outcomes[:60]
    assert next_step(asked, some, ENVIRONMENTS) == next_step(asked, tuple(some), ENVIRONMENTS)


# Curves near those of an H200: a call without jags, and a decode that hardly grows.
def _prefill(contexts: Any) -> Any:
    return np.log(4e-4 + 3e-7 * contexts)


def _decode(contexts: Any) -> Any:
    return np.log(137e-6) + 0 * contexts


DECODE_LENGTHS = (2048, 4096, 6144, 8192, 10240, 12288, 16384)
DECODE_LOGS = (-0.0493, -0.0538, -0.0492, -0.0330, -0.0078, 0.0034, 0.0365)


def test_a_zone_costs_few_processes_and_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    def grown(contexts: Any) -> Any:
        inside = np.interp(contexts, DECODE_LENGTHS, DECODE_LOGS)
        return _decode(contexts) + inside + 0.15 * np.maximum(np.log(contexts / 16384), 0)

    truths = {
        "prefill": Truth({A: lambda at: _prefill(at) + planted.h200(at), B: _prefill}),
        "decode": Truth({A: grown, B: _decode}),
    }
    lines = ["seed  processes  calls  zone s  sustained s  prefill       decode"]
    for seed in range(3):
        device = Virtual(truths, QUIET, seed)
        _, journal = swept(scenario(A, B, phase=("prefill", "decode")), device)
        grid_s = sum(isinstance(one, Job) for one in device.asked) * 0.1
        steady_s = device.steady_s
        zone_s = (device.device_s - steady_s - grid_s) / 2
        found = [f"{zones(journal, phase)[0]}" for phase in ("prefill", "decode")]
        lines.append(
            f"{seed:4}  {len(device.visits):9}  {device.calls:5}  {zone_s:6.1f}  "
            f"{steady_s / 2:11.1f}  {found[0]}  {found[1]}"
        )
        assert zones(journal)[0] == (4352, 4480)
        assert len(device.visits) <= 9
        assert zone_s <= 35
    with capsys.disabled():
        print("\n" + "\n".join(lines))
