"""How a Mamba-1 scan is launched: blocks from the tables, segments, the form that is compiled.

Promises: pure functions of shapes, strides, dtypes and options; nothing here launches.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from ssmprof_kernels import door, launch
from ssmprof_kernels.launch import replay
from ssmprof_kernels.selective_scan import bundles
from ssmprof_kernels.selective_scan.kernel import ssmprof_scan_selective

try:
    from ssmprof_kernels.selective_scan.gluon_kernel import ssmprof_scan_selective_gluon
except (ImportError, AttributeError):  # before Triton 3.5
    ssmprof_scan_selective_gluon = None

#: Tokens below which no segment is cut off: starting and ending a program costs as much.
LEAST_SPAN = 64
#: Words of two numbers are taken apart by assembly, which the interpreter has none of.
_COMPILED = not door.interpreted()
#: Gluon changes between minor versions of Triton; elsewhere the twin serves every configuration.
_GLUON = (
    _COMPILED and triton.__version__.startswith("3.6.") and ssmprof_scan_selective_gluon is not None
)


def lookup(
    sequences: int, length: int, channels: int, states: int, bits: int, rows: bool,
    device: torch.device,
) -> launch.Lookup:  # fmt: skip
    """Where the blocks for a shape are looked up."""
    key = bucket(sequences, length, channels, states, bits, rows, device)
    fill = _fill(sequences, channels, device)
    return "selective_scan", key, device, default(states, fill)


@functools.lru_cache(1024)
def bucket(
    sequences: int, length: int, channels: int, states: int, bits: int, rows: bool,
    device: torch.device,
) -> str:  # fmt: skip
    """Table key: bits of an activation, padded state size, whether tokens are contiguous in memory
    (`rows`), channels per multiprocessor; and where these are few the length, because cutting it
    into segments then pays. Packed sequences, which are not cut, count as length 0."""
    fill = _fill(sequences, channels, device)
    key = f"{bits}b-n{_padded(states)}"
    if rows:
        return f"{key}-rows-{fill}"
    few = fill in launch.FILL_BUCKETS[:3]
    return f"{key}-{fill}-{launch.length_bucket(length)}" if few else f"{key}-{fill}"


def _fill(sequences: int, channels: int, device: torch.device) -> str:
    # One program of 32 lanes per 32 channels is the widest layout that exists.
    return launch.fill_bucket(sequences * channels // 32, launch.facts(device).sm_count)


@functools.lru_cache(1024)
def default(states: int, fill: str) -> dict[str, Any]:
    """Blocks for a shape that no table knows: many lanes per channel while channels are few."""
    padded = _padded(states)
    lanes = {"p0.5": 8, "p1": 8, "p2": 4, "p4": 2, "pmore": 2}[fill]
    lanes = min(padded, max(lanes, padded // 8))
    regs = padded // lanes
    tokens = max(4, min(max(8, lanes), 64 // regs))
    return {"BLOCK_T": tokens, "LANES": lanes, "AHEAD": 2, "num_warps": 1}


class Tensors(NamedTuple):
    """The tensors of a call, in their order; B and C with an axis of groups."""

    u: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    bias: Tensor | None
    h0: Tensor | None
    cu: Tensor | None
    final: Tensor | None
    y: Tensor


class Tiles(NamedTuple):
    """Channels of a group, programs they take, tokens and number of segments, padded states."""

    per_group: int
    count: int
    span: int
    segments: int
    padded: int


def record(
    tensors: tuple[Any, ...], sequences: int, dt_softplus: bool, meta: dict[str, Any]
) -> replay.Recording:
    """The launches for tensors in the order of `Tensors`."""
    given = Tensors(*tensors)
    length, channels = given.u.shape[1:]
    groups, states = given.B.shape[2:]
    block_d = 32 * meta["num_warps"] // meta["LANES"]
    tiles = _tiles(given, block_d, meta)
    gluon = meta.get("GLUON") and _GLUON
    recording = replay.Recording(len(given))
    parts = bundles.Parts(None, None)
    if tiles.segments > 1:
        shape = (sequences, tiles.segments - 1, channels)
        parts = bundles.Parts(recording.work(*shape, states), recording.work(*shape))
    for summary in (True, False) if tiles.segments > 1 else (False,):
        recording.add(
            ssmprof_scan_selective_gluon if gluon else ssmprof_scan_selective,
            sequences * groups * tiles.count * (tiles.segments - summary),
            replay.launch_options(meta["num_warps"]),
            given=bundles.Given(*map(replay.Arg, range(len(bundles.Given._fields)))),
            parts=parts,
            hT_ptr=replay.Arg(10),
            y_ptr=replay.Arg(11),
            L=length, DG=tiles.per_group, G=groups, TILES=tiles.count, SPAN=tiles.span,
            **_steps(given),
            FORM=bundles.Form(
                D=given.D is not None, Z=given.z is not None, BIAS=given.bias is not None,
                SOFTPLUS=bool(dt_softplus), H0=given.h0 is not None and not summary,
                HT=given.final is not None, VARLEN=given.cu is not None,
            ),
            SHAPE=_shape(given, block_d, tiles, meta, summary=summary),
            BLOCK=bundles.Block(
                meta["BLOCK_T"], block_d, meta["LANES"], tiles.padded // meta["LANES"],
                meta["AHEAD"], tiles.segments, summary,
            ),
        )  # fmt: skip
    return recording


def _tiles(given: Tensors, block_d: int, meta: dict[str, Any]) -> Tiles:
    length, channels = given.u.shape[1:]
    groups, states = given.B.shape[2:]
    per_group = channels // groups
    # A segment is whole turns of the loop; packed sequences are many already.
    turn = meta["BLOCK_T"] * meta["AHEAD"]
    most = min(meta.get("SEGMENTS", 1), max(1, length // LEAST_SPAN))
    if given.cu is not None:
        most = 1
    span = -(-length // (most * turn)) * turn
    return Tiles(per_group, -(-per_group // block_d), span, -(-length // span), _padded(states))


def _steps(given: Tensors) -> dict[str, Any]:
    return {
        "u_steps": replay.strides(bundles.Tokens, given.u),
        "dt_steps": replay.strides(bundles.Tokens, given.dt),
        "A_steps": replay.strides(bundles.Rates, given.A),
        "B_steps": replay.strides(bundles.Groups, given.B),
        "C_steps": replay.strides(bundles.Groups, given.C),
        "z_steps": replay.strides(bundles.Tokens, given.z),
        "h0_steps": replay.strides(bundles.States, given.h0),
        "y_steps": replay.strides(bundles.Tokens, given.y),
    }


def _shape(
    given: Tensors, block_d: int, tiles: Tiles, meta: dict[str, Any], *, summary: bool
) -> bundles.Shape:
    B, C, states = given.B, given.C, given.B.shape[3]
    even_d, even_n = tiles.per_group % block_d == 0, tiles.padded == states
    # Pairs of 16-bit numbers travel as words, where each lane then still has its own.
    wide = _COMPILED and even_d and block_d * meta["BLOCK_T"] >= 64 * meta["num_warps"]
    packed = meta.get("PACKED", True) and B.dtype == C.dtype and B.element_size() == 2
    return bundles.Shape(
        N=states,
        EVEN_D=even_d,
        EVEN_N=even_n,
        X_WORDS=wide and all(_in_words(t) for t in (given.u, given.dt, given.z)),
        BC_WORDS=_COMPILED and even_n and states > 1 and _in_words(B) and _in_words(C),
        X_TIME=is_rows(given.u),
        BC_TIME=B.stride(1) == 1 and B.stride(3) != 1,
        PACKED=packed and not summary,
    )


def is_rows(t: Tensor) -> bool:
    """Whether tokens, not channels, are contiguous in memory."""
    return t.stride(1) == 1 and t.stride(2) != 1


def _in_words(t: Tensor | None) -> bool:
    """True if pairs of neighbours in the last axis are aligned 32-bit words; None has no say."""
    if t is None:
        return True
    *outer, last = t.stride()
    even = not any(stride % 2 for stride in outer)
    return t.element_size() == 2 and last == 1 and even and t.data_ptr() % 16 == 0


def _padded(n: int) -> int:
    """The power of two that holds `n`."""
    return 1 << (n - 1).bit_length()
