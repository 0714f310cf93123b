"""What holds for every mixer beside attention and Mamba: capturable, bounded, fast enough."""

from __future__ import annotations

import make
import pytest
import torch
import torch.nn.functional as F

from ssmprof.errors import ConfigError
from ssmprof.mixers.delta.shape import Delta, GatedDelta, Kda
from ssmprof.mixers.gmu.block import GmuBlock
from ssmprof.mixers.gmu.shape import Gmu
from ssmprof.mixers.linear_attention.shape import Gla, Lightning, RetNet
from ssmprof.mixers.lstm.shape import Gru, Lstm
from ssmprof.mixers.mamba1.block import Mamba1Block
from ssmprof.mixers.mamba3.shape import Mamba3
from ssmprof.mixers.mlstm.shape import Mlstm
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.part import Part
from ssmprof.mixers.rglru.shape import RgLru
from ssmprof.mixers.rwkv7.shape import Rwkv7, Rwkv7Ffn
from ssmprof.mixers.short_conv.shape import ShortConv
from ssmprof.models.build import build, workload

BLOCKS = (Mamba1Block, GmuBlock)
NARROW: dict[str, Part] = {
    "mamba3": Mamba3(d_inner=16, d_state=8, headdim=8),
    "rglru": RgLru(width=16, heads=2),
    "mlstm": Mlstm(heads=2, key_dim=4, value_dim=8),
    "short_conv": ShortConv(width=16),
    "lstm": Lstm(hidden=16),
    "gru": Gru(hidden=16),
    "delta": Delta(heads=2, key_dim=4, value_dim=8),
    "gated_delta": GatedDelta(heads=2, key_heads=1, key_dim=4, value_dim=8),
    "kda": Kda(heads=2, key_dim=4, value_dim=8),
    "gla": Gla(heads=2, key_dim=4, value_dim=8, gate_rank=2),
    "retnet": RetNet(heads=2, key_dim=4, value_dim=8),
    "lightning": Lightning(heads=2, key_dim=4, value_dim=8),
    "rwkv7": Rwkv7(heads=2, head_dim=8, decay_rank=2, step_rank=2, gate_rank=4),
    "rwkv7_ffn": Rwkv7Ffn(width=16, d_ff=32),
}
RANKS: Part = Mamba3(d_inner=16, d_state=8, headdim=8, mimo_rank=4)
SHARED: Part = Moe(experts=4, experts_per_token=2, d_ff=32, shared_d_ff=32, selection_bias=True)
OPTIONS: list[tuple[str, Part]] = [
    *NARROW.items(), ("mamba3", RANKS), ("mla", make.PARTS["mla"]), ("moe", make.PARTS["moe"]),
    ("moe", SHARED),
]  # fmt: skip
each = pytest.mark.parametrize(("kind", "part"), OPTIONS)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize(
    ("kind", "part"), [case for case in OPTIONS if case[0] not in ("lstm", "gru")]
)
def test_no_call_asks_the_device_for_a_value_or_has_a_shape_that_depends_on_one(
    kind: str, part: Part, phase: str
):
    """Tensors without data answer no such question. torch's own units are not looked into."""
    spec = make.block(kind, layers=kind, d_model=16, **{kind: part})
    model = build(spec, "meta", "bfloat16")
    cache = model.new_cache(2, 80)
    if phase == "prefill":
        x = torch.empty(2, 80, 16, dtype=torch.bfloat16, device="meta")
        assert model.prefill(x, cache).shape == x.shape
    else:
        cache.seek(79)
        x = torch.empty(2, 16, dtype=torch.bfloat16, device="meta")
        assert model.step(x, cache).shape == x.shape


