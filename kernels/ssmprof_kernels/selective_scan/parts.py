"""What both kernels of the Mamba-1 scan do alike: which tokens a program works on, where they are,
the state before them.

Promises: written so that plain Triton and Gluon kernels can both be built from it.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from ssmprof_kernels.device.math import LOG2E, finite_rate


class Place(NamedTuple):
    """What a program works on: a tile of channels of a group; a segment of a row or a packed
    sequence, its first token and length; of a packed sequence also its end."""

    tile: Any
    segment: Any
    group: Any
    row: Any
    begin: Any
    length: Any
    end: Any


class Steps(NamedTuple):
    """Strides of all that has tokens."""

    u: Any
    dt: Any
    z: Any
    B: Any
    C: Any
    y: Any


class Start(NamedTuple):
    """Addresses of a segment's first token. Where there is no z, u stands in its place."""

    u: Any
    dt: Any
    z: Any
    B: Any
    C: Any
    y: Any


class Cells(NamedTuple):
    """Of each lane's states: channel, index, whether there is such a channel, such a state."""

    d: Any
    n: Any
    real: Any
    inside: Any


@triton.jit
def place_of(pid, cu_ptr, L, G, TILES, SPAN, PARTS: tl.constexpr, VARLEN: tl.constexpr):
    """The `Place` of a program; tiles run fastest, then the PARTS of a row, then groups."""
    tile = pid % TILES
    segment = (pid // TILES) % PARTS
    group = (pid // (TILES * PARTS)) % G
    row = (pid // (TILES * PARTS * G)).to(tl.int64)
    if VARLEN:
        # What ends behind the tokens there are ends with them.
        begin = tl.minimum(tl.load(cu_ptr + row), L).to(tl.int64)
        end = tl.minimum(tl.load(cu_ptr + row + 1), L)
        length = (end - begin).to(tl.int32)
    else:
        begin = (segment * SPAN).to(tl.int64)
        length = tl.minimum(L - segment * SPAN, SPAN)
        end = length
    return Place(tile, segment, group, row, begin, length, end)


@triton.jit
def start_of(given, y_ptr, place, by, FORM: tl.constexpr):
    """The `Start` of a program's segment; `by` are the `Steps`."""
    u_ptr = given.u
    dt_ptr = given.dt
    B_ptr = given.B
    C_ptr = given.C
    z_ptr = given.z if FORM.Z else given.u
    if not FORM.VARLEN:
        u_ptr += place.row * by.u.b
        dt_ptr += place.row * by.dt.b
        B_ptr += place.row * by.B.b
        C_ptr += place.row * by.C.b
        y_ptr += place.row * by.y.b
        if FORM.Z:
            z_ptr += place.row * by.z.b
    u_ptr += place.begin * by.u.t
    dt_ptr += place.begin * by.dt.t
    B_ptr += place.begin * by.B.t
    C_ptr += place.begin * by.C.t
    y_ptr += place.begin * by.y.t
    if FORM.Z:
        z_ptr += place.begin * by.z.t
    return Start(u_ptr, dt_ptr, z_ptr, B_ptr, C_ptr, y_ptr)


@triton.jit
def rates(a_ptr, cells, steps):
    """Base-2 exponents of the decay in a step of size 1, by state."""
    at = a_ptr + cells.d * steps.d + cells.n * steps.n
    A2 = tl.load(at, mask=cells.inside, other=0.0).to(tl.float32)
    return finite_rate(A2 * LOG2E)


@triton.jit
def start_state(
    h, A2, h0_ptr, parts, place, cells, steps, G, DG, FORM: tl.constexpr, N: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """State before a segment; `h` is zero and gives the layout."""
    if FORM.H0:
        at = h0_ptr + place.row * steps.b + cells.d * steps.d + cells.n * steps.n
        h = tl.load(at, mask=cells.inside, other=0.0).to(tl.float32)
    if not BLOCK.SUMMARY:
        for s in tl.static_range(BLOCK.SEGMENTS - 1):
            # All loads can be in flight at once; a segment that is not before this one is no step.
            at = (place.row * (BLOCK.SEGMENTS - 1) + s) * G * DG + cells.d
            past = cells.real & (s < place.segment)
            sums = tl.load(parts.sums + at, mask=past, other=0.0)
            ends = tl.load(parts.ends + at * N + cells.n, mask=cells.inside & past, other=0.0)
            h = tl.fma(tl.exp2(sums * A2), h, ends)
    return h
