"""Seconds of one point: calls, captures and launches as measuring makes them."""

from __future__ import annotations

from typing import Any

import pytest
from make import block, job, scenario
from msgspec.structs import replace

from ssmprof.limits import TRACED_LAUNCHES
from ssmprof.measure import point
from ssmprof.measure.attribution import cupti, graph_events
from ssmprof.measure.passes import beside, energy
from ssmprof.measure.timing import latency, stopping, trial_rules
from ssmprof.measure.workers import decisions
from ssmprof.mixers.lstm.shape import Lstm
from ssmprof.planning import decided, spent
from ssmprof.planning.calls import call_of
from ssmprof.planning.machine import Machine
from ssmprof.records import Job
from ssmprof.spec import Budget, Passes

H200 = Machine.of_device("NVIDIA H200", "cuda")
UNIT = block("lstm", layers="lstm", d_model=1024, lstm=Lstm(hidden=1024))
QUIET = Passes(parts=False, memory="off", cupti=False)


def unit(context: int, **changes: Any) -> Job:
    return job("lstm", context, subject=UNIT, passes=QUIET, dtype="bfloat16", **changes)


def test_what_a_plan_counts_is_what_measuring_does() -> None:
    assert spent.WARM_UP_SHARE == point._WARM_UP_SHARE
    assert spent.SHORT_S == graph_events._THINNED_BELOW_S
    assert spent.CUPTI_TURNS == cupti._CYCLES
    turns = (spent.PARTS_TIMED_S, spent.FEWEST_TURNS, spent.MOST_TURNS)
    assert turns == (beside._PARTS_S, beside._FEWEST_REPLAYS, beside._MOST_REPLAYS)
    trial = (decided.MOST_PAIRS, decided.FEWEST_PAIRS, decided.TRIAL_S)
    assert trial == (trial_rules._MOST, trial_rules._LONG_FEWEST, trial_rules._TRIAL_S)
    assert decided.PROCESSES == decisions.PROCESSES
    assert (spent.HOT_BELOW_S, spent.FEWEST_SAMPLES) == (latency._HOT_MATTERS_S, stopping._FLOOR)
    assert 2 * (energy._SETTLE_S + energy.IDLE_S) == spent.ENERGY_IDLE_S
    assert energy.WINDOW_S == spent.ENERGY_WINDOW_S


def test_a_graph_costs_its_capture_and_an_eager_call_none() -> None:
    graph, eager = (unit(32768, execution=one) for one in ("graph", "eager"))
    call = call_of(UNIT, graph.point, H200)
    captured = call.host_s + call.kernels * spent.NODE_MADE_S
    assert captured > 0.9
    assert call.eager_s == call.graph_s
    assert spent.job_s(graph, H200) - spent.job_s(eager, H200) == pytest.approx(captured)


def test_parts_are_taken_of_so_many_kernels_and_cupti_looks_once_more() -> None:
    without = replace(QUIET, parts=True)
    for context, taken in ((512, True), (4096, False)):
        one = unit(context)
        kernels = call_of(UNIT, one.point, H200).kernels
        assert (kernels <= TRACED_LAUNCHES) is taken
        times = [
            spent.job_s(replace(one, passes=passes), H200)
            for passes in (QUIET, without, replace(without, cupti=True))
        ]
        assert (times[0] < times[1] < times[2]) is taken
        assert (times[0] == times[1] == times[2]) is not taken


def test_a_point_takes_no_longer_than_it_is_given() -> None:
    long = unit(131072, execution="graph")
    assert spent.job_s(long, H200) > 5.0
    assert spent.job_s(replace(long, budget=Budget(timeout_s=5.0)), H200) == 5.0


def test_a_card_counts_its_joules_in_one_window_and_a_board_is_watched_longer() -> None:
    one = unit(512, execution="graph")
    call_s = call_of(UNIT, one.point, H200).graph_s
    orin = Machine.of_device("NVIDIA Jetson Orin Nano 8GB", "cuda")
    more = [
        spent.job_s(replace(one, passes=replace(QUIET, energy=True)), machine)
        - spent.job_s(one, machine)
        for machine in (H200, orin)
    ]
    assert more == pytest.approx([9.0 + 3 * call_s, 30.0])


def test_calls_beyond_the_budget_of_a_point_are_sampled_three_times_at_most() -> None:
    long = unit(131072)
    call_s = call_of(UNIT, long.point, H200).eager_s
    assert call_s > 1.0
    times = [
        spent.job_s(replace(long, budget=Budget(point_s=0.5, min_samples=few)), H200)
        for few in (1, 2, 3, 10)
    ]
    assert [(later - times[0]) / call_s for later in times] == pytest.approx([0, 1, 2, 2])


def test_a_peak_in_a_process_of_its_own_takes_a_call_more() -> None:
    long = unit(131072)
    call_s = call_of(UNIT, long.point, H200).eager_s
    times = [
        spent.job_s(replace(long, passes=replace(QUIET, memory=how)), H200)
        for how in ("off", "block", "fresh")
    ]
    assert times[1] - times[0] == pytest.approx(call_s)
    assert times[2] - times[1] == pytest.approx(call_s + spent.FRESH_S["cuda"])


def test_blocks_that_one_answer_is_for_are_decided_once() -> None:
    asked = scenario("attention", "mamba2", contexts=(512, 131072))
    plain = replace(block("mamba2"), name="plain", providers={"ssd_scan": "reference"})
    both = replace(asked, blocks=(*asked.blocks, plain))
    found = decided.deciding_s(both, H200, "cuda", compiled=True)
    assert found == decided.deciding_s(asked, H200, "cuda", compiled=True)
    assert set(found) == {"attention", "mamba2"}
    assert decided.deciding_s(asked, H200, "cpu", compiled=True) == {}


def test_a_model_of_many_layers_costs_deciding_what_its_short_form_does() -> None:
    asked = scenario("mamba2", contexts=(512, 131072))
    times = [
        decided.deciding_s(
            replace(asked, blocks=(block("mamba2", depth),)), H200, "cuda", compiled=True
        )
        for depth in (8, 48)
    ]
    assert times[0] == times[1]


def test_kernels_that_are_not_compiled_count_once_for_each_folder() -> None:
    asked = scenario("attention", "mamba2", contexts=(512, 131072))
    times = [
        decided.deciding_s(asked, H200, "cuda", compiled=known) for known in (True, False)
    ]  # fmt: skip
    more = {name: times[1][name] - times[0][name] for name in times[0]}
    folders = decided.COMPILE_S
    assert more == {"attention": pytest.approx(2 * folders), "mamba2": pytest.approx(folders)}
