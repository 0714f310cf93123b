"""`ssd_scan`: the Mamba-2 scan over a whole prompt (prefill), in one to three launches.

Promises: bad input is refused with one ValueError before any launch; strides and lengths are free;
no host synchronisation, so that a call can be captured in a CUDA graph. CPU tensors take the plain
torch form, unless Triton's interpreter is switched on (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

import math
import os
from typing import Any

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ssmprof_kernels import launch, reference, ssd_kernels, ssd_plan

if triton.__version__.startswith("3.6."):
    from ssmprof_kernels import ssd_gluon
else:
    # Gluon changes between versions; the twin in plain Triton serves those not tested.
    ssd_gluon = None

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def ssd_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, math.inf),
    initial_state: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    cu_seqlens: Tensor | None = None,
    seq_idx: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`h_t = exp(d_t A) h_{t-1} + d_t x_t (x) B_t`, `y_t = h_t C_t` (arXiv:2405.21060).

    `d = clamp(softplus(dt + dt_bias), *dt_limit)`; then `y += D x`, then `y *= silu(z)`.

    Args:
        x: (B, L, H, P), fp32, fp16 or bf16; any strides.
        dt: (B, L, H).
        A: (H), negative for a decay.
        B, C: (B, L, G, N) of the dtype of x; head h reads group h // (H / G).
        D: (H) or (H, P). z: (B, L, H, P). dt_bias: (H).
        dt_limit: bounds of the step size.
        initial_state: (B, H, P, N), or (n, H, P, N) with `cu_seqlens`; zeros if None.
        return_final_state: True for the fp32 state after the last token, a dtype for that dtype.
        cu_seqlens: (n + 1) int32 on the device of x, ascending from 0 to L; B must be 1. Empty
            sequences are allowed and return their initial state.
        seq_idx: (B, L) int32; the state is forgotten where the id changes.

    Returns:
        y (B, L, H, P) in the dtype of x, or (y, final state).

    Raises:
        ValueError: an argument's shape, dtype or device does not fit.
    """
    sequences = _check(x, dt, A, B, C, D, z, dt_bias, initial_state, cu_seqlens, seq_idx)
    if not x.is_cuda and not _interpreted():
        return reference.ssd_scan(
            x,
            dt,
            A,
            B,
            C,
            D=D,
            z=z,
            dt_bias=dt_bias,
            dt_softplus=dt_softplus,
            dt_limit=dt_limit,
            initial_state=initial_state,
            return_final_state=return_final_state,
            cu_seqlens=cu_seqlens,
            seq_idx=seq_idx,
        )
    meta = ssd_plan.choose(x.shape, B.shape[3], x.dtype, x.device).meta
    final = None
    if return_final_state is not False:
        dtype = torch.float32 if return_final_state is True else return_final_state
        final = torch.empty((sequences, *x.shape[2:], B.shape[3]), dtype=dtype, device=x.device)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.is_cuda and x.device.index != torch.cuda.current_device():
        with torch.cuda.device(x.device):
            _run(x, dt, A, B, C, D, z, dt_bias, dt_softplus, dt_limit, initial_state, cu_seqlens,
                 seq_idx, y, final, sequences, meta)  # fmt: skip
    else:
        _run(x, dt, A, B, C, D, z, dt_bias, dt_softplus, dt_limit, initial_state, cu_seqlens,
             seq_idx, y, final, sequences, meta)  # fmt: skip
    return y if final is None else (y, final)


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def _run(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
    dt_limit: tuple[float, float],
    h0: Tensor | None,
    cu_seqlens: Tensor | None,
    seq_idx: Tensor | None,
    y: Tensor,
    final: Tensor | None,
    sequences: int,
    meta: dict[str, Any],
) -> None:
    batch, length, heads, width = x.shape
    groups, states = B.shape[2:]
    facts = launch.facts(x.device)
    packed = None if cu_seqlens is None else sequences
    cut = ssd_plan.plan(batch, length, heads, width, packed, meta, facts.sm_count)
    Q, BP, BN = meta["Q"], min(meta["BP"], ssd_plan.tile(width)), ssd_plan.tile(states)
    blocks = -(-width // BP)
    A, D, dt_bias, h0 = (
        t if t is None or t.is_contiguous() else t.contiguous() for t in (A, D, dt_bias, h0)
    )
    low, high = (float(v) for v in dt_limit)
    even_p, even_n = width % BP == 0, states == BN
    interpret = not x.is_cuda
    tiles: tuple[Any, ...] = (x, B, C)
    tma = even_p and even_n and meta["tma"] and facts.sm >= 90 and all(map(_is_matrix, tiles))
    if tma:
        tiles = (_matrix(x, [Q, BP]), _matrix(B, [Q, BN]), _matrix(C, [Q, BN]))
    f32 = {"dtype": torch.float32, "device": x.device}
    decays = torch.empty((cut.slots, heads, cut.T), **f32)
    sources = torch.empty_like(decays)
    apart = x.dtype == torch.float32 or (low < 0.0 and not dt_softplus)
    exponents: dict[str, Any] = {
        "SOFTPLUS": bool(dt_softplus),
        "CLAMP": low > (0.0 if dt_softplus else -math.inf) or high < math.inf,
        "APART": apart,
        "BIAS": dt_bias is not None,
        "VARLEN": cu_seqlens is not None,
    }
    shared: dict[str, Any] = {
        "Q": Q,
        "BP": BP,
        "BN": BN,
        "EVEN_P": even_p,
        "EVEN_N": even_n,
        "SEQ_IDX": seq_idx is not None,
        "TMA": tma,
        "PRECISION": "tf32x3" if x.dtype == torch.float32 else "tf32",
        "INTERPRET": interpret,
    }
    options = {} if interpret else {"enable_fp_fusion": True}
    seq_strides = (0, 0) if seq_idx is None else seq_idx.stride()
    places = (cut.T // Q, cut.S, sequences, sequences.bit_length())
    sizes = (length, heads, heads // groups, width, states, *places)
    prepared = cut.segments == 0 or meta["prepare"]
    if prepared:
        grid = cut.slots * (cut.T // Q) * -(-heads // 16)
        ssd_kernels._prepare[(grid,)](
            dt, A, dt_bias, cu_seqlens, decays, sources, length, heads, *places, low, high,
            *dt.stride(), Q=Q, HEADS=16, num_warps=4, **exponents, **options,
        )  # fmt: skip
    state = decay = None
    if cut.segments:
        state = torch.empty((cut.slots, heads, width, states), **f32)
        decay = torch.empty((cut.slots, heads), **f32)
        R = 1 if seq_idx is not None else math.gcd(cut.T // Q, meta["sum_chunks"])
        pair = (x, B)
        if tma:
            pair = (_matrix(x, [R * Q, BP]), _matrix(B, [R * Q, BN]))
        ssd_kernels._summaries[(cut.slots * heads * blocks,)](
            pair[0], dt, A, pair[1], dt_bias, cu_seqlens, seq_idx, decays, sources, state, decay,
            *sizes, low, high, *x.stride(), *dt.stride(), *B.stride(), *seq_strides,
            R=R, PREPARED=prepared, num_warps=meta["sum_warps"], num_stages=meta["sum_stages"],
            **exponents, **shared, **options,
        )  # fmt: skip
        if cut.segments == 2:
            size = width * states
            block = min(1024, triton.next_power_of_2(size))
            ssd_kernels._combine[(sequences * heads * -(-size // block),)](
                state, decay, h0, cu_seqlens, length, heads, size, cut.T // Q, cut.S,
                Q=Q, BLOCK=block, H0=h0 is not None, VARLEN=cu_seqlens is not None, num_warps=4,
                **options,
            )  # fmt: skip
    z_strides = (0, 0, 0, 0) if z is None else z.stride()
    variants: dict[str, Any] = {
        "Q": Q,
        "BP": BP,
        "BN": BN,
        "VARLEN": cu_seqlens is not None,
        "SKIP": 0 if D is None else D.dim(),
        "GATE": z is not None,
        "H0": h0 is not None,
        "FINAL": final is not None,
        "SEGMENTS": cut.segments,
    }
    grid = (cut.slots * heads * blocks,)
    if (
        tma
        and meta["gluon"]
        and Q == 64
        and not apart
        and seq_idx is None
        and ssd_gluon is not None
    ):
        ssd_gluon._walk[grid](
            ssd_gluon.matrix(x, Q, BP), ssd_gluon.matrix(B, Q, BN), ssd_gluon.matrix(C, Q, BN),
            D, z, h0, cu_seqlens, decays, sources, state, decay, y, final, *sizes, *z_strides,
            num_warps=4, **variants, **options,
        )  # fmt: skip
        return
    ssd_kernels._walk[grid](
        *tiles, D, z, h0, cu_seqlens, seq_idx, decays, sources, state, decay, y, final, *sizes,
        *x.stride(), *B.stride(), *C.stride(), *z_strides, *seq_strides,
        APART=apart, EVEN_P=even_p, EVEN_N=even_n, SEQ_IDX=seq_idx is not None, TMA=tma,
        PRECISION=shared["PRECISION"], INTERPRET=interpret,
        num_warps=meta["num_warps"], num_stages=meta["num_stages"], **variants, **options,
    )  # fmt: skip


def _is_matrix(t: Tensor) -> bool:
    """Whether (B, L, G, N) is a plain matrix (B L, G N) that a tensor-memory descriptor takes."""
    batch, length, groups, _ = t.shape
    row = t.stride(1)
    return (
        t.stride(3) == 1
        and (groups == 1 or t.stride(2) == t.shape[3])
        and (batch == 1 or t.stride(0) == length * row)
        and row * t.element_size() % 16 == 0
        and t.data_ptr() % 16 == 0
    )


def _matrix(t: Tensor, block: list[int]) -> TensorDescriptor:
    batch, length, groups, states = t.shape
    return TensorDescriptor(t, [batch * length, groups * states], [t.stride(1), 1], block)


def _check(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    h0: Tensor | None,
    cu_seqlens: Tensor | None,
    seq_idx: Tensor | None,
) -> int:
    """Number of sequences; ValueError for the first argument that does not fit."""
    if x.dim() != 4 or min(x.shape[0], *x.shape[1:]) < 1:
        raise _misfit("x", "(B, L, H, P) with every size at least 1", x)
    if x.dtype not in _DTYPES:
        raise ValueError(f"ssd_scan: x must be float32, float16 or bfloat16, got {x.dtype}")
    batch, length, heads, width = x.shape
    if B.dim() != 4 or B.shape[:2] != x.shape[:2]:
        raise _misfit("B", f"({batch}, {length}, G, N)", B)
    groups, states = B.shape[2:]
    if groups < 1 or heads % groups or not 1 <= states <= 256:
        raise _misfit("B", f"(B, L, G, N) with G a divisor of {heads} and N in 1..256", B)
    sequences = batch
    if cu_seqlens is not None:
        if cu_seqlens.dim() != 1 or len(cu_seqlens) < 2 or cu_seqlens.dtype != torch.int32:
            raise _misfit("cu_seqlens", "(n + 1) of int32", cu_seqlens)
        if batch != 1:
            raise _misfit("x", f"(1, {length}, {heads}, {width}) beside cu_seqlens", x)
        sequences = len(cu_seqlens) - 1
    for name, t, shapes in (
        ("dt", dt, ((batch, length, heads),)),
        ("A", A, ((heads,),)),
        ("C", C, (B.shape,)),
        ("D", D, ((heads,), (heads, width))),
        ("z", z, (x.shape,)),
        ("dt_bias", dt_bias, ((heads,),)),
        ("initial_state", h0, ((sequences, heads, width, states),)),
        ("seq_idx", seq_idx, ((batch, length),)),
    ):
        if t is not None and tuple(t.shape) not in shapes:
            raise _misfit(name, " or ".join(str(tuple(s)) for s in shapes), t)
    for name, t in (("B", B), ("C", C)):
        if t.dtype != x.dtype:
            raise ValueError(f"ssd_scan: {name} must have the dtype of x, {x.dtype}; got {t.dtype}")
    for name, t in (
        ("dt", dt),
        ("A", A),
        ("B", B),
        ("C", C),
        ("D", D),
        ("z", z),
        ("dt_bias", dt_bias),
        ("initial_state", h0),
        ("cu_seqlens", cu_seqlens),
        ("seq_idx", seq_idx),
    ):
        if t is not None and t.device != x.device:
            raise ValueError(f"ssd_scan: {name} is on {t.device}, expected {x.device} as x")
    return sequences


def _misfit(name: str, expected: str, given: Tensor) -> ValueError:
    return ValueError(
        f"ssd_scan: {name} must have shape {expected}, got {tuple(given.shape)} of {given.dtype}"
    )
