"""The mathematics of all kernels: exponentials, gates, step sizes, widening, in one place.

Promises: fp32 in registers, base-2 exponentials only. Compiled, single instructions stand where the
compiler would add handling of subnormal numbers that cannot occur; the interpreter has no assembly
and runs the same formulas through `tl`. A kernel written in
Gluon calls the same functions: they are compiled as whoever calls them is.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportAssignmentType=false, reportOperatorIssue=false, reportReturnType=false

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels import door

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
#: Whether a compiler is behind the kernels, which is decided where they are imported.
COMPILED = tl.constexpr(not door.interpreted())


@triton.jit
def widen(x):
    """To fp32, before any change of layout.

    An ordinary widening is moved behind the layout change by the compiler, and the softplus with
    it, which then runs once per lane that holds a copy. It does not move inline assembly.
    """
    if COMPILED and x.dtype == tl.bfloat16:
        return tl.inline_asm_elementwise(
            "{ .reg .b16 z; mov.b16 z, 0; mov.b32 $0, {z, $1}; }",
            "=f,h",
            [x],
            dtype=tl.float32,
            is_pure=True,
            pack=1,
        )
    elif COMPILED and x.dtype == tl.float16:
        return tl.inline_asm_elementwise(
            "cvt.f32.f16 $0, $1;", "=f,h", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return x.to(tl.float32)


@triton.jit
def widen_words(x, like: tl.constexpr):
    """int32 words of two 16-bit floats (R, C) to fp32 (R, 2 C); `like` is the 16-bit dtype.

    Words stay whole in a register until here. Loaded as 16-bit numbers they would be taken apart
    at the load, which then has to wait for memory.
    """
    if like == tl.bfloat16:
        low, high = tl.inline_asm_elementwise(
            "shl.b32 $0, $2, 16; and.b32 $1, $2, 0xffff0000;",
            "=f,=f,r",
            [x],
            dtype=(tl.float32, tl.float32),
            is_pure=True,
            pack=1,
        )
    else:
        low, high = tl.inline_asm_elementwise(
            "{ .reg .b16 l, h; mov.b32 {l, h}, $2; cvt.f32.f16 $0, l; cvt.f32.f16 $1, h; }",
            "=f,=f,r",
            [x],
            dtype=(tl.float32, tl.float32),
            is_pure=True,
            pack=1,
        )
    return tl.join(low, high).reshape([x.shape[0], 2 * x.shape[1]])


@triton.jit
def finite_rate(A):
    """A in fp32, but the lowest finite number where it is -inf: a step of 0, which every token past
    the end has, then leaves the state alone, where 0 * -inf would be NaN."""
    return tl.maximum(A, -3.4028234663852886e38, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def exp2(x):
    """2^x. A decay below 2^-126 is as good as 0; keeping it would take three more instructions."""
    if COMPILED:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.exp2(x)


@triton.jit
def reciprocal(x):
    """1 / x by the approximation of the hardware."""
    if COMPILED:
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return 1.0 / x


@triton.jit
def softplus(x):
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), the logarithm as 2 atanh(e / (2 + e)).

    The polynomial is minimax for atanh(s) / s up to s = 1/3, relative error 4e-9. The approximate
    logarithm of the hardware is right to 2e-7 of 1 only, which a small step size would feel.
    """
    e = tl.exp2(tl.abs(x) * -LOG2E)
    s = e * reciprocal(2.0 + e)
    w = s * s
    p = 0.2817831501 * w + 0.2796060718
    p = p * w + 0.4002490997
    p = p * w + 0.6666631469
    p = p * w + 2.0
    return tl.maximum(x, 0.0) + s * p


@triton.jit
def silu(x):
    """x / (1 + e^-x)."""
    return x * reciprocal(1.0 + tl.exp2(x * -LOG2E))


@triton.jit
def sigmoid_by_rsqrt(x):
    """1 / (1 + e^-x) as rsqrt(1 + 2^(-x log2 e))^2: two fast instructions where a kernel waits for
    memory, and right to the last digit of 16 bits."""
    root = _sigmoid_root(x)
    return root * root


@triton.jit
def silu_by_rsqrt(x):
    """`silu` as x * sigmoid(x), by the same two instructions."""
    root = _sigmoid_root(x)
    return x * root * root


@triton.jit
def _sigmoid_root(x):
    return tl.math.rsqrt(1.0 + tl.exp2(x * -LOG2E))


@triton.jit
def softplus_by_log2(x):
    """log(1 + e^x) by the hardware's logarithm, and its series where that loses digits."""
    u = tl.exp2(x * LOG2E)
    # log(1 + u) loses the digits of a small u; four terms of the series keep fp32 accuracy.
    small = u * (1.0 - u * (0.5 - u * (0.3333333333 - u * 0.25)))
    large = tl.log2(1.0 + u) * LN2
    return tl.where(x > 20.0, x, tl.where(u < 0.03125, small, large))
