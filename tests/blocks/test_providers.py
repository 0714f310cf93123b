"""Providers: every implementation of an op answers alike, under its own name."""

from __future__ import annotations

import make
import msgspec
import pytest
import torch
from torch.nn.attention import SDPBackend

from ssmprof import blocks
from ssmprof.blocks import providers, rope
from ssmprof.blocks.providers import LAST_RESORT, ORIGINS, PROVIDERS, Op, candidates, choose
from ssmprof.blocks.providers.race import fastest
from ssmprof.blocks.providers.sdpa import attention_prefill
from ssmprof.spec import BlockSpec, StateSpec

CPU = torch.device("cpu")
OWN = [op for op, names in PROVIDERS.items() if "ssmprof" in names]


def test_every_provider_has_an_origin_and_every_op_a_last_resort():
    for op, names in PROVIDERS.items():
        assert set(names) <= set(ORIGINS), op
        assert "torch" in names or LAST_RESORT & set(names), op


@pytest.mark.parametrize("op", PROVIDERS)
def test_every_op_runs_on_a_cpu(op: str):
    call, name = choose(op, CPU)
    assert callable(call)
    assert name in PROVIDERS[op]
    assert list(candidates(op, CPU)) == [name]


@pytest.mark.parametrize("name", ["attention", "mamba1", "mamba2"])
def test_a_block_on_our_kernels_agrees_with_one_on_plain_torch(name: str):
    small = StateSpec(d_inner=32, d_state=8, headdim=16, dt_rank=4)  # the interpreter is slow
    spec = make.block(name, pattern=(name, "mlp"), vocab=30, d_model=32, state=small)
    plain = blocks.build(spec, "cpu", "float32")
    forced = {op: "ssmprof" for op in plain.providers() if op in OWN}
    mine = blocks.build(msgspec.structs.replace(spec, providers=forced), "cpu", "float32")
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
    from ssmprof_kernels.rotary import rotary

    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, 5, (heads + 2 * kv_heads) * dim + 3, generator=generator)[..., 3:]
    qkv = qkv.unflatten(-1, (-1, dim))  # token strides that are no multiple of a head
    cos, sin = rope.tables(9, dim, 100.0, CPU, torch.float32)
    tables = (cos[4:], sin[4:]) if turned else (None, None)
    mine, plain = (torch.zeros(2, 2, 11, kv_heads, dim) for _ in range(2))
    got = rotary(qkv, *tables, *mine, 4)
    torch.testing.assert_close(got, rope.rotary(qkv, *tables, *plain, 4))
    torch.testing.assert_close(mine, plain)
    with pytest.raises(ValueError, match="lie in a cache of 11"):
        rotary(qkv, *tables, *mine, 7)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("width", [1, 63, 1500])
def test_our_sum_and_norm_equal_plain_torch(width: int, in_place: bool):
    from ssmprof_kernels.add_norm import add_rms_norm

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
    from ssmprof_kernels.swiglu import swiglu

    hidden = 10 * torch.randn(2, 3, 2 * width, generator=torch.Generator().manual_seed(0))
    gate, value = hidden.chunk(2, dim=-1)
    expected = torch.nn.functional.silu(gate) * value
    torch.testing.assert_close(swiglu(hidden), expected)
    with pytest.raises(ValueError, match="contiguous"):
        swiglu(hidden.transpose(0, 1))


def test_other_packages_are_looked_for_and_not_imported(monkeypatch: pytest.MonkeyPatch):
    from ssmprof.blocks.providers import fla, mamba_ssm

    gpu = torch.device("cuda")
    asked: list[str] = []

    def installed(name: str) -> object:
        asked.append(name)
        return object()

    for module in (fla, mamba_ssm):
        monkeypatch.setattr(module, "find_spec", installed)
        assert module.find("ssd_scan", "", CPU) is None
        call = module.find("ssd_scan", "", gpu)
        assert call is not None
        with pytest.raises(ImportError):
            call(*(torch.zeros(1, 1, 1, 1) for _ in range(5)))
    assert asked == ["fla", "mamba_ssm"]


