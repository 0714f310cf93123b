"""Providers: every implementation of an op answers alike, under its own name."""

from __future__ import annotations

import make
import msgspec
import pytest
import torch
from torch.nn.attention import SDPBackend

from ssmprof.mixers.attention import rope
from ssmprof.mixers.attention.sdpa import attention_prefill
from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.cache import StateCache
from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.mamba3.shape import Mamba3
from ssmprof.mixers.mla.shape import Latent
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.ops import (
    Choice,
    Op,
    candidates,
    choose,
    table,
)
from ssmprof.mixers.part import Part, kind
from ssmprof.mixers.rwkv7.shape import Rwkv7, Rwkv7Ffn
from ssmprof.models.build import build, workload
from ssmprof.models.recipe import Recipe

CPU = torch.device("cpu")
OWN = [op for op, entry in table().items() if "ssmprof" in entry.find]


def test_every_op_has_a_last_resort_or_plain_torch():
    for op, entry in table().items():
        assert entry.last <= set(entry.find), op
        assert "torch" in entry.find or entry.last, op


@pytest.mark.parametrize("op", table())
def test_every_op_runs_on_a_cpu(op: str):
    call, name = choose(op, CPU)
    assert callable(call)
    assert name in table()[op].find
    assert list(candidates(op, CPU)) == [name]


@pytest.mark.parametrize("name", ["attention", "mamba1", "mamba2", "mamba3", "mla", "moe", "rwkv7"])
def test_a_block_on_our_kernels_agrees_with_one_on_plain_torch(name: str):
    ranks = {"heads": 2, "head_dim": 16, "decay_rank": 4, "step_rank": 3, "gate_rank": 5}
    small = {  # the interpreter is slow
        "mamba1": Mamba1(d_inner=32, d_state=8, dt_rank=4),
        "mamba2": Mamba2(d_inner=32, d_state=8, headdim=16),
        "mamba3": Mamba3(d_inner=32, d_state=8, headdim=16, mimo_rank=2),
        "mla": Latent(
            heads=2, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=8
        ),
        "moe": Moe(experts=4, experts_per_token=2, d_ff=16),
        "rwkv7": Rwkv7(**ranks),
        "later": Rwkv7(**ranks, value_rank=3),
        "rwkv7_ffn": Rwkv7Ffn(width=32, d_ff=48),
    }  # fmt: skip
    lines = {"moe": "mamba2 moe", "rwkv7": "rwkv7 rwkv7_ffn later"}
    line = lines.get(name, f"{name} mlp")
    spec = make.block(name, layers=line, vocab=30, d_model=32, **small)
    plain = build(spec, "cpu", "float32")
    forced = {op: "ssmprof" for op in plain.providers() if op in OWN}
    mine = build(msgspec.structs.replace(spec, providers=forced), "cpu", "float32")
    tokens = plain.example(1, 7)
    caches = [model.new_cache(1, 8) for model in (plain, mine)]
    outs = [m.prefill(tokens, c, "all") for m, c in zip((plain, mine), caches, strict=True)]
    torch.testing.assert_close(outs[1], outs[0], rtol=1e-3, atol=1e-3)
    for cache in caches:
        cache.advance(7)
    step = plain.example(1, None)
    outs = [m.step(step, c, "last") for m, c in zip((plain, mine), caches, strict=True)]
    torch.testing.assert_close(outs[1], outs[0], rtol=1e-3, atol=1e-3)
    assert set(forced.items()) <= set(mine.providers().items())


