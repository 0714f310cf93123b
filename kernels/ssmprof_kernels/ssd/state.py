"""The state before a segment; the walk token by token that keeps what is not finite in place.

Promises: written so that plain Triton and Gluon kernels can both be built from it.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

# `tl.sum` in the form that Gluon kernels can share, and that the interpreter knows by name.
from triton.language.standard import _sum_combine

from ssmprof_kernels.device.math import LOG2E


class Sizes(NamedTuple):
    """Tokens of a row, heads, heads of a group, width, states, tokens of a segment."""

    L: Any
    H: Any
    PER_GROUP: Any
    P: Any
    N: Any
    T: Any


class Steps(NamedTuple):
    """Strides of what has tokens."""

    x: Any
    b: Any
    c: Any
    z: Any
    seq: Any


class Cells(NamedTuple):
    """Of a block of a state: rows, the same to form addresses with, columns, where each cell lies
    in memory, whether it exists."""

    p: Any
    far: Any
    n: Any
    at: Any
    owned: Any


@triton.jit
def _state_at(ptr, at, cells, owned, MASK: tl.constexpr):
    if MASK:
        h = tl.load(ptr + at + cells, mask=owned, other=0.0)
    else:
        h = tl.load(ptr + at + cells)
    return h


@triton.jit
def start_state(h, state_ptr, decay_ptr, h0_ptr, cells, owned, seq, first, segment, head, H, SIZE,
           H0: tl.constexpr, SEGMENTS: tl.constexpr, MASK: tl.constexpr):  # fmt: skip
    """State before a segment; `h` is zero and gives the layout. SEGMENTS as in `parts.Out`."""
    if H0 and SEGMENTS != 2:
        at = (seq * H + head).to(tl.int64) * SIZE
        h = _state_at(h0_ptr, at, cells, owned, MASK).to(tl.float32)
    if SEGMENTS == 1:
        for s in range(segment):
            at = ((first + s) * H + head).to(tl.int64)
            decay = tl.load(decay_ptr + at)
            h = tl.where(decay == -float("inf"), 0.0, h * tl.exp2(decay))
            h += _state_at(state_ptr, at * SIZE, cells, owned, MASK)
    if SEGMENTS == 2:
        if segment > 0:
            at = ((first + segment - 1) * H + head).to(tl.int64)
            h = _state_at(state_ptr, at * SIZE, cells, owned, MASK)
        elif H0:
            at = (seq * H + head).to(tl.int64) * SIZE
            h = _state_at(h0_ptr, at, cells, owned, MASK).to(tl.float32)
    return h


@triton.jit
def is_finite(h):
    """Whether all of a state is: whatever is not finite in x, B or dt has reached it."""
    odd = tl.where(h - h == 0.0, 0, 1)
    return tl.reduce(tl.reduce(odd, 1, _sum_combine), 0, _sum_combine) == 0


class Cursor(NamedTuple):
    """Addresses of the first token of a segment: of a block's rows, a group's states, one head."""

    x: Any
    b: Any
    c: Any
    d: Any
    z: Any
    y: Any
    seq: Any
    decays: Any
    sources: Any


class Strides(NamedTuple):
    """From token to token."""

    x: Any
    b: Any
    c: Any
    z: Any
    seq: Any
    y: Any


@triton.jit
def retrace(
    h, at, by, p_in, n_in, tokens, earlier, Q: tl.constexpr, SKIP: tl.constexpr,
    GATE: tl.constexpr, SEQ_IDX: tl.constexpr, APART: tl.constexpr,
):  # fmt: skip
    """A segment token by token, from its start state `h`: what a chunk's products would smear to
    earlier tokens, as 0 * NaN, here stays where the recurrence has it. `at` is a `Cursor`, `by` the
    `Strides`; `earlier`: the segment is not the first of its sequence."""
    x_at = at.x
    b_at = at.b
    c_at = at.c
    z_at = at.z
    y_at = at.y
    seq_at = at.seq
    i = tokens * 0
    before = 0.0
    for _ in range(tokens):
        a = tl.load(at.decays + i)
        source = tl.load(at.sources + i)
        delta = source if APART else tl.exp2(a - source)
        h = h * tl.exp2(a - tl.where(i % Q == 0, 0.0, before))
        p_real = p_in
        n_real = n_in
        if SEQ_IDX:
            inner = (i > 0) | earlier
            here = tl.load(seq_at)
            old = tl.load(seq_at - by.seq, mask=inner, other=0)
            h = tl.where(inner & (here != old) & (here >= 0), 0.0, h)
            seq_at += by.seq
            p_real = p_in & (here >= 0)
            n_real = n_in & (here >= 0)
        x = tl.load(x_at, mask=p_real, other=0.0).to(tl.float32)
        b = tl.load(b_at, mask=n_real, other=0.0).to(tl.float32)
        c = tl.load(c_at, mask=n_in, other=0.0).to(tl.float32)
        h += (x * delta)[:, None] * b[None, :]
        y = tl.reduce(h * c[None, :], 1, _sum_combine)
        if SKIP == 1:
            y += x * tl.load(at.d).to(tl.float32)
        if SKIP == 2:
            y += x * tl.load(at.d, mask=p_in, other=0.0).to(tl.float32)
        if GATE:
            z = tl.load(z_at, mask=p_in, other=0.0).to(tl.float32)
            y = y * z / (1.0 + tl.exp2(-z * LOG2E))
            z_at += by.z
        if SEQ_IDX:
            y = tl.where(here >= 0, y, 0.0)
        tl.store(y_at, y.to(y_at.dtype.element_ty), mask=p_in)
        x_at += by.x
        b_at += by.b
        c_at += by.c
        y_at += by.y
        before = a
        i += 1
    return h


@triton.jit
def state_before(h, given, made, place, cells, sizes, OUT: tl.constexpr, MASK: tl.constexpr):
    """`start_state` of a program's segment."""
    return start_state(
        h, made.ends, made.totals, given.h0, cells.at, cells.owned, place.seq, place.first,
        place.slot - place.first, place.head, sizes.H, sizes.P * sizes.N, OUT.H0, OUT.SEGMENTS,
        MASK,
    )  # fmt: skip


