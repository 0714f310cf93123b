"""Marks and their cost, on fake events and replays whose answer is known."""

import random
from types import SimpleNamespace

import pytest

from ssmprof.measure.attribution import graph_events
from ssmprof.measure.attribution.driver import EVENT_RECORD, KERNEL, MEMCPY, Node
from ssmprof.measure.attribution.intervals import Interval
from ssmprof.measure.attribution.mark_cost import MarkCost
from ssmprof.measure.attribution.marks import (
    THROWN_AWAY,
    Ends,
    Thinned,
    kernels_between_marks,
)
from ssmprof.measure.attribution.thinning import Turn, mark_costs_s, run_length
from ssmprof.measure.attribution.tracer import Op


def _interval(kernels=()):
    return Interval(Op("", None, "aten::mm", ""), (), kernels)


def test_kernels_fall_between_the_marks_that_count():
    mark, copy = Node(EVENT_RECORD, ""), Node(MEMCPY, "Memcpy")
    nodes = [mark] * THROWN_AWAY + [mark, Node(KERNEL, "a"), mark, copy, Node(KERNEL, "b"), mark]
    between = kernels_between_marks(nodes, lambda node: node.kind == EVENT_RECORD)
    assert between == [["a"], ["Memcpy", "b"]]
    with pytest.raises(ValueError, match="thrown away"):
        kernels_between_marks([mark], lambda node: node.kind == EVENT_RECORD)


def test_a_mark_before_a_fill_has_a_cost_of_its_own():
    cost = MarkCost(kernel_s=2.4e-6, fill_s=-0.3e-6, empty_s=1.2e-6, chain_s=2.2e-6)
    assert cost.of(("nvjet",)) == cost.of(()) == 2.4e-6
    assert cost.of(("Memset", "nvjet")) == -0.3e-6


class _Event:
    def record(self):
        pass


def _op(name):
    return Op("", None, name, "")


def _marked(marker, names):
    marker.start()
    for name in names:
        marker.after(_op(name))
    marker.finish()
    return [op.op for op in marker.ops], len(marker.events)


@pytest.mark.parametrize(
    ("names", "even", "odd", "runs"),
    [
        ("abcd", ["a", "c", "d"], ["b", "d"], ["d"]),
        ("abcde", ["a", "c", "e"], ["b", "d", "e"], ["d", "e"]),
    ],
)
def test_a_thinned_graph_lacks_marks_and_keeps_its_end(names, even, odd, runs):
    for (every, first), ops in (((2, 0), even), ((2, 1), odd), ((4, 3), runs)):
        assert _marked(Thinned(_Event, every=every, first=first), names) == (ops, len(ops) + 1)
    assert _marked(Ends(_Event), names) == (["whole"], 2)


def _replay(durations, costs, kept, residue, noise):
    """Raw intervals of a graph: ops whose marks cost, and less where the one before is left out."""
    intervals, pending, run = [], 0.0, 0
    for place, (duration, cost) in enumerate(zip(durations, costs, strict=True)):
        there = place == 0 or kept(place - 1)
        pending += duration + random.gauss(0, noise)
        if there:
            pending += cost
            run = 0
        else:
            # The first kernel after a mark starts late: a run saves less than its number of marks.
            pending += residue if run == 0 else 0.0
            run += 1
        if kept(place) or place == len(durations) - 1:
            intervals.append(pending)
            pending = 0.0
    return intervals


def _turns(durations, costs, noise=0.0, residue=0.0, number=10, seed=0):
    random.seed(seed)
    run = run_length(len(durations))
    graphs = [
        lambda p: True, lambda p: p % 2 == 0, lambda p: p % 2 == 1, lambda p: p % run == run - 1
    ]  # fmt: skip
    return [
        Turn(*(_replay(durations, costs, kept, residue, noise) for kept in graphs), whole_s=0.0)
        for _ in range(number)
    ]


