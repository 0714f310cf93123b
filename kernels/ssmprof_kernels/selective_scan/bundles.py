"""What both kernels of the Mamba-1 scan take: pointers, strides, the form and the blocks."""

from __future__ import annotations

from typing import Any, NamedTuple


class Given(NamedTuple):
    """What the caller gave."""

    u: Any
    dt: Any
    A: Any
    B: Any
    C: Any
    D: Any
    z: Any
    bias: Any
    h0: Any
    cu: Any


class Parts(NamedTuple):
    """Of each segment but the last: its end state from a zero start, the sum of its step sizes."""

    ends: Any
    sums: Any


class Tokens(NamedTuple):
    """Strides of (B,L,D)."""

    b: int
    t: int
    d: int


class Rates(NamedTuple):
    """Strides of A (D,N)."""

    d: int
    n: int


class Groups(NamedTuple):
    """Strides of B or C (B,L,G,N)."""

    b: int
    t: int
    g: int
    n: int


class States(NamedTuple):
    """Strides of a state (B,D,N)."""

    b: int
    d: int
    n: int


class Form(NamedTuple):
    """What is given or wanted, and how the step size is formed."""

    D: bool
    Z: bool
    BIAS: bool
    SOFTPLUS: bool
    H0: bool
    HT: bool
    VARLEN: bool


class Shape(NamedTuple):
    """States, and whether channels and states are whole tiles. WORDS: pairs of 16-bit neighbours of
    u, dt, z, and of B, C, travel as one; TIME: tokens, not channels, are contiguous in u, dt, z,
    and in B, C; PACKED: B and C travel as one word of two halves."""

    N: int
    EVEN_D: bool
    EVEN_N: bool
    X_WORDS: bool
    BC_WORDS: bool
    X_TIME: bool
    BC_TIME: bool
    PACKED: bool


class Block(NamedTuple):
    """Tokens at once, channels of a program, lanes of a channel, states of a lane, blocks whose
    inputs are on their way, segments of a sequence. SUMMARY: of a sequence in segments the first of
    two launches gives each one's `Parts`."""

    T: int
    D: int
    LANES: int
    REGS: int
    AHEAD: int
    SEGMENTS: int
    SUMMARY: bool
