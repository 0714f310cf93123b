"""The arguments of the Mamba-3 scan and step: what is wrong with them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ssmprof_kernels import door
from ssmprof_kernels.reference.mamba3 import Weights

MOST_STATES, MOST_RANKS = 256, 16
NAMES = (
    *("q", "k", "v", "a", "dt", "trap", "angles", "z", "initial_state"),
    *(f"weights.{name}" for name in Weights._fields),
)


def scan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    dt: Tensor,
    trap: Tensor,
    angles: Tensor,
    weights: Weights,
    z: Tensor | None,
    state: Tensor | None,
) -> None:
    """ValueError for the first argument that does not fit; shapes as in `mamba3_scan`."""
    if v.dim() != 4 or min(v.shape) < 1:
        raise ValueError(
            f"v must have shape (B, L, H, P), every size at least 1, got {tuple(v.shape)}"
        )
    if q.dim() != 5 or q.shape[:2] != v.shape[:2]:
        raise ValueError(
            f"q must have shape (B, L, R, G, N) with B, L = {tuple(v.shape[:2])}, "
            f"got {tuple(q.shape)}"
        )
    batch, length, heads, width = v.shape
    rank, groups, states = q.shape[2:]
    if groups < 1 or heads % groups or not 2 <= states <= MOST_STATES:
        raise ValueError(
            f"q must have shape (B, L, R, G, N) with G a divisor of {heads} and N in "
            f"2..{MOST_STATES}, got {tuple(q.shape)}"
        )
    if not 1 <= rank <= MOST_RANKS:
        raise ValueError(f"q has {rank} ranks, expected 1..{MOST_RANKS}")
    if angles.dim() != 3 or angles.shape[:2] != v.shape[:2] or 2 * angles.shape[2] > states:
        raise ValueError(
            f"angles must have shape (B, L, S) = ({batch}, {length}, at most {states // 2}), "
            f"got {tuple(angles.shape)}"
        )
    size = heads * (width * states + rank * states + width)
    biases, matrices = (heads, rank, states), (heads, rank, width)
    expected = {
        "k": (k, tuple(q.shape), "(B,L,R,G,N)"),
        "a": (a, (batch, length, heads), "(B,L,H)"),
        "dt": (dt, (batch, length, heads), "(B,L,H)"),
        "trap": (trap, (batch, length, heads), "(B,L,H)"),
        "z": (z, tuple(v.shape), "(B,L,H,P)"),
        "initial_state": (state, (batch, size), "(B,HPN+HRN+HP)"),
        "weights.dt_bias": (weights.dt_bias, (heads,), "(H)"),
        "weights.q_bias": (weights.q_bias, biases, "(H,R,N)"),
        "weights.k_bias": (weights.k_bias, biases, "(H,R,N)"),
        "weights.D": (weights.D, (heads,), "(H)"),
        "weights.mimo_v": (weights.mimo_v, matrices, "(H,R,P)"),
        "weights.mimo_z": (weights.mimo_z, matrices, "(H,R,P)"),
        "weights.mimo_out": (weights.mimo_out, matrices, "(H,R,P)"),
    }
    for name, (tensor, shape, letters) in expected.items():
        if tensor is not None:
            door.shape(name, tensor, shape, letters)
            door.same_device(v, **{name: tensor})
    door.same_device(v, q=q, angles=angles)
    if v.is_cuda:
        door.dtype("v", v, door.FLOATS)
        door.dtype("q", q, (v.dtype,))
        door.dtype("k", k, (v.dtype,))


def completed(weights: Weights, width: int, gated: bool) -> Weights:
    """Contiguous, and with ones for a matrix of ranks that is missing and will be read."""
    found: dict[str, Any] = weights._asdict()
    if weights.q_bias.shape[1] > 1 or any(m is not None for m in weights[4:]):
        like = weights.D.expand(width, -1).transpose(0, 1)
        for name in ("mimo_v", "mimo_z") if gated else ("mimo_v",):
            found[name] = weights.ranks(name, like)
    whole: dict[str, Any] = {n: None if t is None else t.contiguous() for n, t in found.items()}
    return Weights(**whole)
