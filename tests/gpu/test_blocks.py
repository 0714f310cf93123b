"""Blocks on a GPU: strongest providers agree with plain torch, calls replay, memory is as said."""

from __future__ import annotations

import gc
import math
from dataclasses import replace

import make
import msgspec
import pytest
import torch
from torch import Tensor

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.delta.shape import Delta, GatedDelta, Kda
from ssmprof.mixers.linear_attention.shape import Gla, Lightning, RetNet
from ssmprof.mixers.lstm.shape import Gru, Lstm
from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.mamba3.shape import Mamba3
from ssmprof.mixers.mla.shape import Latent
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.mlstm.shape import Mlstm
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.ops import table
from ssmprof.mixers.rglru.shape import RgLru
from ssmprof.mixers.rwkv7.shape import Rwkv7, Rwkv7Ffn
from ssmprof.mixers.short_conv.shape import ShortConv
from ssmprof.models.build import build, workload
from ssmprof.models.footprint import footprint
from ssmprof.models.recipe import Recipe

pytestmark = pytest.mark.gpu

SIZES = {
    "depth": 2,
    "d_model": 1024,
    "vocab": 4096,
    "attention": Attention(heads=16, kv_heads=4, head_dim=64),
    "mamba1": Mamba1(d_inner=2048, d_state=64),
    "mamba2": Mamba2(d_inner=2048, d_state=64),
    "mlp": Mlp(d_ff=2816),
}
HEADS = {"heads": 8, "key_dim": 128, "value_dim": 128}
CAST = {
    "mla": Latent(heads=16, kv_lora_rank=256, q_lora_rank=384),
    "mamba3": Mamba3(d_inner=2048, d_state=64),
    "moe": Moe(experts=16, experts_per_token=2, d_ff=1408, shared_d_ff=1408),
    "mlstm": Mlstm(heads=4, key_dim=128, value_dim=256),
    "rglru": RgLru(width=1024, heads=8),
    "short_conv": ShortConv(width=1024),
    "lstm": Lstm(hidden=1024),
    "gru": Gru(hidden=1024),
    "delta": Delta(**HEADS),
    "gated_delta": GatedDelta(**HEADS),
    "kda": Kda(**HEADS),
    "gla": Gla(**HEADS),
    "retnet": RetNet(**HEADS),
    "lightning": Lightning(**HEADS),
    "rwkv7": Rwkv7(heads=16, decay_rank=64, step_rank=64, gate_rank=128),
    "rwkv7_later": Rwkv7(heads=16, decay_rank=64, step_rank=64, gate_rank=128, value_rank=32),
    "rwkv7_ffn": Rwkv7Ffn(width=1024, d_ff=4096),
}
LINES = {"moe": "attention moe", "rwkv7": "rwkv7 rwkv7_ffn rwkv7_later rwkv7_ffn"}
SPECS = [
    *(make.block(name, **SIZES) for name in make.LAYERS),
    *(make.block(name, layers=LINES.get(name, name), **SIZES | CAST)
      for name in CAST if not name.startswith("rwkv7_")),
]  # fmt: skip
# Other packages' kernels compile and tune for seconds, and are not what is tested here.
OURS = ("ssmprof", "reference", "torch", "sdpa")


@pytest.fixture(autouse=True)
def _no_peers(monkeypatch: pytest.MonkeyPatch):
    for op, entry in table().items():
        kept = {name: find for name, find in entry.find.items() if name.startswith(OURS)}
        monkeypatch.setitem(table(), op, replace(entry, find=kept))


each = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
# Plain torch in 16 bits rounds at every op, our kernels once: both are that far from the truth.
TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-2}


def plainest(spec: Recipe, dtype: str) -> Recipe:
    """The same block with the last of its providers for every op."""
    used = build(spec, "cuda", dtype).providers()
    plain = {op: "sdpa-math" if "attention" in op else list(table()[op].find)[-1] for op in used}
    return msgspec.structs.replace(spec, providers=plain)


