"""Costs against torch's FLOP counter, real modules and real caches."""

from __future__ import annotations

import make
import pytest
import torch
from models.cast import CAST
from models.options import LAYERS_ALONE, OPTIONS
from torch.utils.flop_counter import FlopCounterMode

from ssmprof.mixers.attention.shape import Attention, pairs
from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.mla.shape import Latent
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.part import allocated
from ssmprof.models.build import build, workload
from ssmprof.models.cost import breakdown, cost, parameters, weights
from ssmprof.models.footprint import footprint
from ssmprof.models.recipe import Recipe, kinds
from ssmprof.work import call_tokens

MATMULS = (
    "qkv_proj", "out_proj", "in_proj", "x_proj", "dt_proj", "up", "down", "head", "adapter", "proj",
    "router", "latent_in", "latent_out", "shared_up", "shared_down", "shared_gate", "q_proj",
    "kv_down", "kv_up", "decay_proj", "gate_proj", "low_rank",
)  # fmt: skip
ODD = Mamba2(d_inner=96, d_state=12, headdim=24, ngroups=2, gated_norm=False)
SPECS = [
    make.block("attention", vocab=50),
    make.block("mamba1", vocab=50, tie_embeddings=False),
    make.block("mamba2"),
    make.block("mamba2", mamba2=ODD, vocab=50),
    make.block("mamba1", mamba1=Mamba1(d_inner=96, d_state=12, dt_rank=5)),
    make.block("hybrid", depth=2),
    make.block("parallel", mlp=Mlp(d_ff=72, act="gelu"), vocab=50),
    make.block(
        "attention",
        attention=Attention(heads=4, kv_heads=4, head_dim=8, window=5, qkv_bias=True),
        mlp=Mlp(d_ff=72, act="relu2"),
    ),
    *CAST,
    *OPTIONS,
    *LAYERS_ALONE,
]
PHASES = ("prefill", "decode")


def point(spec: Recipe, phase: str, **changes: object):
    logits = "all" if spec.vocab else "none"
    values = {"phase": phase, "context": 19, "batch": 2, "logits": logits} | changes
    return make.point(spec.name, **values)


def beside(spec: Recipe, tokens: int) -> int:
    """FLOPs of parts that are named after a product and do more: scores of experts, norms."""
    found = 0
    for _, part in spec.used():
        if isinstance(part, Moe):
            found += tokens * (part.experts + (1 if part.shared_gate else 0))
        if isinstance(part, Latent):
            found += 4 * tokens * (part.q_lora_rank or 0)
    return found


# On a CPU torch's LSTM and GRU are one call each, which the counter does not look into.
COUNTED = [spec for spec in SPECS if not {"lstm", "gru"} & {*kinds(spec)}]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("spec", COUNTED, ids=lambda spec: spec.name)
def test_matmul_flops_equal_torchs_flop_counter(spec: Recipe, phase: str):
    where = point(spec, phase)
    call = workload(build(spec, "cpu", "float32"), where).call
    counter = FlopCounterMode(display=False)
    with counter:
        call()
    counted = counter.get_flop_counts()["Global"]
    aten = torch.ops.aten
    measured = counted.get(aten.mm, 0) + counted.get(aten.addmm, 0)
    parts = breakdown(spec, where)
    batched = {"mla.attention", "mla.kv_up"} & {*parts} if phase == "decode" else set()
    if batched:
        products = counted.get(aten.bmm, 0) + counted.get(aten.baddbmm, 0)
        assert products == sum(parts[name].flops for name in batched)
    predicted = sum(
        c.flops
        for name, c in parts.items()
        if name.split(".")[-1] in MATMULS and name not in batched
    )
    assert measured == predicted - beside(spec, call_tokens(where))


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_bytes_by_owner_equal_those_of_the_real_block(spec: Recipe, phase: str):
    where = point(spec, phase)
    work = workload(build(spec, "cpu", "float32"), where)
    found = footprint(spec, where)
    assert found.weights_bytes == work.weights_bytes
    assert found.kv_bytes == work.kv_bytes
    assert found.conv_state_bytes == work.conv_state_bytes
    assert found.ssm_state_bytes == work.ssm_state_bytes
    assert found.logits_bytes == work.logits_bytes
    assert found.peak_bytes > found.weights_bytes + found.cache_bytes + found.logits_bytes


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_parameters_equal_those_of_the_real_block(spec: Recipe):
    real = build(spec, "meta")
    assert parameters(spec) == sum(p.numel() for p in real.parameters())


