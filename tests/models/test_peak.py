"""The predicted peak against tensors counted alive, one by one, in a call of the real stack.

Kernels are replaced by what they allocate, so that only the block's own lifetimes count; the
counted bytes are rounded as the allocator of a GPU rounds them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import make
import pytest
import torch
from models.cast import CAST
from models.options import LAYERS_ALONE, OPTIONS, shared_block
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.mamba3.shape import Mamba3
from ssmprof.mixers.mla.shape import Latent
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.moe.shape import Moe
from ssmprof.mixers.part import allocated
from ssmprof.models.build import build, workload
from ssmprof.models.footprint import WORKSPACE_HOPPER, footprint
from ssmprof.models.recipe import Recipe

WIDE = {
    "d_model": 256,
    "depth": 3,
    "attention": Attention(heads=8, kv_heads=2, head_dim=32),
    "mamba1": Mamba1(d_inner=512, d_state=32),
    "mamba2": Mamba2(d_inner=512, d_state=32, headdim=64),
    "mlp": Mlp(d_ff=768),
}
SPECS = [
    *(make.block(name, **WIDE) for name in make.LAYERS),
    *(make.block(name, **WIDE, vocab=1024) for name in make.LAYERS),
    make.block("attention", **(WIDE | {"mlp": Mlp(d_ff=128)}), vocab=1024),
    make.block("attention", **(WIDE | {"attention": Attention(
        heads=8, kv_heads=2, head_dim=32, rope_theta=None)})),
    make.block("attention", **(WIDE | {"mlp": Mlp(d_ff=768, act="relu2")})),
    make.block("mamba2", **(WIDE | {"mamba2": Mamba2(
        d_inner=512, d_state=32, ngroups=4, gated_norm=False)})),
    *(make.block("experts", layers="moe", **(WIDE | {"moe": part})) for part in (
        Moe(experts=8, experts_per_token=2, d_ff=512),
        Moe(experts=8, experts_per_token=2, d_ff=128, bias=True, clamp=7.0),
        Moe(experts=8, experts_per_token=2, d_ff=512, latent=64, act="relu2"),
        Moe(experts=8, experts_per_token=2, d_ff=64, shared_d_ff=1024, shared_gate=True),
    )),
    *(make.block("mamba3", layers="mamba3", **(WIDE | {"mamba3": part})) for part in (
        Mamba3(d_inner=512, d_state=64), Mamba3(d_inner=512, d_state=32, out_norm=True),
        Mamba3(d_inner=512, d_state=32, mimo_rank=4),
    )),
    *(make.block("latent", layers="mla", **(WIDE | {"mla": part})) for part in (
        Latent(heads=8, kv_lora_rank=64, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32),
        Latent(heads=2, kv_lora_rank=512, q_lora_rank=128, v_head_dim=64, rope_theta=None),
    )),
    *(make.block("attention", layers="attention", depth=3, attention=Attention(
        heads=8, kv_heads=4, head_dim=32, **options)) for options in (
            {"gate": True}, {"gate": True, "window": 64}, {"gate": True, "rope_theta": None},
            {"qk_norm": "width"}, {"qk_norm": "head", "window": 64})),
    make.block("gated-reader", layers="attention reader", reader=Attention(
        heads=4, kv_heads=2, head_dim=16, kv_from="shared", gate=True)),
    shared_block("wide-shared-mlp", mlp=Mlp(d_ff=2048, act="geglu", adapter_rank=5)),
    shared_block("wide-scan", mamba2=Mamba2(d_inner=2048, d_state=12, headdim=32)),
    *CAST,
    *OPTIONS,
    *LAYERS_ALONE,
]  # fmt: skip


class Alive(TorchDispatchMode):
    """Bytes alive, now and at most: of the tensors given and of all made since it was entered."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def add(self, tensor: Tensor) -> None:
        """Count a tensor that lives already."""
        self._saw(tensor, set())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {t.untyped_storage().data_ptr() for t in args if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor):
                self._saw(tensor, given)
        return out

    def _saw(self, tensor: Tensor, given: set[int]) -> None:
        storage = tensor.untyped_storage()
        place = storage.data_ptr()
        if place in given or place in self.known or not storage.nbytes():
            return
        self.known.add(place)
        size = allocated(storage.nbytes())
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, place, size)

    def _gone(self, place: int, size: int) -> None:
        self.known.discard(place)
        self.now -= size


def _norm(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return torch.empty(x.shape)


def _add_norm(x: Tensor, *_: Any, in_place: bool, **__: Any) -> tuple[Tensor, Tensor]:
    return x if in_place else torch.empty(x.shape), torch.empty(x.shape)


def _attention(q: Tensor, _: Any, v: Tensor, *__: Any, **___: Any) -> Tensor:
    out, _rows = torch.empty(*q.shape[:-1], v.shape[-1]), torch.empty(q.shape[:-1])
    return out


def _scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, *_: Any, **__: Any) -> Any:
    return torch.empty(x.shape), torch.empty(x.shape[0], *x.shape[2:], B.shape[-1])


