"""`ssd_scan`: the Mamba-2 scan over a whole prompt (prefill), in one to three launches.

Promises: bad input is refused with one ValueError before any launch; strides and lengths are free;
no host synchronisation, so that a call can be captured in a CUDA graph. CPU tensors take the plain
torch form, unless Triton's interpreter is switched on (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

import functools
import math
import os
from typing import Any

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ssmprof_kernels import launch, reference, replay, ssd_kernels, ssd_plan

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
    final = None
    if return_final_state is not False:
        dtype = torch.float32 if return_final_state is True else return_final_state
        final = torch.empty((sequences, *x.shape[2:], B.shape[3]), dtype=dtype, device=x.device)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not (A.is_contiguous() and (initial_state is None or initial_state.is_contiguous())):
        A, initial_state = (t if t is None else t.contiguous() for t in (A, initial_state))
    D, dt_bias = (t if t is None or t.is_contiguous() else t.contiguous() for t in (D, dt_bias))
    tensors = (x, dt, A, B, C, D, z, dt_bias, initial_state, cu_seqlens, seq_idx, y, final)
    meta = ssd_plan.choose(x.shape, B.shape[3], x.dtype, x.device).meta
    key = (replay.facts_of(tensors), dt_softplus, dt_limit, x.device, id(meta))
    known = _recordings.get(key)
    if known is None:
        if len(_recordings) >= _MOST_RECORDINGS:
            _recordings.clear()
        recording = _record(tensors, sequences, dt_softplus, dt_limit, meta)
        # The table is kept with the recording, so that its id stays its own.
        known = _recordings[key] = (recording, meta)
    if x.is_cuda and x.device.index != torch.cuda.current_device():
        with torch.cuda.device(x.device):
            known[0].run(tensors, x.device)
    else:
        known[0].run(tensors, x.device)
    return y if final is None else (y, final)


#: Recorded launches by everything a compiled kernel may depend on; a sweep uses a few dozen.
_recordings: dict[Any, tuple[replay.Recording, dict[str, Any]]] = {}
_MOST_RECORDINGS = 2048
_NAMES = ("x", "dt", "A", "B", "C", "D", "z", "bias", "h0", "cu", "seq", "y", "final")


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def _record(
    tensors: tuple[Tensor | None, ...],
    sequences: int,
    dt_softplus: bool,
    dt_limit: tuple[float, float],
    meta: dict[str, Any],
) -> replay.Recording:
    """Choose kernels, tiles and segments; `tensors` in the order of `_NAMES`."""
    given = dict(zip(_NAMES, tensors, strict=True))
    x, B, C, D = tensors[0], tensors[3], tensors[4], tensors[5]
    assert x is not None
    assert B is not None
    assert C is not None
    batch, length, heads, width = x.shape
    groups, states = B.shape[2:]
    facts = launch.facts(x.device)
    packed = None if given["cu"] is None else sequences
    cut = ssd_plan.plan(batch, length, heads, width, packed, meta, facts.sm_count)
    Q, BP, BN = meta["Q"], min(meta["BP"], ssd_plan.tile(width)), ssd_plan.tile(states)
    blocks = -(-width // BP)
    low, high = (float(v) for v in dt_limit)
    even_p, even_n = width % BP == 0, states == BN
    interpret = not x.is_cuda
    tma = even_p and even_n and meta["tma"] and facts.sm >= 90
    tma = tma and all(_is_matrix(t) for t in (x, B, C))
    apart = x.dtype == torch.float32 or (low < 0.0 and not dt_softplus)
    seq_idx = given["seq"] is not None
    driven = (
        ssd_gluon is not None
        and facts.sm == 90
        and tma
        and meta["gluon"]
        and facts.sm == 90  # its matrix instructions exist on Hopper alone
        and Q == 64
        and not apart
        and not seq_idx
        and BP == 64
        and 32 <= BN <= 128
    )
    # fmt: off
    ref = {name: replay.Arg(i) for i, name in enumerate(_NAMES)}
    sizes = {
        "L": length, "H": heads, "PER_GROUP": heads // groups, "P": width, "N": states,
        "K": cut.T // Q, "S": cut.S, "count": sequences, "steps": sequences.bit_length(),
    }
    place = {name: sizes[name] for name in ("L", "H", "K", "S", "count", "steps")}
    limits = {"dt_min": low, "dt_max": high}
    strides: dict[str, dict[str, int]] = {}
    for name, letters in (("x", "blhp"), ("dt", "blh"), ("B", "blgn"), ("C", "blgn"),
                          ("z", "blhp"), ("seq", "bl")):
        t = given[name]
        steps = (0,) * len(letters) if t is None else t.stride()
        strides[name] = {
            f"{name.lower()}_s{a}": s for a, s in zip(letters, steps, strict=True)
        }
    pdl = bool(meta["pdl"] and facts.sm >= 90)
    varlen = {"VARLEN": given["cu"] is not None, "PDL": pdl}
    delta = {
        "SOFTPLUS": bool(dt_softplus), "APART": apart, "BIAS": given["bias"] is not None,
        "CLAMP": low > (0.0 if dt_softplus else -math.inf) or high < math.inf, **varlen,
    }
    tiles = {
        "Q": Q, "BP": BP, "BN": BN, "EVEN_P": even_p, "EVEN_N": even_n, "SEQ_IDX": seq_idx,
        "TMA": tma, "PRECISION": "tf32x3" if x.dtype == torch.float32 else "tf32",
        "INTERPRET": interpret,
    }

    def views(rows: int, make: Any) -> tuple[Any, Any, Any]:
        if not tma:
            return ref["x"], ref["B"], ref["C"]
        return tuple(  # type: ignore[return-value]
            replay.View(_NAMES.index(name), functools.partial(make, rows=rows, columns=columns))
            for name, columns in (("x", BP), ("B", BN), ("C", BN))
        )

    def options(warps: int, stages: int = 3, *, follows: bool = True) -> dict[str, Any]:
        if interpret:
            return {"num_warps": warps, "num_stages": stages}
        early = {"launch_pdl": True} if pdl and follows else {}
        return {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True, **early}

    rec = replay.Recording(len(tensors))
    exponents = {
        "decays_ptr": rec.work(cut.slots, heads, cut.T),
        "sources_ptr": rec.work(cut.slots, heads, cut.T),
    }
    states_at: dict[str, Any] = {"state_ptr": None, "decay_ptr": None}
    prepared = cut.segments == 0 or meta["prepare"]
    tasks, paired = 0, {"tasks": 0, "PAIRED": driven, "pairs_ptr": None}
    if driven:
        tasks = cut.slots * (cut.T // Q) * groups
        pairs = rec.tensor(tasks, Q, Q, dtype=x.dtype)
        paired = {"tasks": tasks, "PAIRED": True, "pairs_ptr": pairs}
    _, chunk_b, chunk_c = views(Q, _matrix)
    if prepared:
        rec.add(
            ssd_kernels._prepare, tasks + cut.slots * (cut.T // Q) * -(-heads // 16),
            options(4, follows=False), b_ref=chunk_b, c_ref=chunk_c, dt_ptr=ref["dt"],
            a_ptr=ref["A"], bias_ptr=ref["bias"], cu_ptr=ref["cu"], Q=Q, HEADS=16,
            PER_GROUP=heads // groups, N=states, **paired,
            **exponents, **place, **limits, **strides["dt"], **delta,
        )
    grid = cut.slots * heads * blocks
    if cut.segments:
        states_at = {
            "state_ptr": rec.work(cut.slots, heads, width, states),
            "decay_ptr": rec.work(cut.slots, heads),
        }
        if driven and prepared:
            x_ref, b_ref, _ = views(Q, ssd_gluon.matrix)
            rec.add(
                ssd_gluon._summaries, grid, options(4), x_desc=x_ref, b_desc=b_ref,
                cu_ptr=ref["cu"], Q=Q, BP=BP, BN=BN, STAGES=meta["sum_ring"], **exponents,
                **states_at, **sizes, **varlen,
            )
        else:
            R = 1 if seq_idx else math.gcd(cut.T // Q, meta["sum_chunks"])
            x_ref, b_ref, _ = views(R * Q, _matrix)
            rec.add(
                ssd_kernels._summaries, tasks + grid,
                options(meta["sum_warps"], meta["sum_stages"], follows=prepared),
                chunk_b_ref=chunk_b,
                chunk_c_ref=chunk_c, x_ref=x_ref, dt_ptr=ref["dt"], a_ptr=ref["A"], b_ref=b_ref,
                bias_ptr=ref["bias"], cu_ptr=ref["cu"], seq_ptr=ref["seq"], R=R,
                PREPARED=prepared, **paired, **exponents,
                **states_at, **sizes, **limits, **strides["x"], **strides["dt"], **strides["B"],
                **strides["seq"], **delta, **tiles,
            )
        if cut.segments == 2:
            size = width * states
            block = min(1024, triton.next_power_of_2(size))
            rec.add(
                ssd_kernels._combine, sequences * heads * -(-size // block), options(4),
                h0_ptr=ref["h0"], cu_ptr=ref["cu"], L=length, H=heads, SIZE=size, K=cut.T // Q,
                S=cut.S, Q=Q, BLOCK=block, H0=given["h0"] is not None, **states_at, **varlen,
            )
    walk = {
        "x_ptr": ref["x"], "b_ptr": ref["B"], "c_ptr": ref["C"], **strides["x"], **strides["B"],
        **strides["C"],
        "d_ptr": ref["D"], "z_ptr": ref["z"], "h0_ptr": ref["h0"], "cu_ptr": ref["cu"],
        "y_ptr": ref["y"], "final_ptr": ref["final"], **exponents, **states_at, **sizes,
        **strides["z"], **varlen, "SKIP": 0 if D is None else D.dim(),
        "GATE": given["z"] is not None, "H0": given["h0"] is not None,
        "FINAL": given["final"] is not None, "SEGMENTS": cut.segments,
    }
    if driven:
        x_ref, b_ref, c_ref = views(Q, ssd_gluon.matrix)
        rec.add(
            ssd_gluon._walk, grid, options(4), x_desc=x_ref, b_desc=b_ref, c_desc=c_ref,
            pairs_ptr=pairs, Q=Q, BP=BP, BN=BN, **walk,
        )
    else:
        x_ref, b_ref, c_ref = views(Q, _matrix)
        rec.add(
            ssd_kernels._walk, grid, options(meta["num_warps"], meta["num_stages"]), x_ref=x_ref,
            b_ref=b_ref, c_ref=c_ref, seq_ptr=ref["seq"], APART=apart, **walk, **strides["seq"],
            **tiles,
        )
    # fmt: on
    return rec


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


def _matrix(t: Tensor, rows: int, columns: int) -> TensorDescriptor:
    """Descriptor of (B, L, G, N) seen as (B L, G N), in tiles of rows x columns."""
    batch, length, groups, states = t.shape
    shape, strides = [batch * length, groups * states], [t.stride(1), 1]
    return TensorDescriptor(t, shape, strides, [rows, columns])


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
