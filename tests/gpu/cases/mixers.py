"""Inputs of Mamba-3, of attention, of latent attention, of grouped products."""

from __future__ import annotations

from typing import Any

import torch
from gpu.cases.operation import Random
from ssmprof_kernels.reference.mamba3 import Weights


def _mamba3(dtype: torch.dtype, v: int, *lead: int) -> dict[str, Any]:
    r = Random(dtype, v)
    rank, G, H, P, N = (1, 4, 3)[v % 3], (1, 2)[v % 2], 4, (64, 19)[v % 2], (128, 20)[v // 2 % 2]
    found: dict[str, Any] = {
        "q": r(*lead, rank, G, N),
        "k": r(*lead, rank, G, N),
        "v": r(*lead, H, P),
        **{name: r(*lead, H) for name in ("a", "dt", "trap")},
        "angles": r(*lead, N // 4),
    }
    mixed: list[Any] = [None] * 3
    if rank > 1:
        mixed = [r.wide(H, rank, P) for _ in range(3)]
    if v % 4 == 1:
        mixed[2] = None
    biases = [r.wide(H, rank, N) for _ in range(2)]
    found["weights"] = Weights(r.wide(H) - 2, *biases, r.wide(H), *mixed)  # type: ignore[arg-type]
    if v % 2:
        found["z"] = r(*lead, H, P)
    return found


def _state_of(found: dict[str, Any], r: Random) -> torch.Tensor:
    heads, rank, states = found["weights"].q_bias.shape
    batch, width = found["v"].shape[0], found["v"].shape[-1]
    return r.wide(batch, heads * (width * states + rank * states + width))


def _mamba3_scan(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    found = _mamba3(dtype, v, 1 + v % 2, length)
    if v % 3 == 0:
        found["initial_state"] = _state_of(found, Random(dtype, v + 50))
    return found


def _mamba3_step(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    found = _mamba3(dtype, v, 1 + length % 9)
    return {"state": _state_of(found, Random(dtype, v + 50))} | found


def _attention(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = Random(dtype, v)
    hq, hk = ((8, 2), (7, 1), (4, 4), (8, 1))[v % 4]
    dh, batch, room = (128, 64, 256, 19)[v % 4], 3, min(length, 600)
    found: dict[str, Any] = {
        "q": r(batch, hq, dh),
        "k_cache": r(batch, room, hk, dh),
        "v_cache": r(batch, room, hk, dh),
        "lengths": torch.tensor([room, room // 2, 1], dtype=torch.int32, device="cuda"),
    }
    if v % 3 == 2:
        found["window"] = 100
    if v % 2:
        found["sinks"] = Random(torch.float32, v)(hq)
    return found


def _latent(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = Random(dtype, v)
    rank, turned = ((512, 64), (96, 20), (512, 64))[v % 3]
    batch, heads, room = 3, (128, 5, 16)[v % 3], min(length, 600)
    return {
        "q": r(batch, heads, rank + turned),
        "latents": r(batch, room, rank + turned),
        "lengths": torch.tensor([room, room // 2, 1], dtype=torch.int32, device="cuda"),
        "rank": rank,
        "scale": (rank + turned) ** -0.5,
    }


def _latent_rotary(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = Random(dtype, v)
    rank, turned = ((512, 64), (96, 20), (512, 64), (33, 6))[v % 4]
    batch, heads, first = 3, (16, 5, 128)[v % 3], 7 * (v % 2)
    found: dict[str, Any] = {
        "q": r(batch, length, heads, 40 + turned),
        "row": r(batch, length, rank + turned),
        "weight": r(rank),
        "eps": 1e-5,
        "row_out": r(batch, first + length, rank + turned)[:, first:] if v % 5 else None,
        "q_out": r(batch, length, heads, rank + turned) if length == 1 else None,
    }
    if v % 4 != 3:
        angles = r.wide(first + length, turned // 2)[first:]
        found |= {"cos": angles.cos().to(dtype), "sin": angles.sin().to(dtype)}
    if length == 1 and v % 2:  # a step of sequences at positions of their own
        found["positions"] = torch.tensor([4, 0, 7], dtype=torch.int32, device="cuda")
        found["row_out"] = r(batch, 9, rank + turned)
        if "cos" in found:
            angles = r.wide(9, turned // 2)
            found |= {"cos": angles.cos().to(dtype), "sin": angles.sin().to(dtype)}
    return found


def _grouped(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = Random(dtype, v)
    rows, experts = min(length, 300), (8, 3, 40)[v % 3]
    N, K = ((128, 256), (70, 33))[v % 2]
    ends = torch.randint(0, rows + 1, (experts,), generator=r.generator, device="cuda").sort()
    weight = (r.wide(experts, N, K) / K**0.5).to(dtype)
    return {"rows": r(rows, K), "weight": weight, "ends": ends.values.to(torch.int32)}


BUILDERS = {
    "mamba3_scan": _mamba3_scan,
    "mamba3_step": _mamba3_step,
    "attention_decode": _attention,
    "latent_decode": _latent,
    "latent_rotary": _latent_rotary,
    "grouped_mm": _grouped,
}
