"""The Triton kernels of the decode attention: one part of the cache, and the merge of all parts.

Promises: a part behind the end of a sequence returns a weight of zero, and so does padding; the
merge adds the parts in their order, so that two runs give equal bits. Shapes and formula:
`op`.
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl

from ssmprof_kernels.device.math import COMPILED, LOG2E
from ssmprof_kernels.device.overlap import await_previous, let_next_start


class Query(NamedTuple):
    """Strides of (B,Hq,dh)."""

    b: int
    h: int
    d: int


class Cache(NamedTuple):
    """Strides of (B,Lmax,Hk,dh), or of pages."""

    b: int
    l: int
    h: int
    d: int


class Form(NamedTuple):
    """Whether the cache is cut, query heads of a KV head, widths, tokens of a page (0: no pages),
    and what is given."""

    CUT: bool
    SHARE: int
    DK: int
    DV: int
    PAGE: int
    LENGTHS: bool
    WINDOWED: bool
    SINKS: bool


class Tile(NamedTuple):
    """Powers of two that hold the query heads, the widths, and tokens of one step."""

    M: int
    DK: int
    DV: int
    N: int


@triton.jit
def _rows_of(cache_ptr, table_ptr, n, mask, steps, PAGE: tl.constexpr):
    """Addresses of cached tokens n, through the row's page table where there is one, and which of
    them are there: not masked, and in no page below 0."""
    if PAGE > 0:
        page = tl.load(table_ptr + n // PAGE, mask, -1)
        rows = cache_ptr + tl.maximum(page, 0).to(tl.int64) * steps.b
        return rows + (n % PAGE).to(tl.int64) * steps.l, page >= 0
    else:
        return cache_ptr + n.to(tl.int64) * steps.l, mask


@triton.jit
def _in_pages(table_ptr, n, mask, PAGE: tl.constexpr):
    """Which of the tokens n are in no page below 0. Read by assembly: a plain load would be
    pipelined for the scores' sake, and with it the tiles, at twice the shared memory."""
    if not COMPILED or table_ptr.dtype.element_ty != tl.int32:
        page = tl.load(table_ptr + n // PAGE, mask, -1)
    else:
        address, wanted = tl.broadcast((table_ptr + n // PAGE).to(tl.int64), mask.to(tl.int32))
        page = tl.inline_asm_elementwise(
            "{ .reg .pred p; setp.ne.b32 p, $2, 0; mov.b32 $0, -1; @p ld.global.b32 $0, [$1]; }",
            "=r,l,r", [address, wanted], dtype=tl.int32, is_pure=True, pack=1,
        )  # fmt: skip
    return page >= 0


@triton.jit
def _with_sink(sink_ptr, heads, mask, top, total):
    """By what a sink fades the sums of some heads, and their totals with it, whose largest exponent
    is then that of the sink or theirs."""
    sink = tl.load(sink_ptr + heads, mask, float("-inf")).to(tl.float32) * LOG2E
    highest = tl.maximum(top, sink)
    safe = tl.where(highest == float("-inf"), 0.0, highest)
    fade = tl.exp2(top - safe)
    return fade, total * fade + tl.exp2(sink - safe)


@triton.jit
def ssmprof_attention_split(
    q_ptr, k_ptr, v_ptr, length_ptr, table_ptr, sink_ptr, out_ptr, part_ptr, stats_ptr,
    capacity, window, heads, splits, scale, q_steps, k_steps, v_steps, table_step,
    FORM: tl.constexpr, TILE: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    """One part of one row's cache, for the query heads of one KV head."""
    # The merge may be launched now; it waits for this grid's results before it reads them.
    let_next_start(OVERLAP)
    PAGE: tl.constexpr = FORM.PAGE
    BLOCK_M: tl.constexpr = TILE.M
    BLOCK_DV: tl.constexpr = TILE.DV
    pid = tl.program_id(0)
    # Heads run fastest: programs that read neighbouring bytes of the cache start together.
    head = pid % heads
    split = (pid // heads) % splits
    row = (pid // (heads * splits)).to(tl.int64)
    end = capacity
    if FORM.LENGTHS:
        end = tl.minimum(tl.load(length_ptr + row).to(tl.int32), capacity)
    first = 0
    if FORM.WINDOWED:
        first = tl.maximum(end - window, 0)
    tiles = tl.cdiv(tl.maximum(end - first, 0), TILE.N)
    low = first + (tiles * split // splits) * TILE.N
    high = tl.minimum(first + (tiles * (split + 1) // splits) * TILE.N, end)

    m = tl.arange(0, BLOCK_M)
    dk = tl.arange(0, TILE.DK)
    dv = tl.arange(0, BLOCK_DV)
    q_head = head * FORM.SHARE + m
    q_mask = (m < FORM.SHARE)[:, None] & (dk < FORM.DK)[None, :]
    q_rows = q_ptr + row * q_steps.b + q_head.to(tl.int64)[:, None] * q_steps.h
    q = tl.load(q_rows + dk[None, :] * q_steps.d, q_mask, 0.0)
    k_base = k_ptr + head.to(tl.int64) * k_steps.h
    v_base = v_ptr + head.to(tl.int64) * v_steps.h
    if PAGE == 0:
        k_base += row * k_steps.b
        v_base += row * v_steps.b
    table = table_ptr
    if PAGE > 0:
        table += row * table_step
    if not COMPILED:
        q = q.to(tl.float32)

    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    acc = tl.zeros((BLOCK_M, BLOCK_DV), tl.float32)
    for start in range(low, high, TILE.N):
        n = start + tl.arange(0, TILE.N)
        alive = n < high
        k_rows, _ = _rows_of(k_base, table, n, alive, k_steps, PAGE)
        k_mask = alive[None, :]
        if TILE.DK != FORM.DK:
            k_mask = k_mask & (dk < FORM.DK)[:, None]
        k = tl.load(k_rows[None, :] + dk[:, None] * k_steps.d, k_mask, 0.0)
        v_rows, there = _rows_of(v_base, table, n, alive, v_steps, PAGE)
        v_mask = there[:, None]
        if BLOCK_DV != FORM.DV:
            v_mask = v_mask & (dv < FORM.DV)[None, :]
        v = tl.load(v_rows[:, None] + dv[None, :] * v_steps.d, v_mask, 0.0)
        if not COMPILED:
            k = k.to(tl.float32)
            v = v.to(tl.float32)
        s = tl.dot(q, k, input_precision="ieee") * scale
        if PAGE > 0:
            alive = _in_pages(table, n, alive, PAGE)
        s = tl.where(alive[None, :], s, float("-inf"))
        new_top = tl.maximum(top, tl.max(s, axis=1))
        # A row that is -inf so far must not turn into inf - inf.
        safe = tl.where(new_top == float("-inf"), 0.0, new_top)
        fade = tl.exp2(top - safe)
        p = tl.exp2(s - safe[:, None])
        total = total * fade + tl.sum(p, axis=1)
        acc = tl.dot(p.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
        top = new_top

    out_mask = (m < FORM.SHARE)[:, None] & (dv < FORM.DV)[None, :]
    hq = heads * FORM.SHARE
    if not FORM.CUT:
        if FORM.SINKS:
            fade, total = _with_sink(sink_ptr, q_head, m < FORM.SHARE, top, total)
            acc = acc * fade[:, None]
        acc = acc / tl.where(total == 0.0, 1.0, total)[:, None]
        rows = out_ptr + (row * hq + q_head)[:, None] * FORM.DV
        tl.store(rows + dv[None, :], acc.to(out_ptr.dtype.element_ty), out_mask)
    else:
        at = (row * hq + q_head) * splits + split
        tl.store(part_ptr + at[:, None] * FORM.DV + dv[None, :], acc, out_mask)
        tl.store(stats_ptr + at * 2, top, m < FORM.SHARE)
        tl.store(stats_ptr + at * 2 + 1, total, m < FORM.SHARE)


@triton.jit
def ssmprof_attention_merge(
    part_ptr, stats_ptr, sink_ptr, out_ptr, heads, splits, SINKS: tl.constexpr,
    DV: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_DV: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    """The parts of some columns of one query head, weighed by their sums."""
    await_previous(OVERLAP)
    COLUMNS: tl.constexpr = (DV + BLOCK_DV - 1) // BLOCK_DV
    pid = tl.program_id(0)
    at = (pid // COLUMNS).to(tl.int64)
    s = tl.arange(0, BLOCK_S)
    dv = pid % COLUMNS * BLOCK_DV + tl.arange(0, BLOCK_DV)
    alive = s < splits
    rows = at * splits + s
    top = tl.load(stats_ptr + rows * 2, alive, float("-inf"))
    total = tl.load(stats_ptr + rows * 2 + 1, alive, 0.0)
    part = tl.load(
        part_ptr + rows[:, None] * DV + dv[None, :],
        alive[:, None] & (dv < DV)[None, :], 0.0,
    )  # fmt: skip
    highest = tl.max(top, axis=0)
    weight = tl.exp2(top - tl.where(highest == float("-inf"), 0.0, highest))
    divisor = tl.sum(weight * total, axis=0)
    mixed = tl.sum(part * weight[:, None], axis=0)
    if SINKS:
        fade, divisor = _with_sink(sink_ptr, at % heads, True, highest, divisor)
        mixed = mixed * fade
    out = mixed / tl.where(divisor == 0.0, 1.0, divisor)
    tl.store(out_ptr + at * DV + dv, out.to(out_ptr.dtype.element_ty), dv < DV)
