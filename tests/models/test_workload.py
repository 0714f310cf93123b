"""A workload: one call that can be replayed for ever, inside named scopes, with exact bytes."""

from __future__ import annotations

import make
import pytest
import torch

from ssmprof.models.build import build, workload
from ssmprof.models.recipe import Recipe
from ssmprof.scopes import listening

SPECS = [make.block(name, depth=2, vocab=40) for name in make.LAYERS]
each = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)


@each
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_replayed_call_stays_finite_and_at_its_position(spec: Recipe, phase: str):
    model = build(spec, "cpu", "float32")
    work = workload(model, make.point(spec.name, 33, phase=phase, logits="last"))
    for _ in range(20):
        out = work.call()
    assert torch.isfinite(out).all()
    assert 1e-3 < out.std() < 1e3
    held = work.kv_bytes
    work.call()
    assert work.kv_bytes == held


@each
def test_a_prefill_replayed_gives_the_same_again(spec: Recipe):
    model = build(spec, "cpu", "float32")
    work = workload(model, make.point(spec.name, 33, logits="last"))
    torch.testing.assert_close(work.call(), work.call())


class Names:
    """Collects the full name and the core of every scope that is entered."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.seen: dict[str, str | None] = {}

    def enter(self, name: str, core: str | None) -> None:
        self.open.append(name)
        self.seen[".".join(self.open)] = core

    def leave(self) -> None:
        self.open.pop()


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_scopes_name_every_part(phase: str):
    spec = make.block("parallel", vocab=40)
    model = build(spec, "cpu", "float32")
    names = Names()
    with listening(names):
        work = workload(model, make.point("parallel", 9, phase=phase, logits="last"))
        work.call()
    assert names.open == []
    assert names.seen["layers.0.mamba2.scan"] == "scan"
    assert names.seen["layers.0.mamba2.conv"] == "conv"
    assert names.seen["layers.0.mamba2.norm"] == "norm"
    assert names.seen["layers.0.attention.attention"] == "attention"
    assert names.seen["layers.0.attention.rope"] == "rope"
    assert names.seen["layers.1.mlp.up"] is None
    expected = {
        "embedding", "layers.0.norm", "layers.0.mamba2.in_proj", "layers.0.mamba2.out_proj",
        "layers.0.attention.qkv_proj", "layers.0.mean",
        "layers.1.mlp.act", "layers.1.mlp.down", "final.norm", "head",
    }  # fmt: skip
    assert expected <= set(names.seen)


def test_every_part_that_has_a_cost_has_a_scope_of_that_name():
    from ssmprof.models.cost import breakdown

    for spec in SPECS:
        for phase in ("prefill", "decode"):
            point = make.point(spec.name, 9, phase=phase, logits="last")
            names = Names()
            with listening(names):
                workload(build(spec, "cpu", "float32"), point).call()
            parts = {
                name.split(".", 2)[2]
                if name.startswith("layers.") and name.count(".") > 1
                else name
                for name in names.seen
            }
            assert set(breakdown(spec, point)) <= parts


def test_a_released_workload_is_over():
    model = build(SPECS[0], "cpu", "float32")
    work = workload(model, make.point("attention", 9))
    work.release()
    with pytest.raises(RuntimeError, match="released"):
        work.call()


def test_the_provider_of_every_op_that_ran_is_named():
    model = build(make.block("parallel"), "cpu", "float32")
    work = workload(model, make.point("parallel", 9))
    work.call()
    assert work.providers()["attention_prefill"] == "sdpa"
    assert work.providers()["ssd_scan"] == "reference"
