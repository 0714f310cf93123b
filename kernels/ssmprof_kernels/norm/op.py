"""RMS normalisation over groups of channels, with or without a SiLU gate, in Triton.

Promises: one launch, one pass: each input is read once, kept in registers and written once; mean
square in fp32; the last axis may have any stride, leading axes any strides. y = norm(x) * silu(z)
with `norm_before_gate`, else norm(x * silu(z)); norm(v) = v / sqrt(mean(v^2) + eps) * weight
(Zhang and Sennrich, arXiv:1910.07467).
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ssmprof_kernels import door, launch
from ssmprof_kernels.conv.kernels import activate
from ssmprof_kernels.launch import recorded, replay
from ssmprof_kernels.norm import reference

#: Elements a program holds at least; rows are packed until a program has them. Warps by tile size.
DEFAULT = {"ELEMENTS": 2048, "PER_WARP": 1024}
_MAX_GROUP = 65536


@triton.jit
def _norm_kernel(
    x_ptr, z_ptr, w_ptr, y_ptr, n_rows, inner, size, groups, eps,
    stride_xo, stride_xi, stride_xd, stride_zo, stride_zi, stride_zd, stride_w,
    stride_yo, stride_yi, stride_yd,
    HAS_Z: tl.constexpr, BEFORE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # A row here is one group of one token; groups of a token are neighbours.
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    alive = r < n_rows
    token = r // groups
    outer = (token // inner)[:, None]
    within = (token % inner)[:, None]
    n = tl.arange(0, BLOCK)
    d = ((r % groups) * size)[:, None] + n[None, :]
    mask = alive[:, None] & (n < size)[None, :]
    x = tl.load(x_ptr + outer * stride_xo + within * stride_xi + d * stride_xd, mask, 0.0)
    x = x.to(tl.float32)
    if HAS_Z:
        z = tl.load(z_ptr + outer * stride_zo + within * stride_zi + d * stride_zd, mask, 0.0)
        gate = activate(z.to(tl.float32), True)
        if not BEFORE:
            x *= gate
    weight = tl.load(w_ptr + d * stride_w, mask, 0.0).to(tl.float32)
    scale = tl.math.rsqrt(tl.sum(x * x, axis=1) / size + eps)
    y = x * scale[:, None] * weight
    if HAS_Z:
        if BEFORE:
            y *= gate
    y_tile = y_ptr + outer * stride_yo + within * stride_yi + d * stride_yd
    tl.store(y_tile, y.to(y_ptr.dtype.element_ty), mask)


def _as_rows(x: torch.Tensor) -> torch.Tensor:
    """(outer, inner, D) by strides; a copy only where leading axes cannot be merged."""
    if x.ndim == 3:
        return x
    if x.ndim == 2:
        return x.unsqueeze(0)
    if x.ndim < 2:
        return x.reshape(1, 1, -1)
    return x.flatten(0, -3)


def gated_rmsnorm(
    x: torch.Tensor,
    weight: torch.Tensor,
    *,
    z: torch.Tensor | None = None,
    group_size: int | None = None,
    norm_before_gate: bool = False,
    eps: float = 1e-5,
) -> torch.Tensor:
    """RMS norm of the last axis, gated by silu(z) where z is given.

    Args:
        x: (...,D) fp32, fp16 or bf16, any strides.
        weight: (D).
        z: (...,D) like x, or None for a plain RMS norm.
        group_size: channels that share one mean square; a divisor of D, D itself by default.
        norm_before_gate: gate the normalised value instead of the input.
        eps: added to the mean square.

    Returns:
        y of x's shape and dtype.

    Raises:
        ValueError: an argument's shape, dtype, device or value does not fit; names it.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    door.forward_only(("x", "weight", "z"), (x, weight, z))
    rows = tuple(None if t is None else _as_rows(t) for t in (x, z))
    key = recorded.key_of((*rows, weight), x.ndim, group_size, norm_before_gate, eps)
    if key not in _recordings:
        _check(x, weight, z, group_size)
    if not (x.is_cuda or door.interpreted()):
        return reference.gated_rmsnorm(
            x, weight, z=z, group_size=group_size, norm_before_gate=norm_before_gate, eps=eps
        )
    # More than two leading axes are merged, which only dense memory allows without a copy.
    y = torch.empty_like(x) if x.ndim <= 3 else torch.empty(x.shape, dtype=x.dtype, device=x.device)
    size = group_size or x.shape[-1]
    block = int(triton.next_power_of_2(size))
    meta = launch.pick("gated_rmsnorm", f"{block}", x.device, DEFAULT).meta
    tensors = (*rows, weight, _as_rows(y))
    recorded.run(
        _recordings, key, meta, tensors, x.device,
        lambda: _record(tensors, size, block, norm_before_gate, eps, meta),
    )  # fmt: skip
    return y


_recordings: recorded.Recordings = {}


def _record(
    tensors: tuple[torch.Tensor | None, ...],
    size: int,
    block: int,
    before: bool,
    eps: float,
    meta: dict[str, int],
) -> replay.Recording:
    x, z, weight, y = tensors
    assert x is not None
    assert weight is not None
    assert y is not None
    groups = x.shape[2] // size
    n_rows = x.shape[0] * x.shape[1] * groups
    rows = max(1, meta["ELEMENTS"] // block)
    strides = {"stride_w": weight.stride(0)}
    for letter, t in (("x", x), ("z", x if z is None else z), ("y", y)):
        strides |= {f"stride_{letter}{a}": s for a, s in zip("oid", t.stride(), strict=True)}
    recording = replay.Recording(len(tensors))
    recording.add(
        _norm_kernel,
        -(-n_rows // rows),
        {
            "num_warps": min(16, max(1, rows * block // meta["PER_WARP"])),
            "enable_fp_fusion": True,
        },
        x_ptr=replay.Arg(0), z_ptr=replay.Arg(1), w_ptr=replay.Arg(2), y_ptr=replay.Arg(3),
        n_rows=n_rows, inner=x.shape[1], size=size, groups=groups, eps=eps,
        HAS_Z=z is not None, BEFORE=before, ROWS=rows, BLOCK=block, **strides,
    )  # fmt: skip
    return recording


def _check(
    x: torch.Tensor, weight: torch.Tensor, z: torch.Tensor | None, group_size: int | None
) -> None:
    if x.numel() == 0:
        raise ValueError(f"x must have shape (...,D), none of them 0, got {tuple(x.shape)}")
    dim = x.shape[-1]
    door.shape("weight", weight, (dim,), "(D,)")
    if z is not None:
        door.shape("z", z, x.shape, "x's")
    size = group_size or dim
    if size < 1 or dim % size or size > _MAX_GROUP:
        raise ValueError(
            f"group_size must divide D = {dim} and be at most {_MAX_GROUP}, got {group_size}"
        )
    door.same_device(x, weight=weight, z=z)
    if x.is_cuda:
        door.dtype("x", x, door.FLOATS)
