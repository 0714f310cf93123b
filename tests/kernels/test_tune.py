"""Choosing among measured candidates, and the stand-in for the launch tables."""

from __future__ import annotations

import pathlib
import sys

import pytest
import torch
from ssmprof_kernels import launch
from ssmprof_kernels.attention import plan as attention
from ssmprof_kernels.conv import plan as conv
from ssmprof_kernels.norm import plan as norm

# The benchmark's files import each other by name, as they do when run as scripts.
HERE = pathlib.Path(__file__).parents[2] / "kernels" / "benchmarks"


@pytest.fixture
def tune(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import tune

    yield tune
    for name in ("tune", "cases", "plan", "timing", "verdicts"):
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
    defaults = {
        "causal_conv1d": conv.DEFAULT, "causal_conv1d_update": conv.DEFAULT_UPDATE,
        "gated_rmsnorm": norm.DEFAULT, "attention_decode": attention.DEFAULT,
    }  # fmt: skip
    assert set(defaults) == set(tune.CANDIDATES)
    for op, candidates in tune.CANDIDATES.items():
        default = defaults[op]
        assert candidates
        assert all(set(c) == set(default) for c in candidates), op


def test_a_bucket_keeps_the_fastest_candidate_of_those_that_compute_the_same(tune, monkeypatch):
    from cases import Case
    from ssmprof_kernels import OPS

    x, weight, op = torch.randn(1, 2, 64), torch.randn(64), OPS["gated_rmsnorm"]
    seen = []

    def call():
        pick = launch.pick("gated_rmsnorm", "64", x.device, {"ELEMENTS": 0, "PER_WARP": 0})
        seen.append(pick.meta)
        y = op.kernel(x, weight, z=x, group_size=64)
        return y + 1 if pick.meta["ELEMENTS"] == 4096 else y

    def build(cell):
        return Case(
            "gated_rmsnorm", "m", 2, 1, 64, {}, [call],
            lambda: op.plain(x, weight, z=x, group_size=64), 1.0, 1.0, 1.0,
        )  # fmt: skip

    class Timer:
        def __init__(self, call):
            call()
            self.ms = 1.0 / (seen[-1]["ELEMENTS"] + seen[-1]["PER_WARP"])

        def sample_ms(self):
            return self.ms

    table = {"gated_rmsnorm": [{"models": [{"name": "m"}], "lengths": [2, 4], "batches": [1]}]}
    monkeypatch.setitem(
        tune.CANDIDATES,
        "gated_rmsnorm",
        [{"ELEMENTS": e, "PER_WARP": p} for e in (1024, 2048, 4096) for p in (256, 512)],
    )
    monkeypatch.setattr(tune, "build", build)
    monkeypatch.setattr(tune.timing, "ColdTimer", Timer)
    # 4096 answers wrongly, so that the largest of the others wins.
    found = tune.tune("gated_rmsnorm", table, 0, ["*/2/1"])
    assert found == {"64": ({"ELEMENTS": 2048, "PER_WARP": 512}, pytest.approx(1 / 2560))}
    assert tune.tune("gated_rmsnorm", table, 0, ["*/8/1"]) == {}
    launch.forget()
