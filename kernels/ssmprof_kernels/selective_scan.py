"""`selective_scan`: the Mamba-1 scan over a whole prompt (prefill), in one launch.

Promises: bad input is refused with one ValueError before the launch; strides and lengths are free;
no host synchronisation and no scratch, so that a call can be captured in a CUDA graph. CPU tensors
take the plain torch form, unless Triton's interpreter is switched on (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import triton
from torch import Tensor

from ssmprof_kernels import door, launch, reference
from ssmprof_kernels.selective_scan_kernel import selective_scan_kernel

try:
    from ssmprof_kernels.selective_scan_gluon import selective_scan_gluon_kernel
except ImportError:
    selective_scan_gluon_kernel = None

_MAX_STATES = 256
#: Inline assembly is for the compiler; the interpreter has none.
_ASM = not door.interpreted()
#: Gluon changes between minor versions of Triton; elsewhere the twin serves every configuration.
_GLUON = _ASM and triton.__version__.startswith("3.6.") and selective_scan_gluon_kernel is not None
#: Number of sequences by the shapes, dtypes and devices of a call that passed all checks.
_accepted: dict[tuple[Any, ...], int] = {}


def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`h_t = exp(d_t A) h_{t-1} + d_t u_t B_t`, `y_t = <h_t, C_t>` (arXiv:2312.00752, section 3).

    `d = softplus(dt + dt_bias)`; then `y += D u`, then `y *= silu(z)`.

    Args:
        u: (B, L, D), fp32, fp16 or bf16; any strides, channel-first among them.
        dt: (B, L, D).
        A: (D, N), real, negative for a decay; N up to 256.
        B, C: (B, L, N) or (B, L, G, N); channel d reads group d // (D / G).
        D: (D). z: (B, L, D). dt_bias: (D).
        initial_state: (B, D, N), or (n, D, N) with `cu_seqlens`; zeros if None.
        return_final_state: True for the fp32 state after the last token, a dtype for that dtype.
        cu_seqlens: (n + 1) int32 on the device of u, ascending from 0 to L; the batch must be 1.
            Empty sequences are allowed and return their initial state.

    Returns:
        y (B, L, D) in the dtype and the stride order of u, or (y, final state (B or n, D, N)).

    Raises:
        ValueError: an argument's shape, dtype or device does not fit.
    """
    if B.dim() == 3:
        B = B.unsqueeze(2)
    if C.dim() == 3:
        C = C.unsqueeze(2)
    tensors = (u, dt, A, B, C, D, z, dt_bias, initial_state, cu_seqlens)
    # Checks cost more than the launch; what was accepted once is accepted again.
    signature = tuple([None if t is None else (t.shape, t.dtype, t.device) for t in tensors])
    sequences = _accepted.get(signature)
    if sequences is None:
        sequences = _accepted[signature] = _check(*tensors)
    if not u.is_cuda and _ASM:
        return reference.selective_scan(
            u,
            dt,
            A,
            B,
            C,
            D=D,
            z=z,
            dt_bias=dt_bias,
            dt_softplus=dt_softplus,
            initial_state=initial_state,
            return_final_state=return_final_state,
            cu_seqlens=cu_seqlens,
        )
    y = torch.empty_like(u)
    final = None
    if return_final_state is not False:
        dtype = torch.float32 if return_final_state is True else return_final_state
        final = torch.empty((sequences, *A.shape), dtype=dtype, device=u.device)
    args = (u, dt, A, B, C, D, z, dt_bias, dt_softplus, initial_state, cu_seqlens, y, final)
    if u.is_cuda and u.device.index != torch.cuda.current_device():
        with torch.cuda.device(u.device):
            _run(sequences, *args)
    else:
        _run(sequences, *args)
    return y if final is None else (y, final)