@pytest.mark.parametrize("name", ["mamba1", "mamba2"])
def test_a_ring_of_inputs_changes_nothing_whoever_runs_the_steps(name: str):
    part = {
        "mamba1": Mamba1(d_inner=32, d_state=8, dt_rank=4),
        "mamba2": Mamba2(d_inner=32, d_state=8, headdim=16),
    }[name]
    spec = make.block(name, layers=name, vocab=30, d_model=32, **{name: part})
    plain = build(spec, "cpu", "float32")
    forced = {"selective_state_update": "ssmprof-ring"}
    ringed = build(msgspec.structs.replace(spec, providers=forced), "cpu", "float32")
    caches = [model.new_cache(2, 30) for model in (plain, ringed)]
    # The ring counts: x, B and a step size of 16 (4) tokens, and its marks.
    assert caches[1].ssm_state_bytes > caches[0].ssm_state_bytes
    tokens = plain.example(2, 7)

    def both(call: str, inputs: torch.Tensor, count: int) -> None:
        outs = [
            getattr(m, call)(inputs, c, "last")
            for m, c in zip((plain, ringed), caches, strict=True)
        ]
        torch.testing.assert_close(outs[1], outs[0], rtol=1e-4, atol=1e-4)
        for cache in caches:
            cache.advance(count)

    both("prefill", tokens, 7)
    for at in range(6):
        both("step", plain.example(2, None, at), 1)
    both("prefill", tokens, 7)  # reads the whole state: what is pending comes first
    for at in range(3):
        both("step", plain.example(2, None, at), 1)
    layer = caches[1].layers[0]
    assert isinstance(layer, StateCache)
    assert layer.pending.live
    call, _ = choose("selective_state_update", CPU)
    op = ringed.ops["selective_state_update"]
    op.found[op.name] = call  # another provider takes over: it settles what was left
    both("step", plain.example(2, None, 9), 1)
    assert not layer.pending.live


@pytest.mark.parametrize("window", [None, 1, 4, 6, 30])
@pytest.mark.parametrize("before", [0, 1, 5, 9])
def test_windowed_attention_equals_a_mask(window: int | None, before: int):
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 13, 4, 8, generator=generator)
    k, v = (torch.randn(2, 13 + before, 2, 8, generator=generator) for _ in range(2))
    token = torch.arange(13)[:, None] + before
    key = torch.arange(13 + before)[None]
    seen = (key <= token) & (key > token - (window or 10**6))
    expected = torch.nn.functional.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.repeat_interleave(2, 2).transpose(1, 2),
        v.repeat_interleave(2, 2).transpose(1, 2),
        attn_mask=seen,
    ).transpose(1, 2)
    torch.testing.assert_close(attention_prefill(q, k, v, window=window), expected)


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(4, 4, 8), (6, 1, 12), (2, 2, 20)])
def test_our_rotary_equals_plain_torch(turned: bool, heads: int, kv_heads: int, dim: int):
    from ssmprof_kernels.rotary.op import rotary
    from ssmprof_kernels.rotary.reference import rotary as rotary_in_torch

    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, 5, (heads + 2 * kv_heads) * dim + 3, generator=generator)[..., 3:]
    qkv = qkv.unflatten(-1, (-1, dim))  # token strides that are no multiple of a head
    part = Attention(heads=heads, kv_heads=kv_heads, head_dim=dim, rope_theta=100.0)
    cos, sin = rope.tables(part, 9, CPU, torch.float32)
    tables = (cos[4:], sin[4:]) if turned else (None, None)
    mine, plain = (torch.zeros(2, 2, 11, kv_heads, dim) for _ in range(2))
    got = rotary(qkv, *tables, *mine, 4)
    torch.testing.assert_close(got, rotary_in_torch(qkv, *tables, *plain, 4))
    torch.testing.assert_close(mine, plain)
    with pytest.raises(ValueError, match="lie in a cache of 11"):
        rotary(qkv, *tables, *mine, 7)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("width", [1, 63, 1500])