@triton.jit
def walk_again(
    nothing, given, made, y_ptr, place, cells, steps, sizes, Q: tl.constexpr, OUT: tl.constexpr,
    SEQ_IDX: tl.constexpr, APART: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    """`retrace` a program's segment: y, and the state at its end."""
    head = place.head
    x = steps.x
    b = steps.b
    c = steps.c
    z = steps.z
    p = cells.far
    n = cells.n
    H = sizes.H
    entry = place.batch.to(tl.int64)
    token = (place.start + place.begin).to(tl.int64)
    far = head.to(tl.int64)
    group = head // sizes.PER_GROUP
    d_at = given.d
    z_at = given.z
    seq_at = given.seq
    if OUT.SKIP == 1:
        d_at += head
    if OUT.SKIP == 2:
        d_at += head * sizes.P + cells.p
    if OUT.GATE:
        z_at += entry * z.b + token * z.l + far * z.h + p * z.p
    if SEQ_IDX:
        seq_at += entry * steps.seq.b + token * steps.seq.l
    h = state_before(nothing, given, made, place, cells, sizes, OUT, MASK)
    at = Cursor(
        given.x + entry * x.b + token * x.l + far * x.h + p * x.p,
        given.b + entry * b.b + token * b.l + group * b.g + n * b.n,
        given.c + entry * c.b + token * c.l + group * c.g + n * c.n,
        d_at, z_at, y_ptr + ((entry * sizes.L + token) * H + head) * sizes.P + p, seq_at,
        made.decays + (place.slot * H + head).to(tl.int64) * sizes.T,
        made.sources + (place.slot * H + head).to(tl.int64) * sizes.T,
    )  # fmt: skip
    by = Strides(x.l, b.l, c.l, z.l, steps.seq.l if SEQ_IDX else 0, H * sizes.P)
    tokens = tl.minimum(place.length - place.begin, sizes.T)
    earlier = place.slot - place.first > 0
    return retrace(
        h, at, by, cells.p < sizes.P, n < sizes.N, tokens, earlier, Q, OUT.SKIP, OUT.GATE,
        SEQ_IDX, APART,
    )  # fmt: skip