# Of tokens that two nearly equal experts want, rounding decides whose they are: that many may be.
MOST_ELSEWHERE = 0.05


def distance(spec: Recipe, one: Tensor, two: Tensor) -> float:
    """Root mean square difference relative to the second; with experts, of all tokens but the
    `MOST_ELSEWHERE` that differ most."""
    wrong = (one - two).float().square().flatten(0, -2).mean(-1)
    if any(isinstance(part, Moe) for _, part in spec.used()):
        wrong = wrong.sort().values[: math.ceil(len(wrong) * (1 - MOST_ELSEWHERE))]
    return float((wrong.mean() / two.float().square().mean()).sqrt())


@each
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_strongest_providers_agree_with_plain_torch(spec: Recipe, dtype: str):
    strong = build(spec, "cuda", dtype, seed=1)
    plain = build(plainest(spec, dtype), "cuda", dtype, seed=1)
    tokens = strong.example(2, 515)
    caches = [model.new_cache(2, 520) for model in (strong, plain)]
    outs = [m.prefill(tokens, c, "all") for m, c in zip((strong, plain), caches, strict=True)]
    assert distance(spec, *outs) < TOLERANCE[dtype]
    token = strong.example(2, None)
    for _ in range(3):
        for cache in caches:
            cache.advance(515 if cache.tokens == 0 else 1)
        outs = [m.step(token, c, "last") for m, c in zip((strong, plain), caches, strict=True)]
        assert distance(spec, *outs) < TOLERANCE[dtype]


@each
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_captured_call_replays_and_equals_the_eager_one(spec: Recipe, phase: str):
    model = build(spec, "cuda", "bfloat16")
    point = make.point(spec.name, 777, phase=phase, dtype="bfloat16", logits="last")
    work = workload(model, point)
    for _ in range(3):
        eager = work.call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = work.call()
    for _ in range(30):
        graph.replay()
    torch.cuda.synchronize()
    assert torch.isfinite(out).all()
    if phase == "prefill":
        torch.testing.assert_close(out, eager)


def check_peak(spec: Recipe, phase: str, context: int, logits: str) -> None:
    """The predicted peak is within 2 % or 64 MiB of the allocator's."""
    torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")  # makes the workspace
    gc.collect()
    torch.cuda.empty_cache()
    held = torch.cuda.memory_allocated()
    model = build(spec, "cuda", "bfloat16")
    point = make.point(spec.name, context, phase=phase, dtype="bfloat16", logits=logits)
    work = workload(model, point)
    work.call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    work.call()
    hopper = torch.cuda.get_device_capability()[0] >= 9
    workspace = (32 if hopper else 8.125) * 2**20
    peak = torch.cuda.max_memory_allocated() - held + workspace
    predicted = footprint(spec, point, hopper=hopper).peak_bytes
    assert abs(predicted - peak) <= max(64 * 2**20, 0.02 * peak)


@each
@pytest.mark.parametrize(
    ("phase", "context", "logits"),
    [("prefill", 8192, "last"), ("prefill", 3000, "all"), ("decode", 8192, "last")],
)
def test_the_allocators_peak_is_as_predicted(spec: Recipe, phase: str, context: int, logits: str):
    check_peak(spec, phase, context, logits)


# Plain attention's scores are of every pair of tokens, and nobody predicts them.
PLAIN = [
    spec for spec in SPECS
    if any(part.scan_op for _, part in spec.used())
    and not any(isinstance(part, Attention) for _, part in spec.used())
]  # fmt: skip


@pytest.mark.parametrize("spec", PLAIN, ids=lambda spec: spec.name)
def test_a_plain_form_fits_a_graph_and_its_peak_is_as_predicted(spec: Recipe):
    plain = plainest(spec, "bfloat16")
    check_peak(plain, "prefill", 3000, "none")
    model = build(plain, "cuda", "bfloat16")
    work = workload(model, make.point(spec.name, 777, dtype="bfloat16", logits="none"))
    work.call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work.call()
    graph.replay()
    torch.cuda.synchronize()
