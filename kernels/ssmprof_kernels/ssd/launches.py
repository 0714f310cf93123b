"""Which kernels a Mamba-2 scan launches, with which tiles, segments and arguments.

Promises: depends on shapes, strides, dtypes and options only; `record` launches nothing.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ssmprof_kernels import launch
from ssmprof_kernels.launch import replay
from ssmprof_kernels.ssd import parts, plan, prepare, summaries, walk

#: Gluon changes between versions; the twins in plain Triton serve those not tested.
GLUON = triton.__version__.startswith("3.6.")
if GLUON or TYPE_CHECKING:
    from ssmprof_kernels.ssd import hopper_summaries, hopper_walk


class Tensors(NamedTuple):
    """The tensors of a call, in their order."""

    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    bias: Tensor | None
    h0: Tensor | None
    cu: Tensor | None
    seq: Tensor | None
    y: Tensor
    final: Tensor | None


#: The same, as arguments of a recording.
_REF: Any = Tensors._make(map(replay.Arg, range(len(Tensors._fields))))

#: Heads of which one program of `prepare` forms the exponents.
_HEADS = 16


def record(
    tensors: tuple[Any, ...],
    sequences: int,
    dt_softplus: bool,
    dt_limit: tuple[float, float],
    meta: dict[str, Any],
) -> replay.Recording:
    """Choose kernels, tiles and segments; `tensors` in the order of `Tensors`."""
    scan = _Scan(Tensors(*tensors), sequences, dt_softplus, dt_limit, meta)
    if scan.prepared:
        scan.add_prepare()
    if scan.plan.segments:
        scan.add_summaries()
        if scan.plan.segments == 2:
            scan.add_combine()
    scan.add_walk()
    return scan.recording


class _Scan:
    """One call: sizes, bundles, scratch, and the launches that they make."""

    def __init__(
        self,
        given: Tensors,
        sequences: int,
        dt_softplus: bool,
        dt_limit: tuple[float, float],
        meta: dict[str, Any],
    ) -> None:
        self.given, self.meta, self.sequences = given, meta, sequences
        batch, length, heads, width = given.x.shape
        self.groups, states = given.B.shape[2:]
        facts = launch.facts(given.x.device)
        packed = None if given.cu is None else sequences
        self.plan = plan.plan(batch, length, heads, width, packed, meta, facts.sm_count)
        low, high = (float(v) for v in dt_limit)
        seq_idx, exact = given.seq is not None, given.x.dtype == torch.float32
        self.delta = parts.Delta(
            SOFTPLUS=bool(dt_softplus),
            CLAMP=low > (0.0 if dt_softplus else -math.inf) or high < math.inf,
            BIAS=given.bias is not None,
            APART=exact or (low < 0.0 and not dt_softplus),
            EXACT=exact,
        )
        self.tile = self._tile(width, states, facts.sm)
        self.chunks = self.plan.T // self.tile.Q
        self.driven = self._is_driven(facts.sm, seq_idx)
        # A long walk must not start early: its programs would crowd on the first free
        # multiprocessors.
        early = bool(self.driven and meta["early"] >= self.chunks)
        self.cut = parts.Cut(given.cu is not None, seq_idx, early)
        # Exponents that begin anew with each document are formed in one place.
        self.prepared = not self.plan.segments or meta["fused"] < self.chunks or seq_idx
        self.sizes = {
            "L": length, "H": heads, "PER_GROUP": heads // self.groups, "P": width, "N": states,
            "K": self.chunks, "S": self.plan.S, "count": sequences,
            "steps": sequences.bit_length(),
        }  # fmt: skip
        self.limits = {"dt_min": low, "dt_max": high}
        self.grid = self.plan.slots * heads * -(-width // self.tile.BP)
        self.recording = replay.Recording(len(given))
        self.made = self._scratch()
        self.tasks, self.pairs = 0, None
        if self.driven:
            self.tasks = self.plan.slots * self.chunks * self.groups
            square = (self.tile.Q, self.tile.Q)
            self.pairs = self.recording.tensor(self.tasks, *square, dtype=given.x.dtype)

    def _tile(self, width: int, states: int, sm: int) -> parts.Tile:
        x = self.given.x
        bp, bn = min(self.meta["BP"], plan.tile(width)), plan.tile(states)
        even_p, even_n = width % bp == 0, states == bn
        tma = even_p and even_n and self.meta["tma"] and sm >= 90
        return parts.Tile(
            Q=self.meta["Q"],
            BP=bp,
            BN=bn,
            EVEN_P=even_p,
            EVEN_N=even_n,
            TMA=tma and all(_is_matrix(t) for t in (x, self.given.B, self.given.C)),
            HALF=x.dtype == torch.float16,
            PRECISION="tf32x3" if x.dtype == torch.float32 else "tf32",
        )

    def _is_driven(self, sm: int, seq_idx: bool) -> bool:
        """Whether the forms for Hopper serve, whose matrix instructions exist there alone."""
        tile = self.tile
        return (
            GLUON
            and sm == 90
            and tile.TMA
            and self.meta["gluon"]
            and tile.Q == 64
            and not self.delta.APART
            and not seq_idx
            and tile.BP == 64
            and 32 <= tile.BN <= 128
        )

    def _scratch(self) -> parts.Made:
        heads, width, states = (self.sizes[name] for name in ("H", "P", "N"))
        slots, tokens, work = self.plan.slots, self.plan.T, self.recording.work
        exponents = work(slots, heads, tokens), work(slots, heads, tokens)
        logs = work(slots, heads, tokens) if self.delta.EXACT else None
        if not self.plan.segments:
            return parts.Made(*exponents, None, None, logs)
        return parts.Made(*exponents, work(slots, heads, width, states), work(slots, heads), logs)

    def _some(self, *names: str) -> dict[str, int]:
        return {name: self.sizes[name] for name in names}

    def _options(self, warps: int, stages: int = 3, *, follows: bool = True) -> dict[str, Any]:
        return replay.launch_options(warps, stages, early=self.cut.PDL and follows)

    def _views(self, rows: int, make: Any) -> tuple[Any, Any, Any]:
        """x, B and C as matrices in tiles of `rows` tokens, or as they are without descriptors."""
        if not self.tile.TMA:
            return _REF.x, _REF.B, _REF.C
        bp, bn = self.tile.BP, self.tile.BN
        return tuple(  # type: ignore[return-value]
            replay.View(ref.index, functools.partial(make, rows=rows, columns=columns))
            for ref, columns in ((_REF.x, bp), (_REF.B, bn), (_REF.C, bn))
        )

    def _rates(self) -> dict[str, Any]:
        """What step sizes are formed from."""
        return {
            "dt_ptr": _REF.dt, "a_ptr": _REF.A, "bias_ptr": _REF.bias, "cu_ptr": _REF.cu,
            "seq_ptr": _REF.seq, "dt_steps": replay.strides(parts.Rates, self.given.dt),
            "seq_steps": replay.strides(parts.Ids, self.given.seq), "DELTA": self.delta,
            "CUT": self.cut, "PAIRED": self.driven, "pairs_ptr": self.pairs, "tasks": self.tasks,
            **self.limits,
        }  # fmt: skip

    def add_prepare(self) -> None:
        """Exponents of all chunks, and C B^T where the Hopper forms want it."""
        _, chunk_b, chunk_c = self._views(self.tile.Q, _matrix)
        blocks = -(-self.sizes["H"] // _HEADS)
        self.recording.add(
            prepare.ssmprof_scan_ssd_prepare,
            self.tasks + self.plan.slots * self.chunks * blocks,
            self._options(4, follows=False),
            b_ref=chunk_b, c_ref=chunk_c, decays_ptr=self.made.decays,
            sources_ptr=self.made.sources, logs_ptr=self.made.logs, Q=self.tile.Q, HEADS=_HEADS,
            **self._rates(), **self._some("L", "H", "PER_GROUP", "N", "K", "S", "count", "steps"),
        )  # fmt: skip

    def add_summaries(self) -> None:
        """End states of all segments, each from a zero start."""
        tile, meta = self.tile, self.meta
        if self.driven and self.prepared:
            x_ref, b_ref, _ = self._views(tile.Q, hopper_summaries.matrix)
            self.recording.add(
                hopper_summaries.ssmprof_scan_ssd_summaries_hopper, self.grid, self._options(4),
                x_desc=x_ref, b_desc=b_ref, cu_ptr=_REF.cu, made=self.made, Q=tile.Q, BP=tile.BP,
                BN=tile.BN, STAGES=meta["sum_ring"], CUT=self.cut, **self.sizes,
            )  # fmt: skip
            return
        chunks_at_once = 1 if self.cut.SEQ_IDX else math.gcd(self.chunks, meta["sum_chunks"])
        _, chunk_b, chunk_c = self._views(tile.Q, _matrix)
        x_ref, b_ref, _ = self._views(chunks_at_once * tile.Q, _matrix)
        self.recording.add(
            summaries.ssmprof_scan_ssd_summaries,
            self.tasks + self.grid,
            self._options(meta["sum_warps"], meta["sum_stages"], follows=self.prepared),
            x_ref=x_ref, b_ref=b_ref, chunk_b_ref=chunk_b, chunk_c_ref=chunk_c, made=self.made,
            R=chunks_at_once, PREPARED=self.prepared, TILE=tile,
            x_steps=replay.strides(parts.Heads, self.given.x),
            b_steps=replay.strides(parts.Groups, self.given.B), **self._rates(), **self.sizes,
        )  # fmt: skip

    def add_combine(self) -> None:
        """Those end states, from each sequence's true start."""
        size = self.sizes["P"] * self.sizes["N"]
        block = min(1024, plan.tile(size))
        self.recording.add(
            summaries.ssmprof_scan_ssd_combine,
            self.sequences * self.sizes["H"] * -(-size // block),
            self._options(4),
            made=self.made, h0_ptr=_REF.h0, cu_ptr=_REF.cu, SIZE=size, Q=self.tile.Q, BLOCK=block,
            H0=self.given.h0 is not None, CUT=self.cut, **self._some("L", "H", "K", "S"),
        )  # fmt: skip

    def add_walk(self) -> None:
        """y, and the final state."""
        given, tile, meta = self.given, self.tile, self.meta
        arguments = {
            "given": parts.Given(
                _REF.x, _REF.B, _REF.C, _REF.D, _REF.z, _REF.h0, _REF.cu, _REF.seq
            ),
            "made": self.made, "y_ptr": _REF.y, "final_ptr": _REF.final, "CUT": self.cut,
            "x_steps": replay.strides(parts.Heads, given.x),
            "b_steps": replay.strides(parts.Groups, given.B),
            "c_steps": replay.strides(parts.Groups, given.C),
            "z_steps": replay.strides(parts.Heads, given.z),
            "OUT": parts.Out(
                0 if given.D is None else given.D.dim(), given.z is not None,
                given.h0 is not None, given.final is not None, self.plan.segments,
            ),
            **self.sizes,
        }  # fmt: skip
        if self.driven:
            x_ref, b_ref, c_ref = self._views(tile.Q, hopper_summaries.matrix)
            self.recording.add(
                hopper_walk.ssmprof_scan_ssd_walk_hopper, self.grid, self._options(4),
                x_desc=x_ref, b_desc=b_ref, c_desc=c_ref, pairs_ptr=self.pairs, Q=tile.Q,
                BP=tile.BP, BN=tile.BN, **arguments,
            )  # fmt: skip
            return
        x_ref, b_ref, c_ref = self._views(tile.Q, _matrix)
        self.recording.add(
            walk.ssmprof_scan_ssd_walk, self.grid,
            self._options(meta["num_warps"], meta["num_stages"]),
            x_ref=x_ref, b_ref=b_ref, c_ref=c_ref, APART=self.delta.APART,
            EXACT=self.delta.EXACT, TILE=tile, seq_steps=replay.strides(parts.Ids, given.seq),
            **arguments,
        )  # fmt: skip


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
