"""Products of tiles, and the units in which fp16 operands keep their digits.

Promises: the same result compiled and interpreted.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

import triton
import triton.language as tl

# `tl.max` in the form that Gluon kernels can share, and that the interpreter knows by name.
from triton.language.standard import _elementwise_max

from ssmprof_kernels.device.math import COMPILED


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """a b + acc in fp32; `acc` may be None."""
    if not COMPILED:
        # Triton's interpreter reads bf16 operands as integers; in fp32 it multiplies them right.
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def largest(v):
    """Largest magnitude of a chunk's weights; inf and NaN, of another document, have no say."""
    v = tl.abs(v)
    return tl.reduce(tl.where(v < float("inf"), v, 0.0), 0, _elementwise_max)


@triton.jit
def unit_of(top):
    """A power of two above `top`, at most twice it, and 1 over it. fp16 has no digits below 2**-24:
    what holds step sizes becomes an operand of a product only in such a unit."""
    # From 2**-64 to 2**125, so that both are finite whatever `top` is.
    top = tl.where(top < 4.2535295865117308e37, top, 0.0)
    top = tl.where(top > 5.421010862427522e-20, top, 5.421010862427522e-20)
    exponent = top.to(tl.int32, bitcast=True) & 0x7F800000
    unit = (exponent + 0x00800000).to(tl.float32, bitcast=True)
    return unit, (0x7E800000 - exponent).to(tl.float32, bitcast=True)


@triton.jit
def log2_unit(unit):
    """Base-2 logarithm of a unit."""
    return ((unit.to(tl.int32, bitcast=True) >> 23) - 127).to(tl.float32)
