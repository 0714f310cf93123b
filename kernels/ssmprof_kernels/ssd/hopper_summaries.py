"""Segment summaries of the Mamba-2 scan for Hopper, its asynchronous units driven by hand.

Promises: the results of `summaries._summaries` behind `prepare._prepare`, for 16-bit tiles
that tensor-memory descriptors can fetch; that kernel is its twin everywhere else.
"""

# The language of kernels is read by Triton, not by Python.
# pyright: reportArgumentType=false, reportAssignmentType=false

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

from ssmprof_kernels.ssd import parts as ssd_parts
from ssmprof_kernels.ssd.hopper_parts import (
    _await_previous,
    _exp2,
    _fetch_pair,
    _largest,
    _let_next_start,
    _locate,
    _log2_unit,
    _unit,
)


def matrix(t: Tensor, rows: int, columns: int) -> TensorDescriptor:
    """Descriptor of (B, L, G, N) seen as (B L, G N), in tiles of rows x columns."""
    batch, length, groups, states = t.shape
    dtype = gl.bfloat16 if t.dtype == torch.bfloat16 else gl.float16
    layout = gl.NVMMASharedLayout.get_default_for([rows, columns], dtype)
    shape, strides = [batch * length, groups * states], [t.stride(1), 1]
    return TensorDescriptor(t, shape, strides, [rows, columns], layout)


@gluon.jit(do_not_specialize=ssd_parts.UNSPECIALISED)
def _summaries(
    x_desc, b_desc, cu_ptr, decays_ptr, sources_ptr, state_ptr, decay_ptr, L, H, PER_GROUP, P, N,
    K, S, count, steps, Q: gl.constexpr, BP: gl.constexpr, BN: gl.constexpr, STAGES: gl.constexpr,
    VARLEN: gl.constexpr, PDL: gl.constexpr, num_warps: gl.constexpr,
):  # fmt: skip
    """`summaries._summaries` behind `prepare._prepare`."""
    STATE: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [num_warps, 1], [16, BN, 16])
    LEFT: gl.constexpr = gl.DotOperandLayout(0, STATE, 2)
    dtype: gl.constexpr = x_desc.dtype
    HALF: gl.constexpr = dtype == gl.float16
    # Every warp holds the whole chunk, so that the largest of it needs no barrier.
    CHUNK: gl.constexpr = gl.BlockedLayout([Q // 32], [32], [num_warps], [0])
    T = K * Q
    _let_next_start(PDL)
    _await_previous(PDL)
    pid = gl.program_id(0)
    blocks = gl.cdiv(P, BP)
    block = pid % blocks
    head = (pid // blocks) % H
    slot = pid // (blocks * H)
    seq, start, length, first = _locate(slot, cu_ptr, count, steps, L, T, S, VARLEN)
    begin = (slot - first) * T
    # The walk writes the end state of the last segment, if anybody wants it.
    if begin + T >= length:
        return
    batch = seq * 0 if VARLEN else seq
    row = (batch * L + start + begin).to(gl.int32)
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
    at = (slot * H + head).to(gl.int64)
    decays = decays_ptr + at * T
    sources = sources_ptr + at * T
    line: gl.constexpr = gl.BlockedLayout([1], [32], [num_warps], [0])
    tokens = gl.arange(0, Q, layout=line)
    # Walking backwards keeps the sum of all later exponents at hand, so the accumulator is never
    # rescaled and the products of a segment are one long chain on the matrix units.
    for i in gl.static_range(STAGES - 1):
        c = K - 1 - i
        _fetch_pair(x_desc, b_desc, sources + gl.maximum(c, 0) * Q + tokens, row + c * Q,
                    x_column, column, xs.index(i), bs.index(i), ss.index(i), full.index(i),
                    c >= 0)  # fmt: skip
    total = gl.load(decays + T - 1)
    acc = gl.zeros([BP, BN], gl.float32, layout=STATE)
    after = 0.0
    if HALF:
        # It grows with the largest weight so far, beside which smaller ones count for less.
        unit, _ = _unit(after)
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
        _fetch_pair(x_desc, b_desc, sources + gl.maximum(ahead, 0) * Q + tokens, row + ahead * Q,
                    x_column, column, xs.index(into), bs.index(into), ss.index(into),
                    full.index(into), ahead >= 0)  # fmt: skip
        total_next = gl.load(decays + gl.maximum(c, 1) * Q - 1)
        rest = after + total
        if HALF:
            weights = _exp2(rest - ss.index(stage).load(CHUNK))
            fresh, per_fresh = _unit(_largest(weights))
            if fresh > unit:
                acc = acc * (unit * per_fresh)
                unit = fresh
            rest -= _log2_unit(unit)
        w = _exp2(rest - ss.index(stage).load(gl.SliceLayout(0, LEFT)))
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
    gl.store(state_ptr + at * P * N + hp[:, None] * N + hn[None, :], acc)
    if block == 0:
        gl.store(decay_ptr + at, after)
