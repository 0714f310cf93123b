"""Which kernels a delta rule launches over a prompt, with which tiles, segments and arguments.

Promises: depends on shapes, strides, dtypes and options only; `record` launches nothing.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ssmprof_kernels import launch
from ssmprof_kernels.gated_delta import plan
from ssmprof_kernels.gated_delta.combine import ssmprof_scan_delta_combine
from ssmprof_kernels.gated_delta.prepare import ssmprof_scan_delta_prepare
from ssmprof_kernels.gated_delta.prepare_channels import ssmprof_scan_kda_prepare
from ssmprof_kernels.gated_delta.walk import ssmprof_scan_delta_walk
from ssmprof_kernels.launch import replay

#: Order of the tensors of a call.
NAMES = ("q", "k", "v", "g", "beta", "A_log", "dt_bias", "h0", "cu", "y", "final")


class Options(NamedTuple):
    """What a call asks for beside its tensors; see `op.gated_delta`."""

    qk_l2norm: bool
    beta_sigmoid: bool
    negative: bool
    scale: float


def record(
    tensors: tuple[Tensor | None, ...],
    sequences: int,
    options: Options,
    meta: dict[str, Any],
) -> replay.Recording:
    """Choose kernels, tiles and segments; `tensors` in the order of `NAMES`."""
    given: dict[str, Tensor | None] = dict(zip(NAMES, tensors, strict=True))
    q, k, v = tensors[:3]
    assert q is not None
    assert k is not None
    assert v is not None
    batch, length, heads, value = v.shape
    key = q.shape[3]
    g = given["g"]
    channels = g is not None and g.dim() == 4
    facts = launch.facts(v.device)
    packed = None if given["cu"] is None else sequences
    half = v.dtype != torch.float32
    C, BK = meta["C"], plan.tile(key)
    if channels and half:
        BK = max(BK, plan.LEAST_KEYS)
    BV = plan.block(meta, BK, value)
    cut = plan.plan(batch, length, heads, (BK, value), packed, meta, facts.sm_count)
    tma = meta["tma"] and facts.sm >= 90
    direct = tma and not channels and packed is None and key == BK and _is_matrix(q, C)
    direct = direct and _is_matrix(k, C)
    # fmt: off
    ref: dict[str, Any] = {name: replay.Arg(i) for i, name in enumerate(NAMES)}
    rec = replay.Recording(len(tensors))
    tiles = cut.chunks * heads
    precise = plan.doubled(options.negative, v.dtype)

    def prepared(columns: int, *names: str, low: str) -> dict[str, Any]:
        found = {name: rec.tensor(tiles * C, columns, dtype=v.dtype) for name in names}
        rest = rec.tensor(tiles * C, columns, dtype=v.dtype) if precise else None
        return {**found, low: rest}

    square = prepared(C, "solve", "score", low="solve_low")
    if channels:
        rows = prepared(BK, "asks", "knows", "keeps", low="keeps_low")
    else:
        rows = {"factors": rec.work(tiles * 3 * C)}
    # What cannot be taken as it was given is copied: whole chunks, behind which there is 0.
    copied = tma and not channels and not direct
    copied_v = tma and not (packed is None and value % BV == 0 and _is_matrix(v, C))
    VP = -(-value // BV) * BV
    lines = cut.chunks * q.shape[2] * C
    copies = {name: rec.tensor(lines, BK, dtype=v.dtype) for name in ("qk" if copied else "")}
    if copied_v:
        copies["v"] = rec.tensor(tiles * C, VP, dtype=v.dtype)
    kept = rec.work(tiles * (BK if channels else 1))
    made: dict[str, Any] = {f"{name}_ptr": at for name, at in (square | rows).items()}
    made["kept_ptr"] = kept
    by_feature = ("asks_ptr", "knows_ptr", "keeps_ptr", "keeps_low_ptr")
    unused = dict.fromkeys(("factors_ptr",) if channels else by_feature, None)
    place = {"L": length, "H": heads, "count": sequences, "steps": sequences.bit_length(),
             "CHUNKS": -(-length // C), "PER_KEY": heads // q.shape[2]}
    strides = {
        name: _strides(name, given[name], letters)
        for name, letters in (("q", "blhk"), ("k", "blhk"), ("v", "blhv"), ("beta", "blh"),
                              ("g", "blhk" if channels else "blh"), ("h0", "bhkv"))
    }
    common = {"K": key, "C": C, "BK": BK, "VARLEN": packed is not None,
              "PRECISION": "tf32" if half else "tf32x3", "PRECISE": precise}

    def launched(warps: int, stages: int = 2, registers: int | None = None) -> dict[str, Any]:
        # Triton's interpreter has no registers to limit.
        limit = {"maxnreg": registers} if registers and v.is_cuda else {}
        return replay.launch_options(warps, stages) | limit

    gates = {
        "GATE": given["A_log"] is not None, "BIAS": given["dt_bias"] is not None,
        "SIGMOID": options.beta_sigmoid, "NEGATIVE": options.negative, "NORM": options.qk_l2norm,
        "SOLVE": "tf32" if half else "tf32x3", "scale": options.scale,
    }
    inputs = {
        "q_ptr": ref["q"], "k_ptr": ref["k"], "v_ptr": ref["v"], "g_ptr": ref["g"],
        "beta_ptr": ref["beta"],
        "a_log_ptr": ref["A_log"], "bias_ptr": ref["dt_bias"], "cu_ptr": ref["cu"],
    }
    prepare: Any = ssmprof_scan_delta_prepare
    shape: tuple[Any, ...] = (meta["pre_warps"], 1, None if copied else meta["pre_registers"])
    if channels:
        prepare = ssmprof_scan_kda_prepare
        gates |= {"PART": min(meta["part"], BK), "LEVELS": C.bit_length() - 1, "WIDE": not half,
                  "PREFIX": meta["prefix"] and half and not precise}
        shape = (meta["channel_warps"], 1, meta["channel_registers"])
    else:
        gates |= {"DECAY": g is not None, "COPY": copied, "PART": min(meta["pre_part"], BK)}
        gates |= {f"{name}_copy_ptr": copies.get(name) for name in "qk"}
    gates |= {"COPY_V": copied_v, "V": value, "VP": VP, "v_copy_ptr": copies.get("v")}
    rec.add(
        prepare, tiles, launched(*shape), **inputs, **made, **place, **gates,
        **common, **strides["q"], **strides["k"], **strides["v"], **strides["g"],
        **strides["beta"],
    )

    def tiled(at: Any, columns: int) -> Any:
        if not tma or at is None:
            return None
        return replay.View(at.index, functools.partial(_tiles, rows=C, columns=columns))

    def tokens(name: str, columns: int, given_so: bool) -> Any:
        if not given_so:
            return None
        return replay.View(NAMES.index(name), functools.partial(_matrix, rows=C, columns=columns))

    refs = {f"{name}_ref": tiled(at, C) for name, at in square.items()}
    if channels:
        refs |= {f"{name}_ref": tiled(at, BK) for name, at in rows.items()}
    else:
        refs |= {
            ref_name: tiled(copies[name], BK) if copied else tokens(name, BK, direct)
            for ref_name, name in (("asks_ref", "q"), ("knows_ref", "k"))
        }
        refs["keeps_ref"] = refs["keeps_low_ref"] = None
    blocks, columns = VP // BV, BK // BV
    ends = None
    if cut.S > 1:
        ends = rec.work(cut.slots * heads, VP + BK, BK)
    walking = {
        **refs, "v_ref": tiled(copies["v"], BV) if copied_v else tokens("v", BV, tma),
        "COPIED_V": copied_v, **made, **unused,
        "q_ptr": ref["q"], "k_ptr": ref["k"], "v_ptr": ref["v"],
        "h0_ptr": ref["h0"], "cu_ptr": ref["cu"], "ends_ptr": ends, "y_ptr": ref["y"],
        "final_ptr": ref["final"], **place, "T": cut.T, "S": cut.S, **strides["q"], **strides["k"],
        **strides["v"], **strides["h0"], "V": value, "BV": BV, "CHANNELS": channels,
        "DECAY": g is not None, "TMA": tma, "COPIED": copied,
        "SEGMENTS": cut.S > 1,
        "H0": given["h0"] is not None, "FINAL": given["final"] is not None, **common,
    }
    if cut.S > 1:
        rec.add(
            ssmprof_scan_delta_walk, cut.slots * heads * (blocks + columns),
            launched(meta["sum_warps"], meta["sum_stages"]), SUMMARY=True, **walking,
        )
    if cut.S > 2:
        BR = min(32, BV)
        rec.add(
            ssmprof_scan_delta_combine, sequences * heads * (VP // BR), launched(4), ends_ptr=ends,
            cu_ptr=ref["cu"], L=length, H=heads, T=cut.T, S=cut.S, VP=VP, BK=BK, BR=BR,
            BM=min(32, BK), VARLEN=packed is not None,
        )
    # Packed sequences need registers to find themselves, which a third stage has no room for.
    stages = meta["num_stages"] if packed is None else min(2, meta["num_stages"])
    rec.add(
        ssmprof_scan_delta_walk, cut.slots * heads * blocks, launched(meta["num_warps"], stages),
        SUMMARY=False, **walking,
    )
    # fmt: on
    return rec


def _strides(name: str, tensor: Tensor | None, letters: str) -> dict[str, int]:
    steps = (0,) * len(letters) if tensor is None else tensor.stride()
    return {f"{name}_s{a}": s for a, s in zip(letters, steps, strict=True)}


def _is_matrix(t: Tensor, chunk: int) -> bool:
    """Whether chunks of (B, L, H, K) are tiles of a matrix (B L, H K) behind which there is 0."""
    batch, length, heads, key = t.shape
    row = t.stride(1)
    return (
        t.stride(3) == 1
        and (heads == 1 or t.stride(2) == key)
        and (batch == 1 or (t.stride(0) == length * row and length % chunk == 0))
        and row > 0
        and row * t.element_size() % 16 == 0
        and t.data_ptr() % 16 == 0
    )


def _matrix(t: Tensor, rows: int, columns: int) -> TensorDescriptor:
    """Descriptor of (B, L, H, K) seen as (B L, H K), in tiles of rows x columns."""
    batch, length, heads, key = t.shape
    shape, strides = [batch * length, heads * key], [t.stride(1), 1]
    return TensorDescriptor(t, shape, strides, [rows, columns])


def _tiles(t: Tensor, rows: int, columns: int) -> TensorDescriptor:
    return TensorDescriptor(t, list(t.shape), [t.shape[1], 1], [rows, columns])
