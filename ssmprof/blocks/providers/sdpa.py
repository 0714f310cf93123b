"""Attention through torch's `scaled_dot_product_attention`, one candidate per backend.

`is_causal=True` and never a mask tensor where the whole prompt is read at once: a materialised mask
costs L^2 bytes and switches to a slower kernel. On a CPU torch chooses by itself (`sdpa`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.backends import cuda
from torch.nn.attention import SDPBackend

BACKENDS: dict[str, SDPBackend | None] = {
    "sdpa-cudnn": SDPBackend.CUDNN_ATTENTION,
    "sdpa-flash": SDPBackend.FLASH_ATTENTION,
    "sdpa-efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa-math": SDPBackend.MATH,
    "sdpa": None,
}
# How a backend is switched and asked: the same switches as `torch.nn.attention.sdpa_kernel`, which
# costs 20 us a call and would be a fifth of a decode step's host time.
SWITCHES: dict[SDPBackend, tuple[Callable[[bool], None], Callable[[], bool]]] = {
    SDPBackend.CUDNN_ATTENTION: (cuda.enable_cudnn_sdp, cuda.cudnn_sdp_enabled),
    SDPBackend.FLASH_ATTENTION: (cuda.enable_flash_sdp, cuda.flash_sdp_enabled),
    SDPBackend.EFFICIENT_ATTENTION: (
        cuda.enable_mem_efficient_sdp,
        cuda.mem_efficient_sdp_enabled,
    ),
    SDPBackend.MATH: (cuda.enable_math_sdp, cuda.math_sdp_enabled),
}


def find(op: str, name: str, device: torch.device) -> Callable[..., Any] | None:
    """One backend of SDPA for `op`; on a CPU only torch's own choice."""
    backend = BACKENDS[name]
    if (backend is None) != (device.type != "cuda"):
        return None
    ops = {"attention_prefill": attention_prefill, "attention_decode": attention_decode}
    return partial(ops[op], backend=backend)


def attention_prefill(
    q: Tensor, k: Tensor, v: Tensor, *, window: int | None = None, backend: SDPBackend | None = None
) -> Tensor:
    """Causal attention of the last Lq of Lk tokens: q (B, Lq, Hq, dh), k and v (B, Lk, Hk, dh).

    With a window a token sees itself and the `window - 1` before it. Returns (B, Lq, Hq, dh).
    """
    if window is not None and window < k.shape[1]:
        return _windowed(q, k, v, window, backend)
    if q.shape[1] == k.shape[1]:
        return _sdpa(q, k, v, backend, is_causal=q.shape[1] > 1)
    seen = k.shape[1] - q.shape[1]
    mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device).tril(seen)
    return _sdpa(q, k, v, backend, attn_mask=mask)


def attention_decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    rows: int,
    *,
    backend: SDPBackend | None = None,
) -> Tensor:
    """One token against the first `rows` rows: q (B, Hq, dh), k and v (B, Lmax, Hk, dh).

    The slice is fixed by `rows` (a host int), so `lengths` on the device is not read here.
    """
    return _sdpa(q[:, None], k[:, :rows], v[:, :rows], backend).squeeze(1)


def _windowed(q: Tensor, k: Tensor, v: Tensor, window: int, backend: SDPBackend | None) -> Tensor:
    """Blocks of `window` queries, each against its own and the block before: O(L * window)."""
    batch, length, _, _ = q.shape
    before = k.shape[1] - length
    blocks = -(-length // window)
    tail = blocks * window - length
    pad = (0, 0, 0, 0, max(0, window - before), tail)
    k, v = (F.pad(t[:, max(0, before - window) :], pad) for t in (k, v))
    q = F.pad(q, (0, 0, 0, 0, 0, tail))

    def spans(t: Tensor) -> Tensor:
        # Overlapping views: block i holds keys i*window .. (i+2)*window.
        view = t.unfold(1, 2 * window, window).permute(0, 1, 4, 2, 3)
        return view.reshape(batch * blocks, 2 * window, *t.shape[2:])

    query = torch.arange(window, device=q.device)[:, None] + window
    key = torch.arange(2 * window, device=q.device)[None, :]
    near = (key <= query) & (key > query - window)
    # Keys before the first token are padding.
    missing = max(0, window - before)
    exists = key + torch.arange(blocks, device=q.device)[:, None, None] * window >= missing
    mask = (near[None] & exists).repeat(batch, 1, 1)[:, None]
    out = _sdpa(
        q.reshape(batch * blocks, window, *q.shape[2:]), spans(k), spans(v), backend, attn_mask=mask
    )
    return out.reshape(batch, blocks * window, *q.shape[2:])[:, :length].contiguous()


def _sdpa(q: Tensor, k: Tensor, v: Tensor, backend: SDPBackend | None, **options: Any) -> Tensor:
    """Token-major in and out; SDPA itself is head-major (views, no copies)."""
    grouped = q.shape[2] != k.shape[2]
    if backend in (None, SDPBackend.EFFICIENT_ATTENTION) and grouped:
        # Neither has grouped queries of its own; torch would fall back to L^2 memory.
        repeats = q.shape[2] // k.shape[2]
        k, v = (t.repeat_interleave(repeats, dim=2) for t in (k, v))
        grouped = False
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    if backend is None:
        return F.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2)
    before = [enabled() for _, enabled in SWITCHES.values()]
    for kind, (switch, _) in SWITCHES.items():
        switch(kind is backend)
    try:
        out = F.scaled_dot_product_attention(q, k, v, enable_gqa=grouped, **options)
    finally:
        for (switch, _), enabled in zip(SWITCHES.values(), before, strict=True):
            switch(enabled)
    return out.transpose(1, 2)
