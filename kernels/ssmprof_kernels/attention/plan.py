"""How a decode attention is launched: blocks from the tables, parts of the cache, kernels.

Promises: pure functions of shapes, strides, dtypes and options; nothing here launches.
"""

from __future__ import annotations

from typing import Any

import torch

from ssmprof_kernels import launch
from ssmprof_kernels.attention import kernels
from ssmprof_kernels.attention.splits import split_count
from ssmprof_kernels.device.math import LOG2E
from ssmprof_kernels.launch import replay

#: Tokens of a tile; programs a multiprocessor should get; tiles a split has at least; share of the
#: best wave efficiency at which a smaller split count is preferred.
DEFAULT = {
    "BLOCK_N": 64, "FILL": 1, "MIN_TILES": 2, "EFFICIENCY": 0.97, "num_warps": 4, "num_stages": 3,
}  # fmt: skip
#: fp32 tiles are twice as large in shared memory and in registers.
DEFAULT_FP32 = {**DEFAULT, "BLOCK_N": 32, "num_warps": 8, "num_stages": 2}

#: Elements that one program of the merge holds, and columns that fill two sectors of 32 bytes.
_MERGED, _LEAST_COLUMNS = 4096, 16

Tensors = tuple[torch.Tensor | None, ...]


def lookup(
    q: torch.Tensor, k_cache: torch.Tensor, block_table: torch.Tensor | None, window: int | None
) -> launch.Lookup:
    """Where the blocks for these shapes are looked up."""
    span = _span(k_cache, block_table, window)
    fill = launch.fill_bucket(q.shape[0] * k_cache.shape[2], launch.facts(q.device).sm_count)
    width = min(256, max(64, _tile(k_cache.shape[3])))
    bucket = f"d{width}-{launch.length_bucket(span)}-{fill}"
    default = DEFAULT
    if q.dtype == torch.float32:
        bucket, default = f"float32-{bucket}", DEFAULT_FP32
    return "attention_decode", bucket, q.device, default


def _capacity(k_cache: torch.Tensor, table: torch.Tensor | None) -> int:
    """Tokens a row has room for."""
    return k_cache.shape[1] * (1 if table is None else table.shape[1])


def _span(k_cache: torch.Tensor, table: torch.Tensor | None, window: int | None) -> int:
    """Tokens a row attends to at most."""
    capacity = _capacity(k_cache, table)
    return capacity if window is None else min(window, capacity)


#: The kernel's pointers, in the order of the tensors of a call; the last is the result.
_POINTERS = ("q", "k", "v", "length", "table", "sink", "out")


def record(
    tensors: Tensors, meta: dict[str, Any], window: int | None, scale: float | None
) -> replay.Recording:
    """The launches for tensors in the order of `_POINTERS`."""
    q, k, v, lengths, table, sinks, _ = tensors
    assert q is not None
    assert k is not None
    assert v is not None
    batch, hq, dk = q.shape
    heads, dv = k.shape[2], v.shape[3]
    share = hq // heads
    known = launch.facts(q.device)
    cut = split_count(
        batch * heads, _span(k, table, window), meta["BLOCK_N"], known.sm_count * meta["FILL"],
        meta["MIN_TILES"], meta["EFFICIENCY"],
    )  # fmt: skip
    # Programmatic dependent launch, from compute capability 9.0 on: the second launch costs less.
    overlap = known.sm >= 90 and cut > 1
    recording = replay.Recording(len(tensors))
    given: dict[str, Any] = {f"{name}_ptr": replay.Arg(i) for i, name in enumerate(_POINTERS)}
    out = given["out_ptr"]
    part = recording.work(batch, hq, cut, dv) if cut > 1 else out
    stats = recording.work(batch, hq, cut, 2) if cut > 1 else out
    recording.add(
        kernels.ssmprof_attention_split,
        batch * heads * cut,
        replay.launch_options(meta["num_warps"], meta["num_stages"]),
        **given, part_ptr=part, stats_ptr=stats, capacity=_capacity(k, table), window=window or 0,
        heads=heads, splits=cut, scale=(dk**-0.5 if scale is None else scale) * LOG2E.value,
        q_steps=replay.strides(kernels.Query, q), k_steps=replay.strides(kernels.Cache, k),
        v_steps=replay.strides(kernels.Cache, v),
        table_step=0 if table is None else table.stride(0),
        FORM=kernels.Form(
            cut > 1, share, dk, dv, 0 if table is None else k.shape[1], lengths is not None,
            window is not None, sinks is not None,
        ),
        TILE=kernels.Tile(_tile(share), _tile(dk), _tile(dv), meta["BLOCK_N"]),
        OVERLAP=overlap,
    )  # fmt: skip
    if cut > 1:
        parts, columns = _merged(cut, dv)
        recording.add(
            kernels.ssmprof_attention_merge,
            batch * hq * -(-dv // columns),
            replay.launch_options(4, early=overlap),
            part_ptr=part, stats_ptr=stats, sink_ptr=given["sink_ptr"], out_ptr=out, heads=hq,
            splits=cut, SINKS=sinks is not None, DV=dv, BLOCK_S=parts, BLOCK_DV=columns,
            OVERLAP=overlap,
        )  # fmt: skip
    return recording


def _merged(cut: int, dv: int) -> tuple[int, int]:
    """Parts and columns of one program of the merge, powers of two.

    Few columns where the parts are many: a program that read whole rows of 256 parts would keep
    128 KB in registers, and there would be no more of them than query heads.
    """
    parts = _power_of_two(cut)
    return parts, min(_power_of_two(dv), max(_LEAST_COLUMNS, _MERGED // parts))


def _tile(size: int) -> int:
    """Power of two that holds `size`, at least 16 (the smallest side of a matrix instruction)."""
    return max(16, _power_of_two(size))


def _power_of_two(size: int) -> int:
    """The least power of two that holds `size`."""
    return 1 << (size - 1).bit_length()