def test_our_sum_and_norm_equal_plain_torch(width: int, in_place: bool):
    from ssmprof_kernels.add_norm.op import add_rms_norm

    generator = torch.Generator().manual_seed(0)
    x, update = (torch.randn(3, 5, width, generator=generator) for _ in range(2))
    weight = torch.rand(width, generator=generator)
    given = x.clone()
    total, normed = add_rms_norm(given, update, weight, scale=0.5, eps=1e-5, in_place=in_place)
    expected = x + 0.5 * update
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(
        normed, torch.nn.functional.rms_norm(expected, (width,), weight, 1e-5)
    )
    assert (given is total) == in_place
    torch.testing.assert_close(given, expected if in_place else x)


@pytest.mark.parametrize("width", [1, 63, 1500])
def test_our_swiglu_equals_plain_torch(width: int):
    from ssmprof_kernels.swiglu.op import swiglu

    hidden = 10 * torch.randn(2, 3, 2 * width, generator=torch.Generator().manual_seed(0))
    gate, value = hidden.chunk(2, dim=-1)
    expected = torch.nn.functional.silu(gate) * value
    torch.testing.assert_close(swiglu(hidden), expected)
    with pytest.raises(ValueError, match="contiguous"):
        swiglu(hidden.transpose(0, 1))


@pytest.mark.parametrize(
    "part",
    [
        Mlp(d_ff=48, act="relu2"),
        Moe(experts=4, experts_per_token=2, d_ff=16, act="relu2", shared_d_ff=24),
        Rwkv7Ffn(width=32, d_ff=48),
    ],
    ids=kind,
)
def test_a_squared_rectifier_is_one_op_wherever_it_stands(part: Part):
    name = kind(part)
    spec = make.block(name, layers=name, vocab=30, d_model=32, **{name: part})
    outs = []
    for provider in ("torch", "ssmprof"):
        chosen = msgspec.structs.replace(spec, providers={"relu2": provider})
        model = build(chosen, "cpu", "float32")
        assert model.providers()["relu2"] == provider
        outs.append(model.prefill(model.example(1, 7), model.new_cache(1, 8), "all"))
    assert outs[0].std() > 0.01
    assert torch.equal(*outs)


def test_other_packages_are_looked_for_and_not_imported(monkeypatch: pytest.MonkeyPatch):
    from ssmprof.mixers import finding

    gpu = torch.device("cuda")
    asked: list[str] = []

    def installed(name: str) -> object:
        asked.append(name)
        return object()

    monkeypatch.setattr(finding, "find_spec", installed)
    for name in ("fla", "mamba_ssm"):
        find = table()["ssd_scan"].find[name]
        assert find(CPU) is None
        call = find(gpu)
        assert call is not None
        with pytest.raises(ImportError):
            call(*(torch.zeros(1, 1, 1, 1) for _ in range(5)))
    assert asked == ["fla", "mamba_ssm"]


def op_of(**calls) -> Op:
    """An op whose implementations are these."""
    op = Op("ssd_scan", CPU, None)
    op.found = calls
    op.choose(Choice())
    return op


def refuses(name: str, error: type[Exception] = NotImplementedError, below: int = 10**9):
    """An implementation that takes no call shorter than `below`."""

    def call(x: torch.Tensor) -> str:
        if x.shape[1] < below:
            raise error(f"{name} takes no {x.shape[1]}")
        return name

    return call


def test_the_first_of_the_registry_runs_until_something_is_chosen():
    op = op_of(one=lambda x: "one", two=lambda x: "two")
    assert op(torch.zeros(1, 3)) == op.name == "one"
    op.choose(Choice({"ssd_scan": "two", "rotary": "torch"}))
    assert op(torch.zeros(1, 3)) == op.name == "two"
    op.choose(Choice())
    assert op(torch.zeros(1, 3)) == "one"


