"""Choosing among measured candidates, and the stand-in for the launch tables."""

from __future__ import annotations

import pathlib
import sys

import pytest
import torch
from ssmprof_kernels import launch

# The benchmark's files import each other by name, as they do when run as scripts.
HERE = pathlib.Path(__file__).parents[2] / "kernels" / "benchmarks"


@pytest.fixture
def tune(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import tune

    yield tune
    for name in ("tune", "cases", "timing", "verdicts"):
        sys.modules.pop(name, None)


def test_the_best_geometric_mean_over_all_cells_wins(tune):
    times = {"a": [1.0, 9.0], "b": [2.0, 2.0], "c": [0.1, None], "d": []}
    assert tune.best(times) == ("b", 2.0)


def test_nothing_wins_where_every_candidate_failed(tune):
    assert tune.best({"a": [None], "b": []}) is None


def test_a_candidate_is_forced_on_its_operation_only_where_its_parameters_fit(tune):
    forced = tune.Forced("op")
    cpu = torch.device("cpu")
    forced.meta = {"BLOCK": 7}
    assert forced("op", "1K", cpu, {"BLOCK": 1}).meta == {"BLOCK": 7}
    assert forced.bucket == "1K"
    assert forced("op", "1K", cpu, {"OTHER": 1}).meta == {"OTHER": 1}
    assert forced("another", "x", cpu, {"BLOCK": 1}).meta == {"BLOCK": 1}
    launch.forget()


def test_candidates_carry_exactly_the_parameters_of_the_defaults(tune):
    from ssmprof_kernels import OPS

    for op, candidates in tune.CANDIDATES.items():
        default = OPS[op].kernel.__globals__["DEFAULT"]
        assert candidates
        assert all(set(c) == set(default) for c in candidates), op
