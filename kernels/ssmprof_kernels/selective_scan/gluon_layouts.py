"""How tiles of `gluon_kernel` lie in registers and in shared memory."""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportAssignmentType=false

from typing import Any, NamedTuple

from triton.experimental import gluon
from triton.experimental.gluon import language as gl


class Layouts(NamedTuple):
    """`FULL` is (BLOCK_T, REGS, BLOCK_D, LANES), time and REGS states in registers; `X` and `RAW`
    are u, dt, z and B, C as loaded; the others are theirs in shared memory."""

    FULL: Any
    X: Any
    RAW: Any
    X_SHARED: Any
    BC_SHARED: Any


@gluon.constexpr_function
def layouts(shape, block):
    """For these shapes and blocks. As loaded, neighbouring lanes lie along whichever axis is
    contiguous in memory; shared, tokens are, four to a 16-byte word, rows rotated over the banks.
    """
    lanes, regs = block.LANES, block.REGS
    warps = block.D * lanes // 32
    full = gl.BlockedLayout(
        [block.T, regs, 1, 1], [1, 1, 32 // lanes, lanes], [1, 1, warps, 1], [3, 2, 1, 0]
    )

    def loaded(time, inner):
        if time:
            return gl.BlockedLayout([1, 1], [tokens, 32 // tokens], [1, warps], [0, 1])
        return gl.BlockedLayout([1, 1], [32 // inner, inner], [warps, 1], [1, 0])

    tokens = min(32, block.T)
    x = loaded(shape.X_TIME, min(32, block.D))
    raw = loaded(shape.BC_TIME, min(32, lanes * regs))
    rows, phases = max(1, 32 // block.T), max(1, min(8, block.T // 4))
    x_shared = gl.SwizzledSharedLayout(4, rows, phases, [0, 1])
    bc_shared = gl.SwizzledSharedLayout(4, rows, phases, [0, 2, 1])
    if regs >= 4:
        bc_shared = gl.SwizzledSharedLayout(1, 1, 1, [1, 2, 0])
    return Layouts(full, x, raw, x_shared, bc_shared)


@gluon.jit
def buffers(LAYOUTS: gl.constexpr, SHAPE: gl.constexpr, BLOCK: gl.constexpr):
    """Shared memory of two blocks in turn: step sizes, their products with u, y, B and C."""
    X_SHARED: gl.constexpr = LAYOUTS.X_SHARED
    BC_SHARED: gl.constexpr = LAYOUTS.BC_SHARED
    BC_TYPE: gl.constexpr = gl.int32 if SHAPE.PACKED else gl.float32
    s_delta = (
        gl.allocate_shared_memory(gl.float32, [BLOCK.T, BLOCK.D], X_SHARED),
        gl.allocate_shared_memory(gl.float32, [BLOCK.T, BLOCK.D], X_SHARED),
    )
    s_du = (
        gl.allocate_shared_memory(gl.float32, [BLOCK.T, BLOCK.D], X_SHARED),
        gl.allocate_shared_memory(gl.float32, [BLOCK.T, BLOCK.D], X_SHARED),
    )
    s_y = s_du
    if not BLOCK.SUMMARY:
        s_y = (
            gl.allocate_shared_memory(gl.float32, [BLOCK.T, BLOCK.D], X_SHARED),
            gl.allocate_shared_memory(gl.float32, [BLOCK.T, BLOCK.D], X_SHARED),
        )
    s_B = (
        gl.allocate_shared_memory(BC_TYPE, [BLOCK.T, BLOCK.REGS, BLOCK.LANES], BC_SHARED),
        gl.allocate_shared_memory(BC_TYPE, [BLOCK.T, BLOCK.REGS, BLOCK.LANES], BC_SHARED),
    )
    s_C = s_B
    if not BLOCK.SUMMARY and not SHAPE.PACKED:
        s_C = (
            gl.allocate_shared_memory(BC_TYPE, [BLOCK.T, BLOCK.REGS, BLOCK.LANES], BC_SHARED),
            gl.allocate_shared_memory(BC_TYPE, [BLOCK.T, BLOCK.REGS, BLOCK.LANES], BC_SHARED),
        )
    return s_delta, s_du, s_y, s_B, s_C
