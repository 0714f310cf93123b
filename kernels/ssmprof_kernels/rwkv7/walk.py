"""Second launch of RWKV-7's scan: the state from chunk to chunk, and the outputs.

Promises: per chunk two products with the state and no exponential; a program owns some columns of
one head's state, which depend on no other column. What a chunk does is written by `chunks`.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels.device.matrix import dot
from ssmprof_kernels.device.segments import end_at, first_slot, zeros_from

UNSPECIALISED = ["L", "H", "S", "count"]


@triton.jit(do_not_specialize=UNSPECIALISED)
def ssmprof_scan_rwkv7_walk(
    decay_ptr, moved_ptr, added_ptr, read_ptr, out_ptr, h0_ptr, cu_ptr, y_ptr, final_ptr,
    L, H, S, count, K: tl.constexpr, V: tl.constexpr, C: tl.constexpr, BK: tl.constexpr,
    BV: tl.constexpr, BLOCK: tl.constexpr, H0: tl.constexpr, FINAL: tl.constexpr,
    VARLEN: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """BLOCK columns of the state of one sequence and head."""
    BLOCKS: tl.constexpr = (V + BLOCK - 1) // BLOCK
    pid = tl.program_id(0)
    vs = (pid % BLOCKS) * BLOCK + tl.arange(0, BLOCK)
    head = (pid // BLOCKS) % H
    seq = pid // (BLOCKS * H)
    start = 0
    length = L
    if VARLEN:
        start = end_at(cu_ptr, seq, L)
        end = end_at(cu_ptr, seq + 1, L)
        length = end - start
        if seq == count - 1:
            zeros_from(y_ptr, end, L, head, vs, H, V, C)
    rows = tl.arange(0, C)
    ks = tl.arange(0, BK)
    cells = ks[:, None] * V + vs[None, :]
    owned = (ks < K)[:, None] & (vs < V)[None, :]
    state_at = (seq * H + head).to(tl.int64) * (K * V)
    state = tl.zeros([BK, BLOCK], tl.float32)
    if H0:
        state = tl.load(h0_ptr + state_at + cells, mask=owned, other=0.0).to(tl.float32)
    place = (first_slot(seq, start, C, S, VARLEN) * H + head).to(tl.int64)
    decay_ptr += place * BK + ks
    moved_ptr += place * (BK * BK) + ks[:, None] * BK + ks[None, :]
    added_ptr += place * (BK * BV) + ks[:, None] * BV + vs[None, :]
    read_ptr += place * (C * BK) + rows[:, None] * BK + ks[None, :]
    out_ptr += place * (C * BV) + rows[:, None] * BV + vs[None, :]
    token = (seq * 0 if VARLEN else seq).to(tl.int64) * L + start
    y_ptr += (token * H + head) * V + rows[:, None].to(tl.int64) * (H * V) + vs[None, :]
    column = (vs < V)[None, :]
    step = H.to(tl.int64)
    for chunk in tl.range(0, tl.cdiv(length, C), num_stages=STAGES):
        moved = tl.load(moved_ptr)
        read = tl.load(read_ptr)
        added = tl.load(added_ptr).to(tl.float32)
        out = tl.load(out_ptr).to(tl.float32)
        decay = tl.load(decay_ptr)
        held = state.to(moved.dtype)
        state = state * decay[:, None] + added - dot(moved, held, None, PRECISION)
        y = out + dot(read, held, None, PRECISION)
        inside = (rows < length - chunk * C)[:, None]
        tl.store(y_ptr, y.to(y_ptr.dtype.element_ty), mask=inside & column)
        decay_ptr += step * BK
        moved_ptr += step * (BK * BK)
        added_ptr += step * (BK * BV)
        read_ptr += step * (C * BK)
        out_ptr += step * (C * BV)
        y_ptr += step * (C * V)
    if FINAL:
        at = final_ptr + state_at + cells
        tl.store(at, state.to(final_ptr.dtype.element_ty), mask=owned)
