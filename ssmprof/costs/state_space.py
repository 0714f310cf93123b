"""Cost of the Mamba-1 and Mamba-2 sub-layers (measurement by arXiv:2312.00752, arXiv:2405.21060).

Shape letters: B batch, L context, d model width, D inner width, H heads of width P, G groups,
N state size, Q chunk, b and s bytes per element of activations and of the state.
"""

from __future__ import annotations

import math

from ssmprof.costs.pieces import Parts, causal_conv, conv_update, gated_norm, matmul, work
from ssmprof.records import Cost, Point
from ssmprof.spec import DTYPE_BYTES, BlockSpec, StateSpec

# Chunk of the SSD scan these FLOPs are counted for: the one of this repository's kernel.
SSD_CHUNK = 64


def dt_rank(spec: BlockSpec) -> int:
    """Rank of Mamba-1's step-size projection; the published default is ceil(d / 16)."""
    assert spec.state is not None
    return spec.state.dt_rank or math.ceil(spec.d_model / 16)


def conv_channels(state: StateSpec, mixer: str) -> int:
    """Channels of the short convolution: D, and in Mamba-2 also B and C of every group."""
    return state.d_inner + (2 * state.ngroups * state.d_state if mixer == "mamba2" else 0)


def state_elements(state: StateSpec) -> int:
    """Elements of the recurrent state of one sequence: D*N, which is H*P*N."""
    return state.d_inner * state.d_state


def mamba1(spec: BlockSpec, point: Point) -> Parts:
    """Projections, convolution, selection and selective scan of one sub-layer."""
    assert spec.state is not None
    s, b, rank = spec.state, DTYPE_BYTES[point.dtype], dt_rank(spec)
    inner, states = s.d_inner, s.d_state
    tokens = point.batch * (1 if point.phase == "decode" else point.context)
    held = point.batch * state_elements(s) * DTYPE_BYTES[s.state_dtype]
    moved = tokens * (3 * inner + 2 * states) * b  # u, dt, z, B, C
    fixed = inner * (states + 2) * 4  # A, D and the bias of dt, in float32
    decode = point.phase == "decode"
    scan = work(
        flops=6 * tokens * inner * states,
        read=moved + fixed + (held if decode else 0),
        written=tokens * inner * b + held,
        exps=tokens * inner * (states + 4),
    )
    return {
        "in_proj": matmul(tokens, spec.d_model, 2 * inner, b),
        "conv": _conv(s, point, inner, b),
        "x_proj": matmul(tokens, inner, rank + 2 * states, b),
        "dt_proj": matmul(tokens, rank, inner, b),
        "scan": scan,
        "out_proj": matmul(tokens, inner, spec.d_model, b),
    }


def mamba2(spec: BlockSpec, point: Point) -> Parts:
    """Projections, convolution, SSD scan and gated norm of one sub-layer."""
    assert spec.state is not None
    s, b = spec.state, DTYPE_BYTES[point.dtype]
    channels = conv_channels(s, "mamba2")
    tokens = point.batch * (1 if point.phase == "decode" else point.context)
    parts = {
        "in_proj": matmul(tokens, spec.d_model, s.d_inner + channels + s.nheads, b),
        "conv": _conv(s, point, channels, b),
        "scan": _ssd_step(s, point, b) if point.phase == "decode" else _ssd(s, point, b),
        "out_proj": matmul(tokens, s.d_inner, spec.d_model, b),
    }
    if s.gated_norm:
        parts["norm"] = gated_norm(tokens, s.d_inner, b)
    return parts


def _conv(s: StateSpec, point: Point, channels: int, b: int) -> Cost:
    if point.phase == "decode":
        return conv_update(point.batch, channels, s.d_conv, b)
    return causal_conv(point.batch * point.context, channels, s.d_conv, b)


def _moved(s: StateSpec, tokens: int, b: int) -> tuple[int, int, int]:
    """Bytes read and written per call without the state, and exps of a gate inside the scan."""
    gate = 0 if s.gated_norm else 1
    read = tokens * ((1 + gate) * s.d_inner + 2 * s.ngroups * s.d_state + s.nheads) * b
    return read + 3 * s.nheads * 4, tokens * s.d_inner * b, gate * 2 * tokens * s.d_inner


def _ssd(s: StateSpec, point: Point, b: int) -> Cost:
    """Chunked: scores within a chunk (their causal half), chunk states, and their use."""
    tokens, chunk = point.batch * point.context, min(SSD_CHUNK, point.context)
    inner, states = s.d_inner, s.d_state
    read, written, gate = _moved(s, tokens, b)
    per_token = (
        4 * states * inner + chunk * inner + chunk * states * s.ngroups + 2 * states * inner / chunk
    )
    return work(
        flops=tokens * per_token,
        read=read,
        written=written + point.batch * state_elements(s) * DTYPE_BYTES[s.state_dtype],
        exps=tokens * s.nheads * (chunk / 2 + 3) + gate,
    )


def _ssd_step(s: StateSpec, point: Point, b: int) -> Cost:
    """One token: the state is read, decayed, added to, used and written back."""
    read, written, gate = _moved(s, point.batch, b)
    held = point.batch * state_elements(s) * DTYPE_BYTES[s.state_dtype]
    return work(
        flops=5 * point.batch * state_elements(s),
        read=read + held,
        written=written + held,
        exps=3 * point.batch * s.nheads + gate,
    )
