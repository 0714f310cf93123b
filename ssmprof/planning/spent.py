"""Estimated seconds of one point: its warm-up, its graph, its samples, its passes.

What is counted are calls, captures and launches, as `measure.point` makes them; a test holds the
numbers that both have together. Seconds of one launch are of H200s of the committed runs.
"""

from __future__ import annotations

from ssmprof.limits import TRACED_LAUNCHES
from ssmprof.models.recipe import Recipe
from ssmprof.planning.calls import Call, call_of
from ssmprof.planning.machine import Machine
from ssmprof.records import Job
from ssmprof.spec import Budget

# A worker: forked, a context, weights, and its first calls, which load compiled kernels. On a CPU
# each round has a launcher of its own, which imports anew.
START_S = {"cuda": 2.5, "cpu": 4.0}
POINT_S = 0.12  # per point beside its calls
FRESH_S = {"cuda": 1.5, "cpu": 1.5}  # a process of its own for one reading of memory
# A card counts its joules: one window, idle before and after, and calls outside of the window. The
# meter of a board moves slowly and is watched for several windows.
ENERGY_IDLE_S, ENERGY_WINDOW_S, ENERGY_CALLS = 4.0, 5.0, 3
METERED_S = 30.0

WARM_UP_SHARE = 0.5  # of the point's budget at most, two calls at least
LONG_WARM_UP, WARM_UP = 2, 3  # calls
# A kernel of a graph, captured, instantiated and freed, beside its launch: plain forms and
# recurrent units of 130,000 to 530,000 kernels took 14 to 15 us for each on an H200.
NODE_MADE_S = 15e-6
HOT_AND_FLUSHES = 1.2  # of the cold samples' time, on a GPU, of a call that is timed hot as well
HOT_BELOW_S = 20e-3
FEWEST_SAMPLES = 3  # of a call that takes longer than its point's budget, if so many are asked for

PARTS_TIMED_S, FEWEST_TURNS, MOST_TURNS = 0.2, 3, 10
# A call is captured with marks and with its ends only, a short one with some of its marks, too.
GRAPHS, SHORT_GRAPHS, SHORT_S = 2, 5, 10e-3
MARKS = {GRAPHS: 1.0, SHORT_GRAPHS: 2.1}  # in all graphs together, of the ops of the call
TRACED_S = 60e-6  # an op under Python's dispatch
CUPTI_TURNS = 3  # and one before
CUPTI_S = 0.03  # a session of the profiler
EVENT_S = 120e-6  # a kernel seen, read and joined with its op
CPU_CALLS, CPU_S = 4, 0.25  # a CPU's parts: so many calls, at least so long


def job_s(job: Job, machine: Machine) -> float | None:
    """Estimated seconds of a job without the worker's start, at most those it is given.

    None for a model that is not ours, whose work no shape tells.
    """
    if not isinstance(job.subject, Recipe):
        return None
    call, budget, passes = call_of(job.subject, job.point, machine), job.budget, job.passes
    graph = job.point.execution == "graph"
    one = call.graph_s if graph else call.eager_s
    spent = POINT_S + _warm_up_s(call, budget) + _samples_s(one, budget, machine)
    spent += captured_s(call) if graph else 0.0
    if passes.parts and call.kernels <= TRACED_LAUNCHES:
        spent += _parts_s(call, machine, cupti=passes.cupti)
    if passes.memory != "off":
        spent += (2 if passes.memory == "fresh" else 1) * call.eager_s
    spent = min(spent, budget.timeout_s)
    spent += FRESH_S[machine.kind] if passes.memory == "fresh" else 0.0
    return spent + (_energy_s(one, machine) if passes.energy else 0.0)


def captured_s(call: Call) -> float:
    """Seconds until a call that ran before is a graph."""
    return call.host_s + call.kernels * NODE_MADE_S


def _warm_up_s(call: Call, budget: Budget) -> float:
    limit_s = max(WARM_UP_SHARE * budget.point_s, budget.min_time_s)
    return max(LONG_WARM_UP * call.eager_s, min(WARM_UP * call.eager_s, limit_s))


def _samples_s(one: float, budget: Budget, machine: Machine) -> float:
    samples = max(budget.min_samples * one, budget.min_time_s)
    if samples > budget.point_s:
        samples = max(budget.point_s, min(FEWEST_SAMPLES, budget.min_samples) * one)
    return samples * (HOT_AND_FLUSHES if machine.kind == "cuda" and one < HOT_BELOW_S else 1.0)


def _energy_s(one: float, machine: Machine) -> float:
    if machine.power_w is None:
        return METERED_S
    return ENERGY_IDLE_S + max(ENERGY_WINDOW_S, one) + ENERGY_CALLS * one


def _parts_s(call: Call, machine: Machine, *, cupti: bool) -> float:
    """Graphs of the call, replayed in turns; the first replays upload them."""
    if machine.kind == "cpu":
        return max(CPU_CALLS * call.eager_s, CPU_S)
    short = call.graph_s < SHORT_S
    graphs = SHORT_GRAPHS if short else GRAPHS
    turns = max(FEWEST_TURNS, min(MOST_TURNS, int(PARTS_TIMED_S / call.graph_s)))
    turn_s = graphs * call.graph_s
    spent = graphs * captured_s(call) + MARKS[graphs] * call.ops * NODE_MADE_S
    spent += (graphs - 1) * call.ops * TRACED_S + (turns + (2 if short else 1)) * turn_s
    if cupti:
        seen = CUPTI_TURNS * graphs * call.kernels
        spent += CUPTI_S + (CUPTI_TURNS + 1) * turn_s + seen * EVENT_S
    return spent
