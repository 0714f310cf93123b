"""First launch of the Mamba-2 scan: exponents of all chunks, and C B^T of all chunks and groups.

Promises: knows no state, so that all its programs are independent.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from ssmprof_kernels.device.math import LOG2E, finite_rate
from ssmprof_kernels.device.overlap import let_next_start
from ssmprof_kernels.device.segments import UNSPECIALISED, locate
from ssmprof_kernels.ssd.parts import breaks, delta_of, log_decay_of, source_of


@triton.jit
def _add_or_begin(begun, a, begins, b):
    return begun | begins, tl.where(begins != 0, b, a + b)


@triton.jit
def pair_up(
    b_ref, c_ref, pairs_ptr, index, cu_ptr, count, steps, L, H, PER_GROUP, N, K, S,
    Q: tl.constexpr, VARLEN: tl.constexpr,
):  # fmt: skip
    """C B^T of one chunk and group, which all heads of the group share."""
    groups = H // PER_GROUP
    group = index % groups
    chunk = (index // groups) % K
    slot = index // (groups * K)
    seq, start, length, first = locate(slot, cu_ptr, count, steps, L, K * Q, S, VARLEN)
    begin = (slot - first) * K * Q + chunk * Q
    if begin < length:
        row = ((seq * 0 if VARLEN else seq) * L + start + begin).to(tl.int32)
        pairs = tl.dot(c_ref.load([row, group * N]), tl.trans(b_ref.load([row, group * N])))
        cell = tl.arange(0, Q)[:, None] * Q + tl.arange(0, Q)[None, :]
        at = pairs_ptr + index.to(tl.int64) * (Q * Q) + cell
        tl.store(at, pairs.to(pairs_ptr.dtype.element_ty))


@triton.jit(do_not_specialize=UNSPECIALISED)
def ssmprof_scan_ssd_prepare(
    b_ref, c_ref, pairs_ptr, dt_ptr, a_ptr, bias_ptr, cu_ptr, seq_ptr, decays_ptr, sources_ptr,
    logs_ptr, L, H, PER_GROUP, N, K, S, count, steps, tasks, dt_min, dt_max, dt_steps, seq_steps,
    Q: tl.constexpr, HEADS: tl.constexpr, PAIRED: tl.constexpr, DELTA: tl.constexpr,
    CUT: tl.constexpr,
):  # fmt: skip
    """The part of the scan that knows no state: exponents of one chunk for `HEADS` heads; and if
    PAIRED, `tasks` programs before them form C B^T of one chunk and group."""
    VARLEN: tl.constexpr = CUT.VARLEN
    T = K * Q
    let_next_start(CUT.PDL)
    pid = tl.program_id(0)
    if PAIRED:
        if pid < tasks:
            pair_up(b_ref, c_ref, pairs_ptr, pid, cu_ptr, count, steps, L, H, PER_GROUP, N, K, S,
                    Q, VARLEN)  # fmt: skip
            return
        pid -= tasks
    blocks = tl.cdiv(H, HEADS)
    heads = (pid % blocks) * HEADS + tl.arange(0, HEADS)
    chunks = T // Q
    chunk = (pid // blocks) % chunks
    slot = pid // (blocks * chunks)
    seq, start, length, first = locate(slot, cu_ptr, count, steps, L, T, S, VARLEN)
    begin = (slot - first) * T + chunk * Q
    if begin >= length:
        return
    entry = (seq * 0 if VARLEN else seq).to(tl.int64)
    rows = tl.arange(0, Q)
    mine = heads < H
    inside = rows < length - begin
    valid = inside[:, None] & mine[None, :]
    at = dt_ptr + entry * dt_steps.b + (start + begin).to(tl.int64) * dt_steps.l
    raw = tl.load(
        at + rows[:, None] * dt_steps.l + heads[None, :] * dt_steps.h, mask=valid, other=0.0
    )
    a2 = finite_rate(tl.load(a_ptr + heads, mask=mine, other=0.0).to(tl.float32) * LOG2E)
    bias = tl.zeros((HEADS,), tl.float32)
    if DELTA.BIAS:
        bias = tl.load(bias_ptr + heads, mask=mine, other=0.0).to(tl.float32)
    if CUT.SEQ_IDX:
        token = (start + begin + rows).to(tl.int64)
        change, real = breaks(seq_ptr + entry * seq_steps.b, token, seq_steps.l, start, inside)
        valid = valid & real[:, None]
    delta = delta_of(raw, bias[None, :], valid, dt_min, dt_max, DELTA)
    a = log_decay_of(delta, a2[None, :])
    log_decay = a
    if CUT.SEQ_IDX:
        # From the start of its document on, so that what is not finite in one stays there.
        begins = change[:, None] + tl.zeros_like(a).to(tl.int32)
        _, a = tl.associative_scan((begins, a), 0, _add_or_begin)
    else:
        a = tl.cumsum(a, 0)
    out = (slot * H + heads).to(tl.int64)[None, :] * T + (chunk * Q + rows)[:, None]
    if DELTA.EXACT:
        tl.store(logs_ptr + out, log_decay, mask=mine[None, :])
    tl.store(decays_ptr + out, a, mask=mine[None, :])
    tl.store(sources_ptr + out, source_of(a, delta, DELTA.APART), mask=mine[None, :])