class FakeDevice:
    """Times by name, and copies of what a candidate was given."""

    def __init__(self, times: dict[str, float]) -> None:
        self.times = times
        self.given: list[object] = []

    def candidate(self, name: str):
        def call(state: torch.Tensor) -> str:
            state.add_(1)
            self.given.append(state)
            if self.times[name] < 0:
                raise NotImplementedError(name)
            return name

        return call


def test_a_race_is_won_by_the_fastest_that_accepts_the_call(monkeypatch: pytest.MonkeyPatch):
    device = FakeDevice({"slow": 3.0, "refuses": -1.0, "fast": 1.0})
    monkeypatch.setattr(providers.race, "_device_ms", lambda call: device.times[call()])
    state = torch.zeros(2)
    found = {name: device.candidate(name) for name in device.times}
    assert fastest(found, (state,), {}, mutated=0) == "fast"
    assert state.eq(0).all()  # every candidate overwrote a copy


def test_forcing_a_backend_leaves_the_switches_as_they_were():
    from torch.backends import cuda

    q = torch.randn(1, 5, 2, 8)
    before = (cuda.flash_sdp_enabled(), cuda.math_sdp_enabled(), cuda.cudnn_sdp_enabled())
    out = attention_prefill(q, q, q, backend=SDPBackend.MATH)
    torch.testing.assert_close(out, attention_prefill(q, q, q))
    assert before == (cuda.flash_sdp_enabled(), cuda.math_sdp_enabled(), cuda.cudnn_sdp_enabled())


def test_a_tie_goes_to_the_one_expected_to_be_stronger(monkeypatch: pytest.MonkeyPatch):
    device = FakeDevice({"slow": 3.0, "first": 1.02, "second": 1.0})
    monkeypatch.setattr(providers.race, "_device_ms", lambda call: device.times[call()])
    found = {name: device.candidate(name) for name in device.times}
    assert fastest(found, (torch.zeros(1),), {}, mutated=None) == "first"


def test_a_race_without_finisher_raises_the_refusal(monkeypatch: pytest.MonkeyPatch):
    device = FakeDevice({"refuses": -1.0})
    monkeypatch.setattr(providers.race, "_device_ms", lambda call: device.times[call()])
    with pytest.raises(NotImplementedError, match="refuses"):
        fastest({"refuses": device.candidate("refuses")}, (torch.zeros(1),), {}, mutated=None)


def test_a_decision_holds_for_its_length_bucket(monkeypatch: pytest.MonkeyPatch):
    races: list[tuple[int, ...]] = []

    def first(found: dict[str, object], args: tuple[torch.Tensor, ...], *_: object) -> str:
        races.append(tuple(args[0].shape))
        return next(iter(found))

    monkeypatch.setattr(providers, "fastest", first)
    monkeypatch.setattr(providers, "_DECISIONS", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    op = Op("ssd_scan", CPU, None)
    op.found = {"one": lambda x: "one", "two": lambda x: "two"}
    op._only = None
    for length in (300, 1000, 1024, 1025):
        assert op(torch.zeros(1, length, 2, 4)) == "one"
    assert races == [(1, 300, 2, 4), (1, 1025, 2, 4)]
    assert op.name == "one"


def test_a_winner_that_refuses_a_later_call_makes_room(monkeypatch: pytest.MonkeyPatch):
    def refuses_short(x: torch.Tensor) -> str:
        if x.shape[1] < 500:
            raise NotImplementedError("short")
        return "one"

    monkeypatch.setattr(providers.race, "_device_ms", lambda call: (call(), 1.0)[1])
    monkeypatch.setattr(providers, "_DECISIONS", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    op = Op("ssd_scan", CPU, None)
    op.found = {"one": refuses_short, "two": lambda x: "two"}
    op._only = None
    assert [op(torch.zeros(1, length, 2, 4)) for length in (600, 400)] == ["one", "two"]
    assert op.name == "two"


def test_presets_of_all_kinds_run_at_a_small_depth():
    from ssmprof.planning import models

    for name in ("qwen2.5-0.5b", "mamba-130m", "mamba2-130m", "falcon-h1-0.5b"):
        small: BlockSpec = msgspec.structs.replace(models.preset(name), depth=1, vocab=64)
        model = blocks.build(small, "cpu", "float32")
        work = blocks.workload(model, make.point(name, 40, logits="last"))
        assert torch.isfinite(work.call()).all()
