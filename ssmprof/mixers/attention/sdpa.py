"""Attention through torch's `scaled_dot_product_attention`, one candidate per backend.

`is_causal=True` and never a mask tensor where the whole prompt is read at once: a materialised mask
costs L^2 bytes and switches to a slower kernel. On a CPU torch chooses by itself (`sdpa`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Backend:
    """One backend of SDPA for a function of this file; on a CPU only torch's own choice."""

    call: Callable[..., Tensor]
    name: str

    def __call__(self, device: torch.device) -> Callable[..., Tensor] | None:
        backend = BACKENDS[self.name]
        if (backend is None) != (device.type != "cuda"):
            return None
        return partial(self.call, backend=backend)


def attention_prefill(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    window: int | None = None,
    sinks: Tensor | None = None,
    backend: SDPBackend | None = None,
) -> Tensor:
    """Causal attention of the last Lq of Lk tokens: q (B, Lq, Hq, dh), k and v (B, Lk, Hk, dh).

    With a window a token sees itself and the `window - 1` before it. `sinks` (Hq) adds one logit to
    every softmax. Returns (B, Lq, Hq, dh).
    """
    if window is not None and window < k.shape[1]:
        return _windowed(q, k, v, window, sinks, backend)
    if q.shape[1] == k.shape[1]:
        return _sdpa(q, k, v, backend, sinks, is_causal=q.shape[1] > 1)
    if backend is SDPBackend.CUDNN_ATTENTION:
        raise NotImplementedError("torch gives cuDNN no causal mask for the end of a prompt")
    if backend is SDPBackend.FLASH_ATTENTION and sinks is None and _plain_heads(q, v):
        return _flash_end(q, k, v)
    seen = k.shape[1] - q.shape[1]
    mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool, device=q.device).tril(seen)
    return _sdpa(q, k, v, backend, sinks, attn_mask=mask)


def attention_decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    rows: int,
    *,
    sinks: Tensor | None = None,
    backend: SDPBackend | None = None,
) -> Tensor:
    """One token against the first `rows` rows: q (B, Hq, dh), k and v (B, Lmax, Hk, dh).

    The slice is fixed by `rows` (a host int), so `lengths` on the device is not read here.
    """
    return _sdpa(q[:, None], k[:, :rows], v[:, :rows], backend, sinks).squeeze(1)


def _plain_heads(q: Tensor, v: Tensor) -> bool:
    """Widths that the flash kernel takes without padding."""
    return v.shape[-1] == q.shape[-1] and q.shape[-1] % 8 == 0


def _flash_end(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The last Lq of Lk tokens by the kernel itself, whose causal mask ends at the last key.

    `scaled_dot_product_attention` aligns its mask with the first one, and so refuses.
    """
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    call = torch.ops.aten._scaled_dot_product_flash_attention
    return call(q, k, v, 0.0, True, False)[0].transpose(1, 2)


def _windowed(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int,
    sinks: Tensor | None,
    backend: SDPBackend | None,
) -> Tensor:
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
    q = q.reshape(batch * blocks, window, *q.shape[2:])
    out = _sdpa(q, spans(k), spans(v), backend, sinks, attn_mask=mask)
    return out.reshape(batch, blocks * window, *q.shape[2:])[:, :length].contiguous()


def _sdpa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    backend: SDPBackend | None,
    sinks: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """Token-major in and out; SDPA itself is head-major (views, no copies)."""
    width = v.shape[-1]
    if width < q.shape[-1] and backend in (None, SDPBackend.FLASH_ATTENTION):
        # Neither takes values narrower than keys; torch would fall back to L^2 memory.
        v = F.pad(v, (0, q.shape[-1] - width))
        return _sdpa(q, k, v, backend, sinks, **options)[..., :width]
    grouped = q.shape[2] != k.shape[2]
    if grouped and (backend in (None, SDPBackend.EFFICIENT_ATTENTION) or sinks is not None):
        # Neither has grouped queries of its own; torch would fall back to L^2 memory.
        repeats = q.shape[2] // k.shape[2]
        k, v = (t.repeat_interleave(repeats, dim=2) for t in (k, v))
        grouped = False
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    if sinks is not None:
        return _with_sinks(q, k, v, backend, sinks, **options).transpose(1, 2)
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


def _with_sinks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    backend: SDPBackend | None,
    sinks: Tensor,
    *,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
) -> Tensor:
    """Head-major attention whose softmax has one more logit per head, which reads nothing.

    That logit only scales each row: by the sigmoid of (log-sum-exp of the row - sink).
    """
    out, rows = _with_rows(q, k, v, backend, attn_mask, is_causal)
    share = torch.sigmoid(rows[..., : q.shape[2]].float() - sinks[:, None].float())
    return out.mul_(share[..., None].to(out.dtype))


def _with_rows(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    backend: SDPBackend | None,
    mask: Tensor | None,
    causal: bool,
) -> tuple[Tensor, Tensor]:
    """Attention and the log-sum-exp of every row, by the backend asked for."""
    aten = torch.ops.aten
    bias = None
    if mask is not None:
        bias = torch.zeros(mask.shape, dtype=q.dtype, device=q.device)
        bias.masked_fill_(~mask, float("-inf"))
    if backend is None:
        call = aten._scaled_dot_product_flash_attention_for_cpu
        return call(q, k, v, 0.0, causal, attn_mask=bias)
    if backend is SDPBackend.FLASH_ATTENTION and bias is None:
        found = aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, False)
    elif backend is SDPBackend.EFFICIENT_ATTENTION:
        bias = None if bias is None else bias.expand(*q.shape[:3], k.shape[2])
        found = aten._scaled_dot_product_efficient_attention(q, k, v, bias, True, 0.0, causal)
    elif backend is SDPBackend.CUDNN_ATTENTION:
        found = aten._scaled_dot_product_cudnn_attention(q, k, v, bias, True, 0.0, causal, False)
        return found[0], found[1].view(*q.shape[:3])
    else:
        raise NotImplementedError(f"{backend}: no rows of the softmax, which sinks need")
    return found[0], found[1]