def test_a_chosen_provider_that_refuses_gives_way_for_that_workload_alone_and_says_so():
    op = op_of(one=lambda x: "one", two=refuses("two", below=500), three=lambda x: "three")
    short, long = Choice({"ssd_scan": "two"}), Choice({"ssd_scan": "two"})
    op.choose(short)
    assert [op(torch.zeros(1, 400)) for _ in range(2)] == ["one", "one"]
    assert short.fallbacks == {"ssd_scan": "one for two, which refused: two takes no 400"}
    op.choose(long)
    assert op(torch.zeros(1, 600)) == "two"
    assert not long.fallbacks
    op.choose(short)
    assert op(torch.zeros(1, 600)) == op.name == "one"


def test_a_chosen_provider_that_is_not_installed_gives_way_and_says_so():
    op = op_of(one=lambda x: "one")
    choice = Choice({"ssd_scan": "fla"})
    op.choose(choice)
    assert op(torch.zeros(1, 3)) == "one"
    assert choice.fallbacks == {"ssd_scan": "one for fla, which is not installed here"}


def test_where_nobody_takes_the_call_the_first_refusal_is_raised():
    op = op_of(one=refuses("one"), two=refuses("two", ValueError))
    with pytest.raises(NotImplementedError, match="one takes no 3"):
        op(torch.zeros(1, 3))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("no"), RuntimeError("CUDA error: device-side assert")]
)
def test_lack_of_memory_and_a_lost_device_are_no_refusals(error: Exception):
    def fails(x: torch.Tensor) -> str:
        raise error

    op = op_of(one=fails, two=lambda x: "two")
    with pytest.raises(type(error)):
        op(torch.zeros(1, 3))
    assert op.name == "one"


def test_a_provider_that_the_spec_forces_has_no_stand_in():
    op = Op("rms_norm", CPU, "torch")
    op.choose(Choice({"rms_norm": "ssmprof"}))
    assert (list(op.found), op.name) == (["torch"], "torch")


def test_every_call_is_told_to_an_observer_before_it_runs():
    model = build(make.block("mamba2"), "cpu", "float32")
    work = workload(model, make.point("mamba2", 8))
    seen: list[str] = []
    with model.ops.observed(lambda op, args, kwargs: seen.append(f"{op.op} {op.name}")):
        work.call()
    work.call()
    assert sorted(seen) == [
        "causal_conv1d reference", "gated_rmsnorm reference", "rms_norm torch",
        "ssd_scan reference",
    ]  # fmt: skip


def test_the_same_call_with_other_providers_shares_inputs_and_cache():
    model = build(make.block("mamba2", vocab=30), "cpu", "float32")
    work = workload(model, make.point("mamba2", 5, logits="last"), {"rms_norm": "torch"})
    other = work.with_providers({"rms_norm": "ssmprof"})
    first, second = work.call(), other.call()
    torch.testing.assert_close(first, second)
    assert other.held is work.held
    assert other.choice.fallbacks == {"rms_norm": "torch for ssmprof, which is not installed here"}
    work.call()
    assert model.ops.choice is work.choice


def test_forcing_a_backend_leaves_the_switches_as_they_were():
    from torch.backends import cuda

    q = torch.randn(1, 5, 2, 8)
    before = (cuda.flash_sdp_enabled(), cuda.math_sdp_enabled(), cuda.cudnn_sdp_enabled())
    out = attention_prefill(q, q, q, backend=SDPBackend.MATH)
    torch.testing.assert_close(out, attention_prefill(q, q, q))
    assert before == (cuda.flash_sdp_enabled(), cuda.math_sdp_enabled(), cuda.cudnn_sdp_enabled())


def test_presets_of_all_kinds_run_at_a_small_depth():
    from ssmprof.models.slicing import sliced
    from ssmprof.models.zoo import preset

    for name in ("qwen2.5-0.5b", "mamba-130m", "mamba2-130m", "falcon-h1-0.5b"):
        small: Recipe = msgspec.structs.replace(sliced(preset(name), 1), vocab=64)
        model = build(small, "cpu", "float32")
        work = workload(model, make.point(name, 40, logits="last"))
        assert torch.isfinite(work.call()).all()