def _matrix_state(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> Any:
    heads, key = max(q.shape[2], v.shape[2]), q.shape[3]
    state = torch.empty(v.shape[0], heads, key, v.shape[3])
    return torch.empty(*v.shape[:2], heads, v.shape[3]), state


def _mamba3(q: Tensor, k: Tensor, v: Tensor, *_: Any, weights: Any, **__: Any) -> Any:
    heads, rank, states = weights.q_bias.shape
    size = heads * (v.shape[-1] * states + rank * states + v.shape[-1])
    apart = rank if weights.mimo_out is None and rank > 1 else 1
    made = torch.empty(*v.shape[:2], apart, *v.shape[2:])
    return made.squeeze(2), torch.empty(v.shape[0], size)


def _mlstm(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> Any:
    key, value = k.shape[-1], v.shape[-1]
    size = k.shape[2] * (key * value + key + 1)
    return torch.empty(v.shape), torch.empty(len(v), size)


def _rotary(qkv: Tensor, cos: Tensor | None, _: Any, k_cache: Tensor, *__: Any) -> Tensor:
    q = qkv[:, :, : qkv.shape[2] - 2 * k_cache.shape[2]]
    return q if cos is None else torch.empty(q.shape)


def _shift(x: Tensor, mix: Tensor, last: Tensor, **_: Any) -> Tensor:
    return torch.empty(*mix.shape[:-1], *x.shape)


def _keys(w: Tensor, k: Tensor, a: Tensor, v: Tensor, *_: Any, share: Any, heads: int, **__: Any):
    made = torch.empty(4 if share is None else 5, *k.shape).unflatten(-1, (heads, -1)).unbind(0)
    values = v.unflatten(-1, (heads, -1)) if share is None else made[4]
    return made[0], made[1], values, made[2], made[3]


ALLOCATES: dict[str, Callable[..., Any]] = {
    "rms_norm": _norm,
    "gated_rmsnorm": _norm,
    "causal_conv1d": _norm,
    "add_rms_norm": _add_norm,
    "attention_prefill": _attention,
    "ssd_scan": _scan,
    "selective_scan": _scan,
    "delta_rule": _matrix_state,
    "gated_delta_rule": _matrix_state,
    "kda": _matrix_state,
    "retention": _matrix_state,
    "gla": _matrix_state,
    "rwkv7": lambda r, w, k, v, *_, **__: _matrix_state(r, k, v),
    "token_shift": _shift,
    "rwkv7_keys": _keys,
    "rwkv7_output": lambda y, r, k, v, gate, *_, **__: torch.empty(gate.shape),
    "relu2": lambda hidden: hidden,
    "sigmoid_gated_rmsnorm": _norm,
    "mamba3_scan": _mamba3,
    "mlstm_scan": _mlstm,
    "rglru_scan": lambda x, *_, **__: (torch.empty(x.shape), torch.empty(len(x), *x.shape[2:])),
    "rotary": _rotary,
    "latent_rotary": lambda q, row, *_, **__: (q, row),
    "grouped_mm": lambda rows, weight, _: torch.empty(len(rows), weight.shape[1]),
    "swiglu": lambda hidden: torch.empty(*hidden.shape[:-1], hidden.shape[-1] // 2),
}


CASES = [
    pytest.param(spec, logits, id=f"{spec.name}-{index}-{logits}")
    for index, spec in enumerate(SPECS)
    for logits in ("none", "last", "all")
    if spec.vocab is not None or logits == "none"
]


@pytest.mark.parametrize(("spec", "logits"), CASES)
def test_the_predicted_peak_of_a_prefill_is_what_lives_at_its_widest_moment(
    spec: Recipe, logits: str
):
    point = make.point(spec.name, 512, batch=2, logits=logits)
    model = build(spec, "cpu", "float32")
    for op, fake in ALLOCATES.items():
        if op in model.providers():
            model.ops[op].found = {"fake": fake}
    work = workload(model, point)
    work.call()
    alive = Alive()
    inputs, cache = work.held
    for tensor in (
        inputs,
        *(one for pair in cache.position.tables.values() for one in pair),
        *model.parameters(),
    ):
        alive.add(tensor)
    for layer in cache.layers:
        for tensor in vars(layer).values():
            if isinstance(tensor, Tensor):
                alive.add(tensor)
    del tensor
    with alive:
        work.call()
    predicted = footprint(spec, point, workspace=False).peak_bytes - WORKSPACE_HOPPER
    assert alive.most == pytest.approx(predicted, rel=0.002)
