"""Between the summaries of segments and the walk: the state that each segment really ends with.

In place: E of segment i becomes E_i + A_i E_(i-1), one segment after the other.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

import triton
import triton.language as tl

from ssmprof_kernels.gated_delta.parts import UNSPECIALISED, end_at


@triton.jit(do_not_specialize=UNSPECIALISED)
def ssmprof_scan_delta_combine(
    ends_ptr, cu_ptr, L, H, T, S, VP: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr,
    BM: tl.constexpr, VARLEN: tl.constexpr,
):  # fmt: skip
    """BR columns of the state of one head of one sequence; A in BM rows at a time."""
    ROWS: tl.constexpr = VP + BK
    pid = tl.program_id(0)
    block = pid % (VP // BR)
    head = (pid // (VP // BR)) % H
    seq = pid // (VP // BR * H)
    first = seq * S
    length = L
    if VARLEN:
        start = end_at(cu_ptr, seq, L)
        length = end_at(cu_ptr, seq + 1, L) - start
        first = start // T + seq
    r = block * BR + tl.arange(0, BR)
    n = tl.arange(0, BK)
    m = tl.arange(0, BM)
    at = ends_ptr + (first.to(tl.int64) * H + head) * (ROWS * BK)
    step = H.to(tl.int64) * (ROWS * BK)
    # The last segment has no summary: nothing follows it.
    for _ in range(2, tl.cdiv(length, T)):
        tl.debug_barrier()
        mine = at + step + r[:, None] * BK + n[None, :]
        end = tl.load(mine)
        for part in range(0, BK, BM):
            before = tl.load(at + r[:, None] * BK + part + m[None, :])
            led = tl.load(at + step + (VP + part + m[:, None]) * BK + n[None, :])
            end = tl.dot(before, led, end, input_precision="tf32x3")
        tl.store(mine, end)
        at += step
