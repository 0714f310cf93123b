"""Choosing among measured candidates, and the stand-in for the launch tables."""

from __future__ import annotations

import math
import pathlib
import sys

import pytest
import torch
from ssmprof_kernels import launch
from ssmprof_kernels.attention import plan as attention
from ssmprof_kernels.conv import plan as conv
from ssmprof_kernels.experts import op as experts
from ssmprof_kernels.gated_delta import plan as delta
from ssmprof_kernels.latent import op as latent
from ssmprof_kernels.linear_attention import plan as linear
from ssmprof_kernels.linear_attention import step as linear_step
from ssmprof_kernels.mamba3 import plan as mamba3
from ssmprof_kernels.mamba3 import step as mamba3_step
from ssmprof_kernels.norm import plan as norm
from ssmprof_kernels.rwkv7 import plan as rwkv7
from ssmprof_kernels.rwkv7 import step as rwkv7_step

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
    default = {"BLOCK": 1, "STAGES": 3}
    forced.meta = {"BLOCK": 7}
    found = forced("op", "1K", cpu, default).meta
    assert found == {"BLOCK": 7, "STAGES": 3}
    # The same object, or every call would be recorded anew.
    assert forced("op", "1K", cpu, default).meta is found
    assert (forced.bucket, forced.current) == ("1K", default)
    assert forced("op", "4K", cpu, {"OTHER": 1}).meta == {"OTHER": 1}
    assert forced("another", "x", cpu, {"BLOCK": 1}).meta == {"BLOCK": 1}
    launch.forget()


def test_candidates_name_parameters_of_the_defaults(tune):
    by_step = linear_step.default(64, "64K")
    defaults = {
        "causal_conv1d": conv.DEFAULT, "causal_conv1d_update": conv.DEFAULT_UPDATE,
        "gated_rmsnorm": norm.DEFAULT, "attention_decode": attention.DEFAULT,
        "mla_decode": latent.DEFAULT, "moe": experts.DEFAULTS["64"],
        **dict.fromkeys(("gla", "retention", "lightning"), linear.DEFAULT),
        **dict.fromkeys(("gla_step", "retention_step", "lightning_step"), by_step),
        "rwkv7": rwkv7.DEFAULT, "rwkv7_step": rwkv7_step.DEFAULT,
        "gated_delta": delta.DEFAULT, "kda": delta.DEFAULT,
        "mamba3": mamba3.DEFAULT, "mamba3_step": mamba3_step.DEFAULT,
    }  # fmt: skip
    assert set(defaults) == set(tune.CANDIDATES)
    for op, candidates in tune.CANDIDATES.items():
        assert candidates
        assert all(set(c) <= set(defaults[op]) for c in candidates), op
        assert len({tuple(c.items()) for c in candidates}) == len(candidates), op


def test_a_bucket_keeps_the_fastest_candidate_of_those_that_compute_the_same(tune, monkeypatch):
    from cases import Case
    from ssmprof_kernels import OPS

    x, weight, op = torch.randn(1, 2, 64), torch.randn(64), OPS["gated_rmsnorm"]
    seen, now = [], {"ELEMENTS": 256, "PER_WARP": 256}

    def call():
        pick = launch.pick("gated_rmsnorm", "64", x.device, now)
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
    candidates = tune.CANDIDATES["gated_rmsnorm"]

    def tuned(pattern, until=math.inf):
        found = tune.cells(table, ["gated_rmsnorm"], [pattern])
        return tune.chosen(tune.measure("gated_rmsnorm", found, candidates, until), candidates)

    # 4096 answers wrongly, so that the largest of the others wins.
    assert tuned("*/2/1") == {"64": ({"ELEMENTS": 2048, "PER_WARP": 512}, pytest.approx(1 / 2560))}
    assert tuned("*/8/1") == {}
    assert tuned("*/2/1", until=-math.inf) == {}
    # No change where nothing is faster than what is there.
    now.update(ELEMENTS=8192, PER_WARP=512)
    launch.forget()
    assert tuned("*/2/1") == {}
    launch.forget()