@pytest.mark.parametrize("phase", PHASES)
def test_the_whole_is_the_sum_of_its_parts_and_grows_with_the_batch(phase: str):
    for spec in SPECS:
        one, two = (cost(spec, point(spec, phase, batch=batch)) for batch in (1, 2))
        parts = breakdown(spec, point(spec, phase, batch=1)).values()
        assert one.flops == sum(part.flops for part in parts)
        assert two.flops == pytest.approx(2 * one.flops)
        assert one.read_bytes < two.read_bytes < 2 * one.read_bytes  # weights are read once


def test_scan_flops_follow_the_published_formulas():
    context, heads, width, states = 4096, 24, 64, 128
    part = Mamba2(d_inner=heads * width, d_state=states, headdim=width)
    spec = make.block("mamba2", d_model=768, mamba2=part)
    scan = breakdown(spec, point(spec, "prefill", context=context, batch=1))["mamba2.scan"]
    inner, chunk = heads * width, 64
    assert scan.flops == context * (
        4 * states * inner + chunk * inner + chunk * states + 2 * states * inner / chunk
    )
    step = breakdown(spec, point(spec, "decode", batch=1))["mamba2.scan"]
    assert step.flops == 5 * inner * states
    old = make.block("mamba1", d_model=768, mamba1=Mamba1(d_inner=1536, d_state=16))
    scan = breakdown(old, point(old, "prefill", context=context, batch=1))["mamba1.scan"]
    assert scan.flops == 6 * context * 1536 * 16
    assert scan.exps == context * 1536 * (16 + 4)


@pytest.mark.parametrize("window", [None, 1, 7, 40])
def test_causal_pairs_equal_those_counted_one_by_one(window: int | None):
    context = 23
    counted = sum(min(token + 1, window or context) for token in range(context))
    assert pairs(context, window) == counted


def test_a_state_does_not_grow_with_the_context_and_keys_and_values_do():
    for spec in SPECS:
        short, long = (footprint(spec, point(spec, "prefill", context=c)) for c in (64, 128))
        assert short.ssm_state_bytes == long.ssm_state_bytes
        assert short.conv_state_bytes == long.conv_state_bytes
        attention = [part for part in spec.parts.values() if isinstance(part, Attention)]
        grows = {1 if part.window else 2 for part in attention} or {2}
        assert min(grows) * short.kv_bytes <= long.kv_bytes <= max(grows) * short.kv_bytes
        assert len(grows) == 1 or short.kv_bytes < long.kv_bytes < 2 * short.kv_bytes


def test_the_allocator_rounds_as_documented():
    mib = 2**20
    assert allocated(0) == 0
    assert allocated(1) == 512
    assert allocated(9 * mib + 1) == 9 * mib + 512
    assert allocated(11 * mib) == 12 * mib  # exactly 1 MiB over: the segment is not split
    assert allocated(11 * mib - 512) == 11 * mib - 512
    assert allocated(12 * mib + 1) == 12 * mib + 512


def test_bytes_count_in_the_dtype_that_keeps_them():
    spec = make.block("hybrid")
    plain = footprint(spec, make.point("hybrid", 1000, dtype="bfloat16"))
    small = footprint(
        spec,
        make.point(
            "hybrid", 1000, dtype="bfloat16", weights_dtype="int4", cache_dtype="float8",
            state_dtype="bfloat16",
        ),
    )  # fmt: skip
    assert small.kv_bytes * 2 == plain.kv_bytes
    assert small.conv_state_bytes == plain.conv_state_bytes  # 8 bits are for keys and values
    assert small.ssm_state_bytes * 2 == plain.ssm_state_bytes
    float32 = sum(4 * one.elements for one in weights(spec) if one.float32)
    assert (small.weights_bytes - float32) * 4 == plain.weights_bytes - float32