@pytest.mark.parametrize("ops", [7, 8, 13, 20])
@pytest.mark.parametrize("residue", [0.0, 0.4e-6])
def test_graphs_without_some_marks_tell_what_each_mark_costs(ops, residue):
    durations = [5e-6 * (1 + place % 3) for place in range(ops)]
    kinds = ["first", *("gemm" if place % 2 else "fill" for place in range(1, ops))]
    true = {"first": 2.55e-6, "gemm": 2.6e-6, "fill": -0.1e-6}
    costs = [true[kind] for kind in kinds]
    turns = _turns(durations, costs, noise=0.05e-6, residue=residue)
    found = mark_costs_s(turns, kinds, [2.55e-6] * ops)
    assert found == pytest.approx(costs, abs=0.12e-6)


def test_marks_between_ops_that_scatter_keep_the_calibrated_cost():
    costs = [2.3e-6] * 8
    scattered = _turns([7e-4] * 8, costs, noise=1e-5)
    assert mark_costs_s(scattered, ["gemm"] * 8, [2.55e-6] * 8) == [2.55e-6] * 8
    once = _turns([1e-5] * 5, costs[:5], number=1)
    assert mark_costs_s(once, ["gemm"] * 5, [2.55e-6] * 5) == [2.55e-6] * 5


def _captured(monkeypatch, raws):
    """Fake graphs by the kind of their marker; returns the list of their replays."""
    turns = []

    def capture(call, marker, *, module=None, pool=None):
        name = type(marker).__name__

        def replay_s():
            turns.append(name)
            return raws[name]

        return SimpleNamespace(
            graph=SimpleNamespace(pool=lambda: None),
            marker=SimpleNamespace(events=[None] * 4),
            intervals=[
                _interval(kernels=("a",)), _interval(kernels=("Memset", "b")), _interval()
            ],
            kernel_count=4,
            replay_s=replay_s,
        )  # fmt: skip

    monkeypatch.setattr(graph_events, "capture", capture)
    monkeypatch.setattr(graph_events, "external_event", _Event)
    monkeypatch.setattr(graph_events.torch.cuda, "synchronize", lambda: None)
    return turns


def test_parts_and_whole_are_replayed_in_turns_and_corrected(monkeypatch):
    raws = {"Marker": [12e-3, 6e-3, 33e-3], "Ends": [50e-3]}
    turns = _captured(monkeypatch, raws)
    flushes = []
    traced = graph_events.Traced(lambda: None, flush=lambda: flushes.append(1))
    traced.sample(2)
    calibrated = MarkCost(kernel_s=2.5e-6, fill_s=0.5e-6, empty_s=1.25e-6, chain_s=2.2e-6)
    intervals, whole_s, cost_s = traced.finish(calibrated)
    assert turns == ["Marker", "Ends"] * 3
    assert len(flushes) == 6
    assert cost_s == pytest.approx(2.5e-6)
    assert whole_s == pytest.approx(50e-3 - 2.5e-6)
    assert [interval.times_s[0] for interval in intervals] == pytest.approx(
        [12e-3 - 2.5e-6, 6e-3 - 0.5e-6, 33e-3 - 2.5e-6]
    )


def test_the_marks_of_a_short_call_are_paid_for_as_its_own_graphs_show(monkeypatch):
    raws = {"Marker": [12.5e-6, 8.2e-6, 33.4e-6], "Ends": [50e-6], "Thinned": [18.0e-6, 33.4e-6]}
    turns = _captured(monkeypatch, raws)
    traced = graph_events.Traced(lambda: None)
    traced.sample(6)
    calibrated = MarkCost(kernel_s=2.5e-6, fill_s=0.5e-6, empty_s=1.25e-6, chain_s=2.2e-6)
    intervals, _, _ = traced.finish(calibrated)
    assert turns[-5:] == ["Marker", "Thinned", "Thinned", "Thinned", "Ends"]
    # Odd pairs (0, 1): 12.5 + 8.2 - 18.0 us. Even pairs (1, 2): 8.2 + 33.4 - 33.4 us.
    assert [interval.times_s[0] for interval in intervals] == pytest.approx(
        [10.0e-6, 5.5e-6, 25.2e-6]
    )
