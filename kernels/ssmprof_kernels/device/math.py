"""Element-wise device functions shared by kernels: widening, rates, softplus, SiLU.

Promises: fp32 in registers, base-2 exponentials only. ASM selects single instructions where the
compiler would add handling of subnormal numbers that cannot occur; the interpreter has no assembly,
so there ASM is False and the same formulas run through `tl`.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportAssignmentType=false, reportOperatorIssue=false, reportReturnType=false

import triton
import triton.language as tl


@triton.jit
def widen(x, ASM: tl.constexpr):
    """To fp32, before any change of layout.

    An ordinary widening is moved behind the layout change by the compiler, and the softplus with
    it, which then runs once per lane that holds a copy. It does not move inline assembly.
    """
    if ASM and x.dtype == tl.bfloat16:
        return tl.inline_asm_elementwise(
            "{ .reg .b16 z; mov.b16 z, 0; mov.b32 $0, {z, $1}; }",
            "=f,h",
            [x],
            dtype=tl.float32,
            is_pure=True,
            pack=1,
        )
    elif ASM and x.dtype == tl.float16:
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
def _reciprocal(x, ASM: tl.constexpr):
    if ASM:
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return 1.0 / x


@triton.jit
def softplus(x, ASM: tl.constexpr):
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), the logarithm as 2 atanh(e / (2 + e)).

    The polynomial is minimax for atanh(s) / s up to s = 1/3, relative error 4e-9. The approximate
    logarithm of the hardware is right to 2e-7 of 1 only, which a small step size would feel.
    """
    e = tl.exp2(tl.abs(x) * -1.4426950408889634)
    s = e * _reciprocal(2.0 + e, ASM)
    w = s * s
    p = 0.2817831501 * w + 0.2796060718
    p = p * w + 0.4002490997
    p = p * w + 0.6666631469
    p = p * w + 2.0
    return tl.maximum(x, 0.0) + s * p


@triton.jit
def silu(x, ASM: tl.constexpr):
    """x / (1 + e^-x)."""
    return x * _reciprocal(1.0 + tl.exp2(x * -1.4426950408889634), ASM)
