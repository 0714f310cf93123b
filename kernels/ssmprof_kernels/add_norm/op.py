"""Residual addition and the RMS norm after it in Triton.

Promises: one launch and one pass: the residual stream and what is added are read once, the new
stream and its norm written once (4 d elements per token against 5 in two kernels); the sum is
rounded to the stream's dtype before it is normed, so that results equal those of two kernels; mean
square in fp32 (arXiv:1910.07467). Shapes: x, update and both results (..., d), weight (d).
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false

from __future__ import annotations

import torch
import triton

from ssmprof_kernels import door
from ssmprof_kernels.add_norm.kernel import ssmprof_norm_add_rms

#: Elements a program holds at least; rows are packed until it has them. Elements of one warp.
_ELEMENTS, _PER_WARP = 1024, 512


def add_rms_norm(
    x: torch.Tensor,
    update: torch.Tensor,
    weight: torch.Tensor,
    *,
    scale: float,
    eps: float,
    in_place: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """x + scale * update, and its RMS norm.

    Args:
        x, update: (..., d), contiguous, one dtype.
        weight: (d).
        scale: of what is added.
        eps: added to the mean square.
        in_place: overwrite x with the sum.

    Returns:
        The sum and its norm, both (..., d).

    Raises:
        ValueError: a shape or layout does not fit; names the argument.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    door.forward_only(("x", "update", "weight"), (x, update, weight))
    width = x.shape[-1]
    door.shape("update", update, tuple(x.shape), "x's")
    door.shape("weight", weight, (width,), "(d,)")
    if not (x.is_contiguous() and update.is_contiguous()):
        raise ValueError(f"x and update of shape {tuple(x.shape)} must be contiguous")
    total = x if in_place else torch.empty_like(x)
    normed = torch.empty_like(x)
    block = triton.next_power_of_2(width)
    rows = max(1, _ELEMENTS // block)
    n_rows = x.numel() // width
    warps = min(16, max(1, rows * block // _PER_WARP))
    ssmprof_norm_add_rms[(-(-n_rows // rows),)](
        x, update, weight, total, normed, n_rows, width, scale, eps,
        ROWS=rows, BLOCK=block, num_warps=warps, enable_fp_fusion=True,
    )  # fmt: skip
    return total, normed
