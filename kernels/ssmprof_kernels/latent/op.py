"""`latent_decode`: one new token over a cache of latents, absorbed, split over the cache.

Promises: every latent is read once for a block of heads, as key and as value; the grid comes from
shapes only, while each part takes an equal share of the *actual* length read on the device, so that
a captured graph stays valid as lengths grow; at most two launches; no atomics. Absorption as in
arXiv:2405.04434, section 2.1.2, the running softmax as in arXiv:2307.08691, section 3.1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssmprof_kernels import door, launch, reference
from ssmprof_kernels.attention.splits import split_count
from ssmprof_kernels.latent import kernel
from ssmprof_kernels.launch import recorded, replay

_LOG2E = 1.4426950408889634
_MOST_RANK = 512
#: Features of a program that merges.
_MERGED = 128
_INPUTS = ("q", "latents", "lengths")

#: Heads of a program, tokens of a tile, features of a tile; programs a multiprocessor should get;
#: tiles a part has at least; share of the best wave efficiency at which fewer parts are preferred.
DEFAULT: dict[str, Any] = {
    "BLOCK_M": 64, "BLOCK_N": 32, "BLOCK_V": 512, "FILL": 1, "MIN_TILES": 4, "EFFICIENCY": 0.95,
    "num_warps": 8, "num_stages": 3,
}  # fmt: skip
#: Few heads, or few rows: reading counts, not multiplying.
FEW: dict[str, Any] = {
    **DEFAULT, "BLOCK_M": 16, "BLOCK_N": 64, "MIN_TILES": 2, "num_warps": 4,
}  # fmt: skip
#: Without Hopper's matrix instructions operands pass through registers.
PORTABLE: dict[str, Any] = {**FEW, "BLOCK_N": 32, "num_stages": 1}
#: fp32 tiles are twice as large in shared memory and in registers.
FP32: dict[str, Any] = {**PORTABLE, "BLOCK_V": 64}

_recordings: recorded.Recordings = {}


def latent_decode(
    q: Tensor, latents: Tensor, lengths: Tensor | None = None, *, rank: int, scale: float
) -> Tensor:
    """softmax(scale * q c^T) c[:rank] over the cached tokens of each row, for all heads.

    Args:
        q: (B, H, r + dr) fp32, fp16 or bf16, any strides: queries absorbed into the latent, then
            what is turned.
        latents: (B, Lmax, r + dr) in q's dtype, any strides: latent, then the shared, turned key.
        lengths: (B) int32 on the device, cached tokens per row; None means all Lmax; 0 yields
            zeros.
        rank: r, the features of a latent that are its values; up to 512.
        scale: factor of the scores.

    Returns:
        (B, H, r) contiguous, in q's dtype.

    Raises:
        ValueError: an argument's shape, dtype, device or value does not fit; names it.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    inputs = (q, latents, lengths)
    door.forward_only(_INPUTS, inputs)
    key = recorded.key_of(inputs, rank, scale)
    if key not in _recordings:
        _check(q, latents, lengths, rank)
    if not (q.is_cuda or door.interpreted()):
        return reference.latent_decode(q, latents, lengths, rank=rank, scale=scale)
    meta = _meta(q)
    out = torch.empty((*q.shape[:2], rank), dtype=q.dtype, device=q.device)
    tensors = (*inputs, out)
    recorded.run(
        _recordings, key, meta, tensors, q.device, lambda: _record(tensors, rank, scale, meta)
    )  # fmt: skip
    return out


