"""Device code of the activation of a SwiGLU layer; shapes and formula: `op`."""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels.device.math import LOG2E


@triton.jit
def ssmprof_elementwise_swiglu(x_ptr, y_ptr, width, blocks, stride_x, BLOCK: tl.constexpr):
    row = (tl.program_id(0) // blocks).to(tl.int64)
    n = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    mask = n < width
    gate = tl.load(x_ptr + row * stride_x + n, mask, 0.0).to(tl.float32)
    value = tl.load(x_ptr + row * stride_x + width + n, mask, 0.0).to(tl.float32)
    y = value * gate / (1.0 + tl.exp2(-gate * LOG2E))
    tl.store(y_ptr + row * width + n, y.to(y_ptr.dtype.element_ty), mask)
