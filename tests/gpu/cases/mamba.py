"""Inputs of Mamba-1 and Mamba-2: scans, steps and the ring, convolutions, gated norm."""

from __future__ import annotations

from typing import Any

import torch
from gpu.cases.operation import Random, ids
from ssmprof_kernels.ring_update import new_ring


def _ssd(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = Random(dtype, v)
    N, P = (128, 16, 64, 256, 8)[v % 5], (64, 32, 19, 128)[v % 4]
    G = (1, 2, 4)[v % 3]
    batch, H = 1 + v % 2, 4
    found = {
        "x": r(batch, length, H, P),
        "dt": r(batch, length, H),
        "A": -r.wide(H).abs() * (8.0, 0.01, 50.0)[v % 3],
        "B": r(batch, length, G, N),
        "C": r(batch, length, G, N),
        "dt_bias": r.wide(H) - 2,
        "dt_softplus": True,
    }
    if v % 2:
        found |= {"D": r.wide(H, P) if v % 4 == 1 else r.wide(H), "z": r(batch, length, H, P)}
    if v % 3 == 0:
        found["initial_state"] = r.wide(batch, H, P, N)
    if v % 5 == 4:
        found["seq_idx"] = ids(batch, length)
    if v % 7 == 6:
        found["dt_limit"] = (0.01, 0.2)
    return found


def _selective(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = Random(dtype, v)
    N, D = (16, 8, 64, 5)[v % 4], (70, 192, 33)[v % 3]
    batch = 1 + v % 2
    shape = (batch, length, N) if v % 2 else (batch, length, 1 if D % 2 else 2, N)
    found = {
        "u": r(batch, length, D),
        "dt": r(batch, length, D),
        "A": -r.wide(D, N).abs() * (4.0, 0.01, 50.0)[v % 3],
        "B": r(*shape),
        "C": r(*shape),
        "dt_bias": r.wide(D) - 2,
        "dt_softplus": True,
    }
    if v % 2 == 0:
        found |= {"D": r.wide(D), "z": r(batch, length, D)}
    if v % 3 == 0:
        found["initial_state"] = r.wide(batch, D, N)
    return found


def _update(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = Random(dtype, v)
    batch, slots, N = 1 + length % 9, 12, (128, 16, 64)[v % 3]
    state_dtype = torch.float32 if v % 2 else dtype
    if v % 2:
        H, P, G = 4, (64, 19)[v // 2 % 2], (1, 2, 4)[v % 3]
        inner: tuple[int, ...] = (H, P)
        A = -r.wide(H).abs().view(H, 1, 1).expand(H, P, N)
        dt = r(batch, H).unsqueeze(-1).expand(batch, H, P)
        skip = r.wide(H).unsqueeze(-1).expand(H, P)
        bc = (batch, G, N)
    else:
        inner = (70,)
        A, dt, skip, bc = -r.wide(70, N).abs(), r(batch, 70), r.wide(70), (batch, N)
    found = {
        "state": r(slots, *inner, N, dtype=state_dtype),
        "x": r(batch, *inner),
        "dt": dt,
        "A": A,
        "B": r(*bc),
        "C": r(*bc),
        "D": skip,
        "dt_bias": skip,
        "dt_softplus": True,
    }
    if v % 3:
        found["z"] = r(batch, *inner)
    if v % 4 == 3:
        order = torch.randperm(slots, generator=r.generator, device="cuda")[:batch]
        found["state_indices"] = torch.where(order == order[0], -1, order).to(torch.int32)
    return found


def _ring(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    found = _update(dtype, length, v)
    tied = found["A"].stride()[1:] == (0, 0)
    ring = new_ring(found["state"], found["x"], found["B"], tied=tied, tokens=(16, 4)[v % 2])
    r = Random(dtype, v + 50)
    for tensor in (ring.x, ring.B):
        tensor.copy_(r(*tensor.shape))
    ring.delta.copy_(r.wide(*ring.delta.shape).abs() / 8)
    return {"state": found.pop("state"), "ring": ring} | found


def _conv(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = Random(dtype, v)
    W, D, batch = (4, 3, 2)[v % 3], (96, 41, 520)[v % 3], 1 + v % 2
    x = r(batch, length, D)
    if v % 4 == 3:
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    found = {"x": x, "weight": r(D, W), "activation": "silu" if v % 2 else None}
    if v % 3:
        found["bias"] = r(D)
    if v % 2:
        found["initial_state"] = r(batch, D, W - 1)
    if v % 5 == 4:
        found["seq_idx"] = ids(batch, length)
    return found


def _conv_update(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = Random(dtype, v)
    batch, D, W, room = 1 + length % 7, 300, 4, 3 + v % 3
    few = 1 + v % 3
    found = {
        "x": r(batch, few, D) if few > 1 else r(batch, D),
        "conv_state": r(12, D, room),
        "weight": r(D, W),
        "bias": r(D),
        "activation": "silu",
    }
    if v % 2:
        order = torch.randperm(12, generator=r.generator, device="cuda")[:batch]
        found["state_indices"] = order.to(torch.int32)
    if v % 4 == 1:
        at = torch.randint(0, 50, (batch,), generator=r.generator, device="cuda")
        found["cache_seqlens"] = at.to(torch.int32)
    return found


def _norm(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = Random(dtype, v)
    D = (1536, 130, 5120, 64)[v % 4]
    rows = min(length, 300)
    found: dict[str, Any] = {"x": r(2, rows, D), "weight": r(D), "norm_before_gate": v % 2 == 0}
    if v % 3:
        found["z"] = r(2, rows, 2 * D)[..., :D]
        found["activation"] = ("silu", "sigmoid")[v % 2]
    if D % 32 == 0 and v % 2:
        found["group_size"] = D // 4
    return found


BUILDERS = {
    "ssd_scan": _ssd,
    "selective_scan": _selective,
    "selective_state_update": _update,
    "ring_state_update": _ring,
    "causal_conv1d": _conv,
    "causal_conv1d_update": _conv_update,
    "gated_rmsnorm": _norm,
}
