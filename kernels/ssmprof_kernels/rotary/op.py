"""Rotary embedding of queries and keys, and the write of keys and values into a cache, in Triton.

Promises: one launch where plain torch needs five; each element of q, k and v is read once and
written once; fp32 in registers. With cos and sin of position p, halves (x1, x2) of a head become
(x1 cos - x2 sin, x2 cos + x1 sin) (Su et al., arXiv:2104.09864, the half-split form).
Shapes: qkv (B,L,Hq+2Hk,dh), tables (L,dh/2), caches (B,rows,Hk,dh).
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false

from __future__ import annotations

import torch
import triton

from ssmprof_kernels import door
from ssmprof_kernels.rotary.kernel import Form, Heads, ssmprof_rope_rotary

#: Elements of one program, so that each thread of four warps moves 16 bytes of 16-bit values.
_ELEMENTS = 1024


def rotary(
    qkv: torch.Tensor,
    cos: torch.Tensor | None,
    sin: torch.Tensor | None,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    start: int,
    *,
    positions: torch.Tensor | None = None,
) -> torch.Tensor:
    """Rotate queries and keys, write keys and values into rows start .. start + L of the caches.

    With `positions` the tokens of each sequence stand there, and go to those rows; the tables are
    those of all positions, and a position beyond the caches is not looked for.

    Args:
        qkv: (B,L,Hq+2Hk,dh), heads of queries, keys, values in this order; unit last stride.
        cos, sin: (L,dh/2) of the tokens' positions; None rotates nothing.
        k_cache, v_cache: (B,rows,Hk,dh), overwritten in place; unit last stride.
        start: row of the first token.
        positions: (B) int on the device, of the first token of each sequence.

    Returns:
        q (B,L,Hq,dh), a view of qkv where nothing is rotated.

    Raises:
        ValueError: a shape or stride does not fit; names the argument.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    door.forward_only(
        ("qkv", "cos", "sin", "k_cache", "v_cache"), (qkv, cos, sin, k_cache, v_cache)
    )
    batch, length, heads, dim = qkv.shape
    rows, kv_heads = k_cache.shape[1:3]
    q_heads = heads - 2 * kv_heads
    door.shape("k_cache", k_cache, (batch, rows, kv_heads, dim), "(B,rows,Hk,dh)")
    door.shape("v_cache", v_cache, (batch, rows, kv_heads, dim), "(B,rows,Hk,dh)")
    if q_heads < 1 or dim % 2 or start < 0 or start + length > rows:
        raise ValueError(
            f"qkv of shape {tuple(qkv.shape)} must hold more than 2Hk = {2 * kv_heads} heads of an "
            f"even width, and rows {start} .. {start + length} lie in a cache of {rows}"
        )
    if positions is not None:
        door.shape("positions", positions, (batch,), "(B,)")
    turn, stride_t = False, 0
    if cos is not None and sin is not None:
        known = length if positions is None else cos.shape[0]
        door.shape("cos", cos, (known, dim // 2), "(L,dh/2)")
        door.shape("sin", sin, (known, dim // 2), "(L,dh/2)")
        turn, stride_t = True, cos.stride(0)
    if qkv.stride(3) != 1 or k_cache.stride(3) != 1 or v_cache.stride(3) != 1:
        raise ValueError("qkv, k_cache and v_cache must have a unit last stride")
    q = qkv[:, :, :q_heads]
    if turn:
        q = torch.empty(batch, length, q_heads, dim, dtype=qkv.dtype, device=qkv.device)
    half = dim // 2
    width = triton.next_power_of_2(half)
    at_once = max(1, _ELEMENTS // (2 * width))
    moved = heads if turn else 2 * kv_heads
    per_program = min(at_once, triton.next_power_of_2(moved))
    blocks = -(-moved // per_program)
    ssmprof_rope_rotary[(batch * length * blocks,)](
        qkv, cos if turn else qkv, sin if turn else qkv, q, k_cache, v_cache,
        positions, length, start, blocks, Heads(*qkv.stride()[:3]), stride_t,
        Heads(*k_cache.stride()[:3]), Heads(*v_cache.stride()[:3]),
        FORM=Form(q_heads, kv_heads, half, turn), HEADS=per_program, WIDTH=width,
        EACH=positions is not None,
        num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
    return q