def _meta(q: Tensor) -> dict[str, Any]:
    """Blocks by dtype, heads and rows."""
    known = launch.facts(q.device)
    heads = min(128, _power_of_two(q.shape[1]))
    fill = launch.fill_bucket(q.shape[0] * -(-heads // 64), known.sm_count)
    default = PORTABLE
    if q.dtype == torch.float32:
        default = FP32
    elif known.sm in (0, 90):
        default = DEFAULT if heads > 16 and fill != "p0.5" else FEW
    name = f"{str(q.dtype).removeprefix('torch.')}-h{heads}-{fill}"
    return launch.pick("latent_decode", name, q.device, default).meta


def _record(
    tensors: tuple[Tensor | None, ...], rank: int, scale: float, meta: dict[str, Any]
) -> replay.Recording:
    q, latents, lengths, _ = tensors
    assert q is not None
    assert latents is not None
    batch, heads, width = q.shape
    span = latents.shape[1]
    known = launch.facts(q.device)
    block_m = max(16, min(meta["BLOCK_M"], _power_of_two(heads)))
    blocks = -(-heads // block_m)
    cut = split_count(
        batch * blocks, span, meta["BLOCK_N"], known.sm_count * meta["FILL"],
        meta["MIN_TILES"], meta["EFFICIENCY"],
    )  # fmt: skip
    block_v = max(16, min(meta["BLOCK_V"], _power_of_two(rank)))
    overlap = known.sm >= 90 and cut > 1
    recording = replay.Recording(len(tensors))
    out = replay.Arg(3)
    part = recording.work(batch, heads, cut, rank) if cut > 1 else out
    stats = recording.work(batch, heads, cut, 2) if cut > 1 else out
    strides: dict[str, int] = {}
    for t, letters in ((q, "qb qh qd"), (latents, "cb cl cd")):
        names = [f"stride_{a}" for a in letters.split()]
        strides |= dict(zip(names, t.stride(), strict=True))
    recording.add(
        kernel.ssmprof_attention_latent,
        batch * blocks * cut * -(-rank // block_v),
        replay.launch_options(meta["num_warps"], meta["num_stages"]),
        q_ptr=replay.Arg(0), c_ptr=replay.Arg(1), length_ptr=replay.Arg(2), out_ptr=out,
        part_ptr=part, stats_ptr=stats, capacity=span, heads=heads, scale=scale * _LOG2E,
        SPLITS=cut, BLOCKS=blocks, RANK=rank, TURNED=width - rank,
        HAS_LENGTHS=lengths is not None, BLOCK_M=block_m,
        BLOCK_V=block_v,
        BLOCK_T=max(16, _power_of_two(width - rank)), BLOCK_N=meta["BLOCK_N"],
        INTERPRETED=not q.is_cuda, OVERLAP=overlap, **strides,
    )  # fmt: skip
    if cut > 1:
        block = min(_MERGED, _power_of_two(rank))
        recording.add(
            kernel.ssmprof_attention_latent_merge,
            batch * heads * -(-rank // block),
            replay.launch_options(4, early=overlap),
            part_ptr=part, stats_ptr=stats, out_ptr=out, SPLITS=cut, RANK=rank,
            BLOCK_S=_power_of_two(cut), BLOCK_V=block, OVERLAP=overlap,
        )  # fmt: skip
    return recording


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _check(q: Tensor, latents: Tensor, lengths: Tensor | None, rank: int) -> None:
    if q.ndim != 3 or q.numel() == 0:
        raise ValueError(f"q must have shape (B,H,r+dr), none of them 0, got {tuple(q.shape)}")
    batch, _, width = q.shape
    if latents.ndim != 3 or latents.shape[0] != batch or latents.shape[2] != width:
        raise ValueError(
            f"latents must have shape (B,Lmax,r+dr) with B = {batch}, r+dr = {width}, "
            f"got {tuple(latents.shape)}"
        )
    if latents.shape[1] < 1:
        raise ValueError("latents needs room for at least one token")
    if not 1 <= rank <= min(width, _MOST_RANK):
        raise ValueError(f"rank must be in 1..{min(width, _MOST_RANK)}, got {rank}")
    if lengths is not None:
        door.shape("lengths", lengths, (batch,), "(B,)")
    if latents.dtype != q.dtype:
        raise ValueError(f"latents must have q's dtype {q.dtype}, got {latents.dtype}")
    if q.is_cuda:
        door.dtype("q", q, door.FLOATS)
    door.same_device(q, latents=latents, lengths=lengths)
