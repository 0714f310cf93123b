"""One call: kernels that were counted on a GPU, and seconds that follow from their number."""

from __future__ import annotations

from functools import cache

import pytest
from estimates import ROOT
from make import block, job, point
from msgspec.structs import replace

from ssmprof.models.launches import PER_SUBLAYER, launches
from ssmprof.planning import calls
from ssmprof.planning.machine import HOST_S, NODE_S, Machine
from ssmprof.records import Measurement
from ssmprof.store import folder

H200 = Machine.of_device("NVIDIA H200", "cuda")
PLAIN = (
    "mamba1", "mamba2", "mamba3", "rwkv7", "gla", "retnet", "lightning", "delta", "gated-delta",
    "kda",
)  # fmt: skip


@cache
def zoo():
    """Block -> prompts of the first process, the shortest first."""
    run = folder.load(ROOT / "reports" / "2026-11-30-zoo-h200")
    blocks = {one.name: one for one in run.scenario.blocks}
    found = sorted(
        (
            one
            for one in run.outcomes
            if isinstance(one, Measurement) and one.round == 0 and one.point.phase == "prefill"
        ),
        key=lambda one: one.point.context,
    )
    return {
        name: (recipe, [one for one in found if one.point.block == name])
        for name, recipe in blocks.items()
    }


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_form_launches_what_a_gpu_counted_beyond_its_twin(name: str) -> None:
    recipe, measured = zoo()[f"{name}-plain"]
    usual = PER_SUBLAYER * 4
    for plain, twin in zip(measured, zoo()[name][1], strict=True):
        if plain.point.context >= 2048:  # shorter ones hardly loop
            found = launches(recipe, plain.point)
            said = found.launches + found.native - usual
            assert said == pytest.approx(plain.launches - twin.launches, rel=0.06)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_recurrent_units_launch_two_kernels_a_token_within_one_op(name: str) -> None:
    recipe, measured = zoo()[name]
    for one in measured:
        found = launches(recipe, one.point)
        assert found.native == 2 * 2 * one.point.context
        assert found.native == pytest.approx(one.launches, rel=0.04)
        assert found.launches == PER_SUBLAYER * 4


@pytest.mark.parametrize("name", ["lstm", "gru", *(f"{name}-plain" for name in PLAIN)])
def test_calls_bound_by_launches_are_told_within_half(name: str) -> None:
    recipe, measured = zoo()[name]
    for one in measured:
        if one.point.context >= 2048:
            said = calls.call_s(recipe, one.point, H200)
            assert 1 / 1.5 <= said / one.time_s <= 1.5


def test_a_decode_step_does_not_loop_and_a_larger_batch_launches_no_more() -> None:
    recipe, measured = zoo()["gla-plain"]
    long = measured[-1].point
    step = point("gla-plain", 131072, phase="decode")
    assert launches(recipe, step).launches == PER_SUBLAYER * 4
    assert launches(recipe, replace(long, batch=8)) == launches(recipe, long)
    unit = zoo()["lstm"][0]
    assert launches(unit, step).native == 0


def test_a_step_reads_its_weights_again() -> None:
    recipe, measured = zoo()["gru"]
    found = launches(recipe, measured[0].point)
    assert found.moved_bytes == 2 * 512 * 3 * 2048 * 2048 * 2


def test_an_eager_call_takes_what_its_launches_take_where_they_are_longer() -> None:
    recipe = block("attention")
    short = job("attention", 512).point
    found = calls.call_of(recipe, short, H200)
    assert found.ops == found.kernels == PER_SUBLAYER * 2
    host_s = found.ops * HOST_S["cuda"]
    assert found.eager_s == pytest.approx(host_s + found.graph_s / found.kernels)
    assert found.graph_s >= found.kernels * NODE_S["cuda"]
    cpu = Machine.of_device("some CPU", "cpu")
    alone = calls.call_of(recipe, short, cpu)
    assert alone.eager_s == pytest.approx(alone.graph_s + alone.ops * HOST_S["cpu"])


def test_a_native_loop_keeps_the_host_out_of_it() -> None:
    recipe, measured = zoo()["lstm"]
    found = calls.call_of(recipe, measured[-1].point, H200)
    assert found.looped
    assert found.eager_s == found.graph_s
    assert not calls.call_of(*_of("mamba2"), H200).looped


def _of(name: str):
    recipe, measured = zoo()[name]
    return recipe, measured[-1].point