@functools.lru_cache(1024)
def bucket(sequences: int, channels: int, states: int, bits: int, device: torch.device) -> str:
    """Table key: bits of an activation, padded state size, channels per multiprocessor."""
    # One program of 32 lanes per 32 channels is the widest layout that exists.
    fill = launch.fill_bucket(sequences * channels // 32, launch.facts(device).sm_count)
    return f"{bits}b-n{_power_of_two(states)}-{fill}"


@functools.lru_cache(1024)
def default(states: int, fill: str) -> dict[str, Any]:
    """Blocks for a shape that no table knows: many lanes per channel while channels are few."""
    padded = _power_of_two(states)
    lanes = {"p0.5": 8, "p1": 8, "p2": 8, "p4": 4, "pmore": 4}[fill]
    lanes = min(padded, max(lanes, padded // 8))
    regs = padded // lanes
    tokens = max(4, min(max(8, lanes), 64 // regs))
    return {"BLOCK_T": tokens, "LANES": lanes, "AHEAD": 2, "num_warps": 1}


def _run(
    sequences: int,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
    h0: Tensor | None,
    cu_seqlens: Tensor | None,
    y: Tensor,
    final: Tensor | None,
) -> None:
    length, channels = u.shape[1:]
    groups, states = B.shape[2:]
    key = bucket(sequences, channels, states, u.element_size() * 8, u.device)
    preset = default(states, key.rpartition("-")[2])
    meta = launch.pick("selective_scan", key, u.device, preset).meta
    lanes = meta["LANES"]
    warps = meta["num_warps"]
    block_d = 32 * warps // lanes
    per_group = channels // groups
    tiles = -(-per_group // block_d)
    grid = (sequences * groups * tiles,)
    # Pairs of 16-bit numbers as words, where each lane then still has its own.
    wide = _ASM and per_group % block_d == 0 and block_d * meta["BLOCK_T"] >= 64 * warps
    x_words = wide and _in_words(u) and _in_words(dt) and (z is None or _in_words(z))
    bc_words = _ASM and _power_of_two(states) == states > 1 and _in_words(B) and _in_words(C)
    zero3 = (0, 0, 0)
    kernel = selective_scan_kernel
    if meta.get("GLUON") and _GLUON:
        kernel = selective_scan_gluon_kernel
    kernel[grid](
        u,
        dt,
        A,
        B,
        C,
        D,
        z,
        dt_bias,
        h0,
        final,
        y,
        cu_seqlens,
        length,
        per_group,
        groups,
        tiles,
        *u.stride(),
        *dt.stride(),
        *A.stride(),
        *B.stride(),
        *C.stride(),
        *(zero3 if z is None else z.stride()),
        *(zero3 if h0 is None else h0.stride()),
        *y.stride(),
        HAS_D=D is not None,
        HAS_Z=z is not None,
        HAS_BIAS=dt_bias is not None,
        SOFTPLUS=bool(dt_softplus),
        HAS_H0=h0 is not None,
        HAS_HT=final is not None,
        VARLEN=cu_seqlens is not None,
        ASM=_ASM,
        N=states,
        EVEN_D=per_group % block_d == 0,
        EVEN_N=_power_of_two(states) == states,
        BLOCK_T=meta["BLOCK_T"],
        BLOCK_D=block_d,
        LANES=lanes,
        REGS=_power_of_two(states) // lanes,
        AHEAD=meta["AHEAD"],
        X_WORDS=x_words,
        BC_WORDS=bc_words,
        num_warps=warps,
        enable_fp_fusion=True,
    )


def _in_words(t: Tensor) -> bool:
    """True if pairs of neighbours in the last axis are aligned 32-bit words."""
    *outer, last = t.stride()
    return (
        t.element_size() == 2
        and last == 1
        and not any(stride % 2 for stride in outer)
        and t.data_ptr() % 4 == 0
    )


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _check(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    h0: Tensor | None,
    cu_seqlens: Tensor | None,
) -> int:
    """Number of sequences; ValueError for the first argument that does not fit."""
    if u.dim() != 3 or min(u.shape) < 1:
        raise ValueError(
            f"u must have shape (B, L, D) with every size at least 1, got {tuple(u.shape)}"
        )
    batch, length, channels = u.shape
    if A.dim() != 2 or A.shape[0] != channels or not 1 <= A.shape[1] <= _MAX_STATES:
        raise ValueError(
            f"A must have shape (D, N) = ({channels}, 1..{_MAX_STATES}), got {tuple(A.shape)}"
        )
    states = A.shape[1]
    groups = B.shape[2] if B.dim() == 4 else 0
    if groups < 1 or channels % groups:
        raise ValueError(
            f"B must have shape (B, L, N) or (B, L, G, N) with G a divisor of {channels}, "
            f"got {tuple(B.shape)}"
        )
    sequences = batch if cu_seqlens is None else door.cu_seqlens(cu_seqlens, batch)
    for name, tensor, shape, letters in (
        ("u", u, u.shape, "(B,L,D)"),
        ("dt", dt, u.shape, "(B,L,D)"),
        ("A", A, A.shape, "(D,N)"),
        ("B", B, (batch, length, groups, states), "(B,L,G,N)"),
        ("C", C, B.shape, "(B,L,G,N)"),
        ("D", D, (channels,), "(D)"),
        ("z", z, u.shape, "(B,L,D)"),
        ("dt_bias", dt_bias, (channels,), "(D)"),
        ("initial_state", h0, (sequences, channels, states), "(sequences,D,N)"),
    ):
        if tensor is not None:
            door.shape(name, tensor, shape, letters)
            door.dtype(name, tensor, door.FLOATS)
    door.same_device(
        u, dt=dt, A=A, B=B, C=C, D=D, z=z, dt_bias=dt_bias, initial_state=h0, cu_seqlens=cu_seqlens
    )
    return sequences
