"""Segment summaries of the Mamba-2 scan for Hopper, its asynchronous units driven by hand.

Promises: the results of `summaries` behind `prepare`, for 16-bit tiles
that tensor-memory descriptors can fetch; that kernel is its twin everywhere else.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportAssignmentType=false, reportOperatorIssue=false

from __future__ import annotations

import torch
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    async_copy,
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from ssmprof_kernels.device.math import exp2
from ssmprof_kernels.device.matrix import largest, log2_unit, unit_of
from ssmprof_kernels.device.overlap import await_previous, let_next_start
from ssmprof_kernels.device.segments import UNSPECIALISED
from ssmprof_kernels.ssd.hopper_parts import fetch_pair
from ssmprof_kernels.ssd.parts import place_of


def matrix(t: Tensor, rows: int, columns: int) -> TensorDescriptor:
    """Descriptor of (B, L, G, N) seen as (B L, G N), in tiles of rows x columns."""
    batch, length, groups, states = t.shape
    dtype = gl.bfloat16 if t.dtype == torch.bfloat16 else gl.float16
    layout = gl.NVMMASharedLayout.get_default_for([rows, columns], dtype)
    shape, strides = [batch * length, groups * states], [t.stride(1), 1]
    return TensorDescriptor(t, shape, strides, [rows, columns], layout)


@gluon.jit(do_not_specialize=UNSPECIALISED)
def ssmprof_scan_ssd_summaries_hopper(
    x_desc, b_desc, cu_ptr, made, L, H, PER_GROUP, P, N, K, S, count, steps, Q: gl.constexpr,
    BP: gl.constexpr, BN: gl.constexpr, STAGES: gl.constexpr, CUT: gl.constexpr,
    num_warps: gl.constexpr,
):  # fmt: skip
    """`summaries` behind `prepare`; STAGES tiles are in flight."""
    STATE: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, BN, 16])
    LEFT: gl.constexpr = gl.DotOperandLayout(0, STATE, 2)
    dtype: gl.constexpr = x_desc.dtype
    HALF: gl.constexpr = dtype == gl.float16
    # Every warp holds the whole chunk, so that the largest of it needs no barrier.
    CHUNK: gl.constexpr = gl.BlockedLayout([Q // 32], [32], [num_warps], [0])
    T = K * Q
    let_next_start(CUT.PDL)
    await_previous(CUT.PDL)
    pid = gl.program_id(0)
    place = place_of(pid, cu_ptr, count, steps, L, H, P, T, S, BP, CUT.VARLEN)
    block = place.block
    head = place.head
    # The walk writes the end state of the last segment, if anybody wants it.
    if place.begin + T >= place.length:
        return
    row = (place.batch * L + place.start + place.begin).to(gl.int32)
    column = (head // PER_GROUP) * N
    x_column = head * P + block * BP
    xs = gl.allocate_shared_memory(dtype, [STAGES, Q, BP], x_desc.layout)
    bs = gl.allocate_shared_memory(dtype, [STAGES, Q, BN], b_desc.layout)
    plain: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    ss = gl.allocate_shared_memory(gl.float32, [STAGES, Q], plain)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=1)
    fence_async_shared()
    gl.thread_barrier()
    at = (place.slot * H + head).to(gl.int64)
    decays = made.decays + at * T
    sources = made.sources + at * T
    line: gl.constexpr = gl.BlockedLayout([1], [32], [num_warps], [0])
    tokens = gl.arange(0, Q, layout=line)
    # Walking backwards keeps the sum of all later exponents at hand, so the accumulator is never
    # rescaled and the products of a segment are one long chain on the matrix units.
    for i in gl.static_range(STAGES - 1):
        c = K - 1 - i
        fetch_pair(x_desc, b_desc, sources + gl.maximum(c, 0) * Q + tokens, row + c * Q,
                   x_column, column, xs.index(i), bs.index(i), ss.index(i), full.index(i),
                    c >= 0)  # fmt: skip
    total = gl.load(decays + T - 1)
    acc = gl.zeros([BP, BN], gl.float32, layout=STATE)
    after = 0.0
    if HALF:
        # It grows with the largest weight so far, beside which smaller ones count for less.
        unit, _ = unit_of(after)
    stage = 0
    phase = 0
    for i in range(K):
        c = K - 1 - i
        async_copy.wait_group(STAGES - 2)
        mbarrier.wait(full.index(stage), phase)
        # Every warp has left the tiles of the step before, which come next.
        gl.thread_barrier()
        ahead = c - (STAGES - 1)
        into = gl.where(stage == 0, STAGES - 1, stage - 1)
        fetch_pair(x_desc, b_desc, sources + gl.maximum(ahead, 0) * Q + tokens, row + ahead * Q,
                    x_column, column, xs.index(into), bs.index(into), ss.index(into),
                    full.index(into), ahead >= 0)  # fmt: skip
        total_next = gl.load(decays + gl.maximum(c, 1) * Q - 1)
        rest = after + total
        if HALF:
            weights = exp2(rest - ss.index(stage).load(CHUNK))
            fresh, per_fresh = unit_of(largest(weights))
            if fresh > unit:
                acc = acc * (unit * per_fresh)
                unit = fresh
            rest -= log2_unit(unit)
        w = exp2(rest - ss.index(stage).load(gl.SliceLayout(0, LEFT)))
        xt = xs.index(stage).permute((1, 0)).load(LEFT)
        acc = warpgroup_mma(
            (xt.to(gl.float32) * w[None, :]).to(dtype), bs.index(stage), acc, is_async=True
        )
        after += total
        total = total_next
        acc = warpgroup_mma_wait(0, deps=(acc,))
        last = stage == STAGES - 1
        phase = gl.where(last, phase ^ 1, phase)
        stage = gl.where(last, 0, stage + 1)
    if HALF:
        acc = acc * unit
    hp = block * BP + gl.arange(0, BP, layout=gl.SliceLayout(1, STATE))
    hn = gl.arange(0, BN, layout=gl.SliceLayout(0, STATE))
    gl.store(made.ends + at * P * N + hp[:, None] * N + hn[None, :], acc)
    if block == 0:
        gl.store(made.totals + at, after)
