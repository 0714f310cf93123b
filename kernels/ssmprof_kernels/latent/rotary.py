"""`latent_rotary`: what stands between the projections of latent attention and its scores.

Promises: one launch where plain torch needs a dozen; each element is read once and written once, to
its place in the cache and beside the absorbed queries where those are given; fp32 in registers. The
norm of the latent as in arXiv:2405.04434, section 2.1.2, over r features (arXiv:1910.07467); halves
(x1, x2) of the shared key and of a head become (x1 cos - x2 sin, x2 cos + x1 sin), the half-split
form of arXiv:2104.09864. CPU tensors take the plain torch form, unless Triton's interpreter is
switched on (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssmprof_kernels import door, launch, reference
from ssmprof_kernels.latent.rotary_kernel import Angles, Heads, Rows, ssmprof_rope_latent
from ssmprof_kernels.launch import recorded, replay

_MOST_RANK = 16384
_INPUTS = ("q", "row", "weight", "cos", "sin", "q_out", "row_out", "positions")

#: Features of a program that turns heads: 16 bytes of 16-bit values per thread of four warps.
DEFAULT = {"ELEMENTS": 1024, "num_warps": 4}

_recordings: recorded.Recordings = {}
_lookups = launch.lookups()


def latent_rotary(
    q: Tensor,
    row: Tensor,
    weight: Tensor,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    *,
    eps: float,
    q_out: Tensor | None = None,
    row_out: Tensor | None = None,
    positions: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Norm the latents; turn the shared keys and the last dr features of every query head.

    With `positions` the tokens of each sequence stand there, and go to those rows of a cache; the
    tables are those of all positions, and a position beyond them is not looked for.

    Args:
        q: (B, L, H, dn + dr) fp32, fp16 or bf16, any strides, as all of these.
        row: (B, L, r + dr) in q's dtype: latent, then the shared key, as they were projected.
        weight: (r) of the latent's norm, any of the three dtypes.
        cos, sin: (L, dr / 2) of the tokens' positions; None turns nothing.
        eps: added to the mean square.
        q_out: (B, L, H, n + dr) in q's dtype, whose last dr features are written; **q itself** if
            None.
        row_out: (B, L, r + dr) in q's dtype, the tokens' rows of a cache; **row itself** if None.
            With `positions` (B, rows, r + dr), all rows.
        positions: (B) int32 or int64 on the device, of the first token of each sequence.

    Returns:
        The queries and the rows that were written.

    Raises:
        ValueError: an argument's shape, dtype, device or value does not fit; names it.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    inputs = (q, row, weight, cos, sin, q_out, row_out, positions)
    door.forward_only(_INPUTS, inputs)
    if not (q.is_cuda or door.interpreted()):
        _lookup(*inputs)
        return reference.latent_rotary(
            q, row, weight, cos, sin, eps=eps, q_out=q_out, row_out=row_out, positions=positions
        )
    key = recorded.key_of(inputs, eps)
    meta = recorded.meta_of(_lookups, key, lambda: _lookup(*inputs))
    recorded.run(_recordings, key, meta, inputs, q.device, lambda: _record(inputs, meta, eps))
    return q if q_out is None else q_out, row if row_out is None else row_out


def _record(
    tensors: tuple[Tensor | None, ...], meta: dict[str, int], eps: float
) -> replay.Recording:
    q, row, weight, cos, sin, q_out, row_out, positions = tensors
    assert q is not None
    assert row is not None
    assert weight is not None
    batch, length, heads, width = q.shape
    rank = weight.shape[0]
    turned = row.shape[2] - rank
    turn = cos is not None
    half = turned // 2 if turn else turned
    block = _power_of_two(half)
    at_once = min(max(1, meta["ELEMENTS"] // (turned // half * block)), _power_of_two(heads))
    # Queries that stay where they are and are not turned are done.
    blocks = -(-heads // at_once) if turn or q_out is not None else 0
    written = q if q_out is None else q_out
    recording = replay.Recording(len(tensors))
    recording.add(
        ssmprof_rope_latent,
        batch * length * (blocks + 1),
        replay.launch_options(meta["num_warps"]),
        **{f"{name}_ptr": replay.Arg(i) for i, name in enumerate(("q", "row", "w", "cos", "sin"))},
        q_out_ptr=replay.Arg(0 if q_out is None else 5),
        row_out_ptr=replay.Arg(1 if row_out is None else 6), position_ptr=replay.Arg(7),
        length=length, heads=heads, eps=eps, q_skip=width - turned,
        q_out_skip=written.shape[3] - turned, q_steps=replay.strides(Heads, q),
        row_steps=replay.strides(Rows, row), w_step=weight.stride(0),
        cos_steps=replay.strides(Angles, cos), sin_steps=replay.strides(Angles, sin),
        q_out_steps=replay.strides(Heads, written),
        row_out_steps=replay.strides(Rows, row if row_out is None else row_out),
        BLOCKS=blocks, RANK=rank, HALF=half, TURN=turn, EACH=positions is not None, HEADS=at_once,
        BLOCK_R=_power_of_two(rank), BLOCK_T=block,
    )  # fmt: skip
    return recording


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _lookup(
    q: Tensor,
    row: Tensor,
    weight: Tensor,
    cos: Tensor | None,
    sin: Tensor | None,
    q_out: Tensor | None,
    row_out: Tensor | None,
    positions: Tensor | None,
) -> launch.Lookup:
    """Where the blocks are looked up; ValueError for the first argument that does not fit."""
    if q.ndim != 4 or q.numel() == 0:
        raise ValueError(f"q must have shape (B,L,H,dn+dr), none of them 0, got {tuple(q.shape)}")
    batch, length, _, width = q.shape
    if row.ndim != 3 or row.shape[:2] != (batch, length):
        raise ValueError(
            f"row must have shape (B,L,r+dr) with B = {batch}, L = {length}, got {tuple(row.shape)}"
        )
    rank = weight.shape[0] if weight.ndim == 1 else 0
    turned = row.shape[2] - rank
    if not (1 <= rank <= _MOST_RANK and 1 <= turned <= width):
        raise ValueError(
            f"weight must have shape (r,) with r in 1..{_MOST_RANK}, r + dr = {row.shape[2]} and "
            f"dr in 1..{width}, got {tuple(weight.shape)}"
        )
    if (cos is None) != (sin is None):
        raise ValueError("sin must be given where cos is, and only there")
    if cos is not None and sin is not None:
        if turned % 2:
            raise ValueError(f"row must end in pairs of features to be turned, got dr = {turned}")
        known = length if positions is None else cos.shape[0]
        door.shape("cos", cos, (known, turned // 2), "(L,dr/2)")
        door.shape("sin", sin, (known, turned // 2), "(L,dr/2)")
    if q_out is not None and (
        q_out.ndim != 4 or q_out.shape[:3] != q.shape[:3] or q_out.shape[3] < turned
    ):
        raise ValueError(
            f"q_out must have shape (B,L,H,n+dr) with {tuple(q.shape[:3])} and dr = {turned}, "
            f"got {tuple(q_out.shape)}"
        )
    if positions is not None:
        door.shape("positions", positions, (batch,), "(B,)")
        door.dtype("positions", positions, (torch.int32, torch.int64))
        if row_out is None or row_out.ndim != 3 or row_out.shape[1] < length:
            raise ValueError("row_out must hold rows of a cache (B,rows,r+dr) where positions do")
        door.shape("row_out", row_out, (batch, row_out.shape[1], row.shape[2]), "(B,rows,r+dr)")
    elif row_out is not None:
        door.shape("row_out", row_out, tuple(row.shape), "row's")
    for name, t in (("row", row), ("q_out", q_out), ("row_out", row_out)):
        if t is not None and t.dtype != q.dtype:
            raise ValueError(f"{name} must have q's dtype {q.dtype}, got {t.dtype}")
    door.same_device(
        q, row=row, weight=weight, cos=cos, sin=sin, q_out=q_out, row_out=row_out,
        positions=positions,
    )  # fmt: skip
    if q.is_cuda:
        door.dtype("q", q, door.FLOATS)
    return "latent_rotary", f"r{_power_of_two(rank)}-t{_power_of_two(turned)}", q.device, DEFAULT
