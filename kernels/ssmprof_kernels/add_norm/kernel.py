"""Device code of a residual addition and the norm behind it; shapes and formula: `op`."""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def ssmprof_norm_add_rms(
    x_ptr, update_ptr, w_ptr, sum_ptr, y_ptr, n_rows, width, scale, eps,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    n = tl.arange(0, BLOCK)[None, :]
    mask = (row < n_rows) & (n < width)
    at = row * width + n
    x = tl.load(x_ptr + at, mask, 0.0).to(tl.float32)
    x += scale * tl.load(update_ptr + at, mask, 0.0).to(tl.float32)
    rounded = x.to(sum_ptr.dtype.element_ty)
    tl.store(sum_ptr + at, rounded, mask)
    x = rounded.to(tl.float32)
    inverse = tl.math.rsqrt(tl.sum(x * x, axis=1) / width + eps)
    weight = tl.load(w_ptr + n, n < width, 0.0).to(tl.float32)
    tl.store(y_ptr + at, (x * inverse[:, None] * weight).to(y_ptr.dtype.element_ty), mask)
