"""Which kernels a Mamba-2 scan launches, with which tiles, segments and arguments.

Promises: depends on shapes, strides, dtypes and options only; `record` launches nothing.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ssmprof_kernels import launch, replay, ssd_plan, ssd_prepare, ssd_summaries, ssd_walk

#: Gluon changes between versions; the twins in plain Triton serve those not tested.
GLUON = triton.__version__.startswith("3.6.")
if GLUON or TYPE_CHECKING:
    from ssmprof_kernels import ssd_hopper, ssd_hopper_walk

#: Order of the tensors of a call.
NAMES = ("x", "dt", "A", "B", "C", "D", "z", "bias", "h0", "cu", "seq", "y", "final")


def record(
    tensors: tuple[Tensor | None, ...],
    sequences: int,
    dt_softplus: bool,
    dt_limit: tuple[float, float],
    meta: dict[str, Any],
) -> replay.Recording:
    """Choose kernels, tiles and segments; `tensors` in the order of `NAMES`."""
    given: dict[str, Tensor | None] = dict(zip(NAMES, tensors, strict=True))
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
        GLUON
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
    ref = {name: replay.Arg(i) for i, name in enumerate(NAMES)}
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
    # A long walk must not start early: its programs would crowd on the first free multiprocessors.
    pdl = bool(driven and meta["early"] >= cut.T // Q)
    varlen = {"VARLEN": given["cu"] is not None, "PDL": pdl}
    delta = {
        "SOFTPLUS": bool(dt_softplus), "APART": apart, "BIAS": given["bias"] is not None,
        "CLAMP": low > (0.0 if dt_softplus else -math.inf) or high < math.inf, **varlen,
    }
    tiles = {
        "Q": Q, "BP": BP, "BN": BN, "EVEN_P": even_p, "EVEN_N": even_n, "SEQ_IDX": seq_idx,
        "TMA": tma, "PRECISION": "tf32x3" if x.dtype == torch.float32 else "tf32",
        "INTERPRET": interpret, "HALF": x.dtype == torch.float16,
    }

    def views(rows: int, make: Any) -> tuple[Any, Any, Any]:
        if not tma:
            return ref["x"], ref["B"], ref["C"]
        return tuple(  # type: ignore[return-value]
            replay.View(NAMES.index(name), functools.partial(make, rows=rows, columns=columns))
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
    # Exponents that begin anew with each document are formed in one place.
    prepared = cut.segments == 0 or meta["fused"] < cut.T // Q or seq_idx
    tasks, paired = 0, {"tasks": 0, "PAIRED": driven, "pairs_ptr": None}
    if driven:
        tasks = cut.slots * (cut.T // Q) * groups
        pairs = rec.tensor(tasks, Q, Q, dtype=x.dtype)
        paired = {"tasks": tasks, "PAIRED": True, "pairs_ptr": pairs}
    _, chunk_b, chunk_c = views(Q, _matrix)
    if prepared:
        rec.add(
            ssd_prepare._prepare, tasks + cut.slots * (cut.T // Q) * -(-heads // 16),
            options(4, follows=False), b_ref=chunk_b, c_ref=chunk_c, dt_ptr=ref["dt"],
            a_ptr=ref["A"], bias_ptr=ref["bias"], cu_ptr=ref["cu"], Q=Q, HEADS=16,
            seq_ptr=ref["seq"], SEQ_IDX=seq_idx, PER_GROUP=heads // groups, N=states, **paired,
            **strides["seq"],
            **exponents, **place, **limits, **strides["dt"], **delta,
        )
    grid = cut.slots * heads * blocks
    if cut.segments:
        states_at = {
            "state_ptr": rec.work(cut.slots, heads, width, states),
            "decay_ptr": rec.work(cut.slots, heads),
        }
        if driven and prepared:
            x_ref, b_ref, _ = views(Q, ssd_hopper.matrix)
            rec.add(
                ssd_hopper._summaries, grid, options(4), x_desc=x_ref, b_desc=b_ref,
                cu_ptr=ref["cu"], Q=Q, BP=BP, BN=BN, STAGES=meta["sum_ring"], **exponents,
                **states_at, **sizes, **varlen,
            )
        else:
            R = 1 if seq_idx else math.gcd(cut.T // Q, meta["sum_chunks"])
            x_ref, b_ref, _ = views(R * Q, _matrix)
            rec.add(
                ssd_summaries._summaries, tasks + grid,
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
            block = min(1024, ssd_plan.tile(size))
            rec.add(
                ssd_summaries._combine, sequences * heads * -(-size // block), options(4),
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
        x_ref, b_ref, c_ref = views(Q, ssd_hopper.matrix)
        rec.add(
            ssd_hopper_walk._walk, grid, options(4), x_desc=x_ref, b_desc=b_ref, c_desc=c_ref,
            pairs_ptr=pairs, Q=Q, BP=BP, BN=BN, **walk,
        )
    else:
        x_ref, b_ref, c_ref = views(Q, _matrix)
        rec.add(
            ssd_walk._walk, grid, options(meta["num_warps"], meta["num_stages"]), x_ref=x_ref,
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
        and row > 0
        and row * t.element_size() % 16 == 0
        and t.data_ptr() % 16 == 0
    )


def _matrix(t: Tensor, rows: int, columns: int) -> TensorDescriptor:
    """Descriptor of (B, L, G, N) seen as (B L, G N), in tiles of rows x columns."""
    batch, length, groups, states = t.shape
    shape, strides = [batch * length, groups * states], [t.stride(1), 1]
    return TensorDescriptor(t, shape, strides, [rows, columns])
