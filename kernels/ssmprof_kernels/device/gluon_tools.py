"""Device functions of Gluon kernels: loads that stay in flight, halves of words, sums over lanes.

Promises: fp32 in registers. Inline assembly stands where the compiler would wait, add handling of
numbers that cannot occur, or use twice the instructions. Formulas are those of `device.math`.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportAssignmentType=false, reportOperatorIssue=false, reportReturnType=false

import triton
from triton.experimental import gluon
from triton.experimental.gluon import language as gl


@triton.constexpr_function
def transposing_sum(tokens, lanes):
    """PTX and constraints: `tokens` values per lane in, sums over `lanes` neighbouring lanes out.

    Output k (k < tokens / lanes) of lane l is the sum for token k * lanes + l; the rest is 0.
    """
    body = ["{ .reg .b32 lane, bit, send, keep, got;", "mov.u32 lane, %laneid;"]
    body += [f".reg .b32 v{i}; mov.b32 v{i}, ${tokens + i};" for i in range(tokens)]
    mask = lanes // 2
    while mask:
        body.append(f".reg .pred p{mask}; and.b32 bit, lane, {mask}; setp.ne.b32 p{mask}, bit, 0;")
        for first in range(0, tokens, lanes):
            for j in range(first, first + mask):
                body.append(
                    f"selp.b32 send, v{j}, v{j + mask}, p{mask};"
                    f"selp.b32 keep, v{j + mask}, v{j}, p{mask};"
                    f"shfl.sync.bfly.b32 got, send, {mask}, 31, -1;"
                    f"add.f32 v{j}, keep, got;"
                )
        mask //= 2
    groups = tokens // lanes
    body += [f"mov.b32 ${i}, v{i * lanes};" for i in range(groups)]
    body += [f"mov.b32 ${i}, 0;" for i in range(groups, tokens)]
    return "\n".join([*body, "}"])


@triton.constexpr_function
def transposing_constraints(tokens):
    return ",".join(["=f"] * tokens + ["f"] * tokens)


@gluon.jit
def halves(word, like: gl.constexpr):
    """int32 words of two 16-bit floats to fp32: low half, high half."""
    if like == gl.bfloat16:
        return gl.inline_asm_elementwise(
            "shl.b32 $0, $2, 16; and.b32 $1, $2, 0xffff0000;",
            "=f,=f,r", [word], dtype=(gl.float32, gl.float32), is_pure=True, pack=1,
        )  # fmt: skip
    else:
        return gl.inline_asm_elementwise(
            "{ .reg .b16 l, h; mov.b32 {l, h}, $2; cvt.f32.f16 $0, l; cvt.f32.f16 $1, h; }",
            "=f,=f,r", [word], dtype=(gl.float32, gl.float32), is_pure=True, pack=1,
        )  # fmt: skip


@gluon.jit
def get(ptrs, mask):
    """Load; 16-bit numbers into the low half of an int32, 0 where masked.

    In a register of its own a number can stay in flight. The compiler keeps two 16-bit ones in one
    register, and putting them there waits for both.
    """
    if ptrs.dtype.element_ty.primitive_bitwidth == 16:
        address, mask = gl.broadcast(ptrs.to(gl.int64), mask.to(gl.int32))
        return gl.inline_asm_elementwise(
            "{ .reg .pred p; setp.ne.b32 p, $2, 0; mov.b32 $0, 0; @p ld.global.u16 $0, [$1]; }",
            "=r,l,r", [address, mask], dtype=gl.int32, is_pure=False, pack=1,
        )  # fmt: skip
    else:
        return gl.load(ptrs, mask=mask, other=0.0)


@gluon.jit
def widen(raw, like: gl.constexpr):
    """What `get` loaded, in fp32; `like` is the dtype in memory."""
    if like == gl.bfloat16:
        return (raw << 16).to(gl.float32, bitcast=True)
    elif like == gl.float16:
        return gl.inline_asm_elementwise(
            "{ .reg .b16 l, h; mov.b32 {l, h}, $1; cvt.f32.f16 $0, l; }",
            "=f,r", [raw], dtype=gl.float32, is_pure=True, pack=1,
        )  # fmt: skip
    else:
        return raw
