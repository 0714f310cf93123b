"""Inputs of linear attention, RWKV-7 and the delta rules, each as scan and as step; of what stands
around RWKV-7's rule."""

from __future__ import annotations

import functools
from typing import Any

import torch
from gpu.cases.operation import DELTA, LINEAR, Random


def _linear(op: str, dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = Random(dtype, v)
    K, V = ((128, 128), (256, 512), (64, 70), (20, 16))[v % 4]
    batch, H, shared = 1 + v % 2, 4, (4, 1, 2)[v % 3]
    found = {
        "q": r(batch, length, H, K),
        "k": r(batch, length, shared, K),
        "v": r(batch, length, shared, V),
        "scale": K**-0.5,
    }
    if op == "gla":
        found["a"] = r(batch, length, shared, K) * (1.0, 20.0, 500.0)[v % 3]
    else:
        found["decay"] = -r.wide(H).abs() * (0.05, 0.0005, 3.0)[v % 3]
    if v % 3 == 0:
        found["initial_state"] = r.wide(batch, H, K, V)
    return found


def _linear_step(op: str, dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    found = _linear(op.removesuffix("_step"), dtype, 1, v)
    found = {k: x[:, 0] if k in ("q", "k", "v", "a") else x for k, x in found.items()}
    found.pop("initial_state", None)
    batch, H, K = found["q"].shape
    state = torch.float32 if v % 2 else dtype
    found["state"] = Random(dtype, length)(batch, H, K, found["v"].shape[-1], dtype=state)
    return found


def _rwkv7(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = Random(dtype, v)
    shape = (1 + v % 2, length, 4, (64, 64, 32, 20)[v % 4])
    kk = torch.nn.functional.normalize(r.wide(*shape), dim=-1).to(dtype)
    found = {"r": r(*shape), "k": r(*shape), "v": r(*shape), "kk": kk, "a": r(*shape).sigmoid()}
    found["w"] = r(*shape).sigmoid() * (-0.606, -0.606, -20.0)[v % 3]
    if v % 3 == 0:
        found["initial_state"] = r.wide(shape[0], 4, shape[3], shape[3])
    return found


def _rwkv7_step(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    found = {k: x[:, 0] for k, x in _rwkv7(dtype, 1, v).items() if k != "initial_state"}
    state = torch.float32 if v % 2 else dtype
    shape = (*found["v"].shape, found["v"].shape[-1])
    return found | {"state": Random(dtype, length)(*shape, dtype=state)}


def _lead(length: int, v: int) -> tuple[int, ...]:
    """Sequences and tokens, or one token each of that many sequences."""
    return (1 + length % 9,) if v % 4 == 3 else (1 + v % 2, length)


def _shift(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r, lead, width = Random(dtype, v), _lead(length, v), (2048, 300, 768)[v % 3]
    mixes = ((6,), (), (1,))[v % 3]
    last = r(lead[0], width, dtype=torch.float32 if v % 2 else dtype)
    mix = r(*mixes, width).sigmoid()
    return {"x": r(*lead, width), "mix": mix, "last": last, "resumed": v % 5 > 1}


_HEADS = ((32, 64), (3, 48), (20, 16), (5, 128))


def _keys(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r, lead, (heads, width) = Random(dtype, v), _lead(length, v), _HEADS[v // 2 % 4]
    names = ("w", "k", "a", "v", *(("v_first", "share") if v % 2 else ()))
    found: dict[str, Any] = {name: r(*lead, heads * width) for name in names}
    found |= {name: r(heads * width) for name in ("removed", "added")}
    return found | {"heads": heads, "lowest": -0.6}


def _output(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r, lead, (heads, width) = Random(dtype, v), _lead(length, v), _HEADS[v // 2 % 4]
    found: dict[str, Any] = {name: r(*lead, heads, width) for name in ("y", "r", "k", "v")}
    found["gate"] = r(*lead, heads * width)
    names = ("weight", "bonus", *(("bias",) if v % 2 else ()))
    return found | {name: r(heads * width) for name in names} | {"eps": width * 1e-5}


def _relu2(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    return {"hidden": Random(dtype, v)(*_lead(length, v), (8192, 70)[v % 2])}


def _delta(
    op: str, dtype: torch.dtype, length: int, v: int, *, step: bool = False
) -> dict[str, Any]:
    r = Random(dtype, v)
    K, V = (128, 64, 100, 32)[v % 4], (128, 64, 72)[v % 3]
    batch, H, Hk = 1 + v % 2, 4, (4, 2, 1)[v % 3]
    lead = (1 + length % 9,) if step else (batch, length)
    per_head = (H, K) if op.startswith("kda") else (H,)
    found: dict[str, Any] = {
        "q": r(*lead, Hk, K),
        "k": r(*lead, Hk, K),
        "v": r(*lead, H, V),
        "g": r(*lead, *per_head),
        "beta": r(*lead, H),
        "A_log": r.wide(H),
        "dt_bias": r.wide(*per_head) - (4.0, 0.0, 8.0)[v % 3],
        "qk_l2norm": True,
        "beta_sigmoid": True,
        "negative": v % 2 == 1,
    }
    if step:
        found["state"] = r.wide(lead[0], H, K, V)
    elif v % 3 == 0:
        found["initial_state"] = r.wide(batch, H, K, V)
    return found


BUILDERS = {
    "rwkv7": _rwkv7,
    "rwkv7_step": _rwkv7_step,
    "token_shift": _shift,
    "rwkv7_keys": _keys,
    "rwkv7_output": _output,
    "relu2": _relu2,
    **{op: functools.partial(_linear, op) for op in LINEAR},
    **{f"{op}_step": functools.partial(_linear_step, f"{op}_step") for op in LINEAR},
    **{op: functools.partial(_delta, op) for op in DELTA},
    **{f"{op}_step": functools.partial(_delta, f"{op}_step", step=True) for op in DELTA},
}
