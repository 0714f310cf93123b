"""What the kernels of Mamba-3 share: rates of a token, sines and cosines of angles in turns.

Promises: fp32 in registers, base-2 exponentials only. Angles are counted in whole turns, so that
what is left of a sum of many is found by dropping its integer part.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportArgumentType=false, reportReturnType=false, reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels.device.math import COMPILED, LOG2E, softplus

#: Slowest decay of a step of 1 (`reference.mamba3.A_FLOOR`).
A_FLOOR = tl.constexpr(1e-4)


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.exp2(x * -LOG2E))


@triton.jit
def half_tanh(x):
    """tanh(x) / 2: turns of an angle of pi tanh(x)."""
    return 0.5 - 1.0 / (1.0 + tl.exp2(x * (2.0 * LOG2E)))


@triton.jit
def rate(a):
    """Base-2 logarithm of the decay of a step of 1."""
    return -LOG2E * tl.maximum(softplus(a), A_FLOOR)


@triton.jit
def fraction(turns):
    """Between -1/2 and 1/2, the same angle."""
    return turns - tl.floor(turns + 0.5)


@triton.jit
def cos_sin(turns):
    """Of an angle between -1/2 and 1/2 turns: there the approximations are right to 2**-20."""
    angle = turns * 6.283185307179586
    if not COMPILED:
        cos = tl.cos(angle)
        sin = tl.sin(angle)
    else:
        cos, sin = tl.inline_asm_elementwise(
            "cos.approx.ftz.f32 $0, $2; sin.approx.ftz.f32 $1, $2;", "=&f,=f,f", [angle],
            dtype=(tl.float32, tl.float32), is_pure=True, pack=1,
        )  # fmt: skip
    return cos, sin


@triton.jit
def turned(x, cos, sin):
    """x (R, C), its pairs (0, 1), (2, 3) ... turned by angles (R, C / 2)."""
    even, odd = tl.split(tl.reshape(x, (x.shape[0], x.shape[1] // 2, 2)))
    both = tl.join(even * cos - odd * sin, even * sin + odd * cos)
    return tl.reshape(both, (x.shape[0], x.shape[1]))
