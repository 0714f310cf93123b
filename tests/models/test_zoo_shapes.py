"""Sub-layers that are only counted: sizes against published models, work against hand counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ssmprof.mixers import registry
from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.delta.shape import Delta, GatedDelta, Kda
from ssmprof.mixers.gmu.shape import Gmu
from ssmprof.mixers.hymba.shape import Hymba
from ssmprof.mixers.linear_attention.shape import Gla, Lightning, RetNet
from ssmprof.mixers.lstm.shape import Gru, Lstm
from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.mamba3.shape import Mamba3
from ssmprof.mixers.mla.shape import Latent
from ssmprof.mixers.mlstm.shape import Mlstm
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.part import Part, kind
from ssmprof.mixers.plamo2.shape import Plamo2
from ssmprof.mixers.rglru.shape import RgLru
from ssmprof.mixers.rwkv7.shape import Rwkv7, Rwkv7Ffn
from ssmprof.mixers.short_conv.shape import ShortConv
from ssmprof.records import Decode, Point, Prefill
from ssmprof.work import total

D = 64
PARTS: list[Part] = [
    Moe(experts=8, experts_per_token=2, d_ff=48, shared_d_ff=32, shared_gate=True,
        router_bias=True),
    Moe(experts=8, experts_per_token=2, d_ff=48, act="relu2", bias=True, latent=16, groups=4,
        top_groups=2),
    Latent(heads=4, kv_lora_rank=16, q_lora_rank=24, qk_nope_head_dim=8, qk_rope_head_dim=4,
           v_head_dim=8),
    Latent(heads=4, kv_lora_rank=16, bias=True, rope_theta=None),
    Delta(heads=4, key_dim=8, value_dim=16),
    GatedDelta(heads=4, key_heads=2, key_dim=8, value_dim=16),
    Kda(heads=4, key_dim=8, value_dim=8, gate_bias=True),
    Gla(heads=4, key_dim=8, value_dim=16, d_conv=4, conv_bias=True),
    RetNet(heads=4, kv_heads=2, key_dim=16, value_dim=32),
    Lightning(heads=4, key_dim=16, value_dim=16),
    Rwkv7(heads=4, head_dim=16, decay_rank=8, step_rank=8, gate_rank=16, value_rank=8),
    Rwkv7Ffn(width=D, d_ff=256),
    Mamba3(d_inner=128, d_state=16, headdim=32),
    Mamba3(d_inner=128, d_state=16, headdim=32, mimo_rank=4, out_norm=True, ngroups=2),
    RgLru(width=96, heads=4),
    Mlstm(heads=2, key_dim=16, value_dim=32),
    ShortConv(width=D, bias=True),
    Lstm(hidden=96),
    Gru(hidden=D),
    Gmu(memory_width=128),
    Plamo2(d_inner=128, d_state=16, headdim=32, dt_rank=64),
    Hymba(
        attention=Attention(
            heads=4, kv_heads=2, head_dim=16, v_head_dim=32, window=100, prefix=5
        ),
        mamba=Mamba1(d_inner=128, d_state=8, inner_norms="weighted"),
    ),
    Attention(heads=4, kv_heads=2, head_dim=16, d_conv=4, qk_norm="heads"),
]  # fmt: skip
GROWS = [part for part in PARTS if part.memory == "grows"]
FIXED = [part for part in PARTS if part.memory in ("fixed", "none")]


def name(part: Part) -> str:
    return kind(part)


def at(phase: str, context: int = 256, batch: int = 2, **values: Any) -> Point:
    workload = Prefill(context=context) if phase == "prefill" else Decode(context=context)
    return Point(block="part", block_digest="", workload=workload, batch=batch, **values)


def work_of(part: Part, point: Point):
    return total(part.cost(D, point).values())


def kept(part: Part, point: Point, owner: str) -> int:
    return sum(tensor.elements for tensor in part.held(point) if tensor.owner == owner)


def test_every_part_here_is_sound_and_every_kind_is_here():
    assert [part.check(D) for part in PARTS] == [None] * len(PARTS)
    mentioned = {kind(part) for part in PARTS} | {"mamba1", "mamba2", "mlp"}
    assert mentioned == set(registry.parts())


@pytest.mark.parametrize("part", PARTS, ids=name)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_twice_the_batch_is_twice_the_work_and_reads_weights_once(part: Part, phase: str):
    one, two = work_of(part, at(phase, batch=1)), work_of(part, at(phase, batch=2))
    assert two.flops == pytest.approx(2 * one.flops)
    assert two.exps == pytest.approx(2 * one.exps)
    assert two.written_bytes == pytest.approx(2 * one.written_bytes)
    assert one.read_bytes < two.read_bytes < 2 * one.read_bytes
    assert part.peak(D, at(phase, batch=64)) > part.peak(D, at(phase, batch=1)) > 0


@pytest.mark.parametrize("part", PARTS, ids=name)
def test_a_call_multiplies_with_active_weights_and_reads_all_it_can(part: Part):
    """Each weight of a matrix is read once and is two FLOPs per token, at the least."""
    active = sum(weight.elements * weight.active for weight in part.weights(D))
    prefill = work_of(part, at("prefill", batch=1))
    assert prefill.flops > 2 * 256 * active * 0.9
    assert prefill.read_bytes > 2 * sum(weight.elements for weight in part.weights(D)) * 0.75


@pytest.mark.parametrize("part", FIXED, ids=name)
def test_work_of_a_fixed_state_does_not_grow_with_the_context(part: Part):
    near, far = at("decode", 256), at("decode", 65_536)
    assert part.cost(D, near) == part.cost(D, far)
    assert part.held(near) == part.held(far)
    assert work_of(part, at("prefill", 512)).flops == pytest.approx(
        2 * work_of(part, at("prefill", 256)).flops
    )


@pytest.mark.parametrize("part", GROWS, ids=name)
def test_a_cache_grows_by_a_row_per_token(part: Part):
    row = kept(part, at("prefill", 1), "kv")
    assert kept(part, at("prefill", 1000), "kv") == 1000 * row
    assert kept(part, at("decode", 1000), "kv") == 1001 * row
    steps = [work_of(part, at("decode", tokens)) for tokens in (1000, 2000, 3000)]
    assert steps[2].flops - steps[1].flops == steps[1].flops - steps[0].flops > 0
    assert work_of(part, at("prefill", 512)).flops > 2 * work_of(part, at("prefill", 256)).flops


def test_a_step_of_a_fixed_state_reads_it_and_writes_it_back():
    part = GatedDelta(heads=4, key_dim=8, value_dim=16, d_conv=0)
    step = part.cost(D, at("decode", batch=3))["scan"]
    state = 3 * 4 * 8 * 16 * 4
    channels = 4 * 8 * 2 + 4 * 16
    assert step.read_bytes == state + 3 * (channels + 4 + 4) * 2
    assert step.written_bytes == state + 3 * 4 * 16 * 2
    # Decay, the value of the key, the difference written, the query's value.
    assert step.flops == 3 * 4 * (1 + 2 + 2 + 2) * 8 * 16


def test_a_chunk_of_the_delta_rule_by_hand():
    part, heads, key, value, chunk = GatedDelta(heads=4, key_dim=8, value_dim=16), 4, 8, 16, 64
    scan = part.cost(D, at("prefill", 64, batch=1))["scan"]
    scores = 2 * chunk**2 * key  # of keys, and of queries with keys: causal halves of two each
    solved = chunk**3 / 3 + chunk**2 * (key + value)
    outputs = chunk**2 * value
    state = 3 * 2 * chunk * key * value + 2 * key * value
    assert scan.flops == pytest.approx(heads * (scores + solved + outputs + state))


def test_heads_that_share_a_key_share_its_scores():
    own = GatedDelta(heads=4, key_dim=8, value_dim=16)
    shared = GatedDelta(heads=4, key_heads=2, key_dim=8, value_dim=16)
    point = at("prefill", 64, batch=1)
    saved = own.cost(D, point)["scan"].flops - shared.cost(D, point)["scan"].flops
    assert saved == pytest.approx(2 * 2 * 64**2 * 8)


def test_a_chunk_of_gated_linear_attention_by_hand():
    part = Gla(heads=4, key_dim=8, value_dim=16)
    scan = part.cost(D, at("prefill", 128, batch=1))["scan"]
    chunk = 64**2 * (8 + 16) + 2 * 2 * 64 * 8 * 16 + 2 * 8 * 16
    assert scan.flops == 2 * 4 * chunk
    assert part.cost(D, at("decode", batch=1))["scan"].flops == 4 * 5 * 8 * 16


def test_rank_r_of_mamba3_costs_r_times_the_scan_of_rank_one():
    one = Mamba3(d_inner=2048, d_state=128)
    four = Mamba3(d_inner=2048, d_state=128, mimo_rank=4)
    point = at("prefill", 4096, batch=1)
    ratio = four.cost(1024, point)["scan"].flops / one.cost(1024, point)["scan"].flops
    assert ratio == pytest.approx(4, rel=0.03)


def test_mamba3_keeps_its_state_the_last_key_of_each_head_and_the_last_value():
    assert kept(Mamba3(d_inner=4096), at("decode"), "ssm_state") == 4096 * 128 + 64 * 128 + 4096


def test_a_prefill_touches_all_experts_and_a_token_those_it_is_sent_to():
    moe = Moe(experts=128, experts_per_token=6, d_ff=8)
    assert moe.touched(1) == pytest.approx(6)
    assert moe.touched(2) == pytest.approx(128 * (1 - (122 / 128) ** 2))
    assert moe.touched(8192) == pytest.approx(128)


def test_experts_by_hand():
    moe = Moe(experts=8, experts_per_token=2, d_ff=48)
    parts = moe.cost(D, at("decode", batch=1))
    assert parts["router"].flops == 2 * D * 8 + 8
    assert parts["up"].flops == 2 * 2 * D * 2 * 48
    assert parts["up"].read_bytes == (2 * D * 96 + D) * 2
    assert parts["down"].flops == 2 * 2 * 48 * D
    assert parts["combine"].flops == 2 * 2 * D


def test_a_step_of_latent_attention_looks_at_latents_and_a_prefill_at_what_they_expand_to():
    part = Latent(heads=4, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8)
    step = part.cost(D, at("decode", 99, batch=1))["attention"]
    assert step.flops == 2 * 100 * 4 * (16 + 4 + 16)
    assert step.read_bytes == (100 * 20 + 4 * 20) * 2
    prefill = part.cost(D, at("prefill", 100, batch=1))["attention"]
    assert prefill.flops == 2 * (100 * 101 // 2) * 4 * (12 + 8)
    assert kept(part, at("decode", 99), "kv") == 100 * 20


def test_meta_tokens_are_seen_beyond_a_window_and_kept():
    part = Attention(heads=4, kv_heads=2, head_dim=16, window=10, prefix=5)
    assert kept(part, at("prefill", 1000), "kv") == 15 * 2 * 2 * 16
    assert kept(part, at("prefill", 4), "kv") == 9 * 2 * 2 * 16
    pairs = 10 * 11 // 2 + 90 * 10 + 100 * 5
    assert part.cost(D, at("prefill", 100, batch=1))["attention"].flops == 2 * pairs * 4 * 32


def test_a_convolution_before_attention_keeps_its_window():
    part = Attention(heads=4, kv_heads=2, head_dim=16, d_conv=4)
    assert kept(part, at("decode"), "conv_state") == (4 + 2 + 2) * 16 * 4
    plain = Attention(heads=4, kv_heads=2, head_dim=16)
    more = sum(w.elements for w in part.weights(D)) - sum(w.elements for w in plain.weights(D))
    assert more == (4 + 2 + 2) * 16 * 5


BROKEN: list[tuple[Callable[[], Part], str]] = [
    (lambda: Moe(experts=8, experts_per_token=9, d_ff=8), "experts_per_token"),
    (lambda: Moe(experts=8, experts_per_token=2, d_ff=8, groups=3), "groups"),
    (lambda: Moe(experts=8, experts_per_token=2, d_ff=8, groups=2, top_groups=3), "top_groups"),
    (lambda: Moe(experts=8, experts_per_token=2, d_ff=8, shared_gate=True), "shared_gate"),
    (lambda: Moe(experts=8, experts_per_token=2, d_ff=8, act="relu2", clamp=7.0), "clamp"),
    (lambda: Latent(heads=2, kv_lora_rank=8, qk_rope_head_dim=5), "qk_rope_head_dim"),
    (lambda: GatedDelta(heads=4, key_heads=3, key_dim=8, value_dim=8), "key_heads"),
    (lambda: Gla(heads=4, key_dim=8, value_dim=8, gate_rank=0), "gate_rank"),
    (lambda: RetNet(heads=4, key_dim=7, value_dim=8), "key_dim"),
    (lambda: RetNet(heads=4, kv_heads=3, key_dim=8, value_dim=8), "kv_heads"),
    (lambda: Rwkv7(heads=3, head_dim=16, decay_rank=8, step_rank=8, gate_rank=8), "heads"),
    (lambda: Rwkv7Ffn(width=32, d_ff=64), "width"),
    (lambda: Mamba3(d_inner=100, d_state=16), "headdim"),
    (lambda: Mamba3(d_inner=128, d_state=16, ngroups=3), "ngroups"),
    (lambda: Mamba3(d_inner=128, d_state=2), "d_state"),
    (lambda: RgLru(width=100, heads=3), "heads"),
    (lambda: Plamo2(d_inner=100, d_state=8, headdim=64, dt_rank=8), "headdim"),
    (
        lambda: Hymba(
            attention=Attention(heads=4, kv_heads=2, head_dim=16),
            mamba=Mamba1(d_inner=128, d_state=8),
        ),
        "attention.heads",
    ),
]


@pytest.mark.parametrize(("part", "key"), BROKEN, ids=[key for _, key in BROKEN])
def test_sizes_that_do_not_fit_are_named(part: Callable[[], Part], key: str):
    problem = part().check(D)
    assert problem is not None
    assert problem[0] == key