@pytest.mark.parametrize("kind", NARROW)
def test_states_stay_finite_over_100_000_tokens(kind: str):
    spec = make.block(kind, layers=kind, d_model=16, **NARROW)
    model = build(spec, "cpu", "float32", seed=1)
    cache = model.new_cache(1, 100_001)
    out = model.prefill(model.example(1, 100_000, seed=2), cache)
    assert torch.isfinite(out).all()
    cache.advance(100_000)
    assert torch.isfinite(model.step(model.example(1, None), cache)).all()
    for layer in cache.layers:
        assert torch.isfinite(layer.ssm).all()
        assert layer.ssm.abs().sum() < 1e6


@pytest.mark.parametrize("kind", ["mamba3", "rglru", "mlstm", "short_conv", "lstm", "gru", "mla"])
def test_a_prefill_of_4096_tokens_takes_seconds_on_a_cpu(kind: str):
    spec = make.block(kind, layers=f"{kind} moe")
    work = workload(build(spec, "cpu", "float32"), make.point(kind, context=4096))
    assert torch.isfinite(work.call()).all()


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_prompt_too_long_for_one_call_of_cudnn_is_read_in_several(
    kind: str, monkeypatch: pytest.MonkeyPatch
):
    model = build(make.block(kind, layers=kind), "cpu", "float32")
    tokens, caches = model.example(2, 11), [model.new_cache(2, 12) for _ in range(2)]
    whole = model.prefill(tokens, caches[0])
    monkeypatch.setattr("ssmprof.mixers.lstm.block.CALL_TOKENS", 4)
    torch.testing.assert_close(model.prefill(tokens, caches[1]), whole)
    torch.testing.assert_close(caches[1].layers[0].ssm, caches[0].layers[0].ssm)


def test_the_gates_of_one_call_are_alive_at_a_time():
    part = Lstm(hidden=2048)
    peaks = [part.peak(2048, make.point("lstm", context=n)) for n in (32_768, 65_536, 131_072)]
    assert peaks[2] - peaks[1] == 65_536 * 2048 * 4
    assert peaks[1] - peaks[0] == 65_536 * 2048 * 4  # the outputs of all beside those of a call


@each
def test_half_precision_is_near_single(kind: str, part: Part):
    spec = make.block(kind, layers=kind, d_model=16, **{kind: part})
    x = torch.randn(2, 70, 16, generator=torch.Generator().manual_seed(1))
    exact = build(spec, "cpu", "float32", seed=4)
    rounded = build(spec, "cpu", "bfloat16", seed=4)
    for one, other in zip(rounded.parameters(), exact.parameters(), strict=True):
        one.copy_(other)
    found = rounded.prefill(x.bfloat16(), rounded.new_cache(2, 70)) - x.bfloat16()
    expected = exact.prefill(x, exact.new_cache(2, 70)) - x
    error = (found.float() - expected).abs().mean() / expected.abs().mean()
    assert error < (0.2 if kind == "moe" else 0.05)  # near ties send tokens elsewhere


@torch.inference_mode()
def test_a_memory_is_what_the_scan_made_before_its_gate():
    spec = make.block("memory", layers="mamba1 gmu", gmu=Gmu(memory_width=128))
    model = build(spec, "cpu", "float32", seed=1)
    scan, unit = (next(m for m in model.modules() if isinstance(m, kind)) for kind in BLOCKS)
    x = torch.randn(2, 11, 64, generator=torch.Generator().manual_seed(2))
    gated, memory = scan(x), scan.memory
    assert memory is not None
    assert memory is unit.recalled
    made = memory.value
    gate = scan.in_proj(x).chunk(2, dim=-1)[1]
    torch.testing.assert_close(gated, scan.out_proj(made * F.silu(gate)))
    expected = unit.out_proj(made * F.silu(unit.in_proj(x)))
    torch.testing.assert_close(unit(x), expected)
    scan.memory = None  # its gate is in the scan then
    torch.testing.assert_close(scan(x), gated, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [64, 128])
def test_a_memory_that_no_layer_has_is_refused(width: int):
    spec = make.block("memory", layers="mamba2 gmu", gmu=Gmu(memory_width=width))
    with pytest.raises(ConfigError, match="no earlier layer has one"):
        build(spec, "cpu", "float32")
