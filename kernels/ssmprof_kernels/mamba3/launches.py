"""Which kernels a Mamba-3 scan launches, with which tiles, segments and arguments.

Promises: depends on shapes, strides, dtypes and options only; `record` launches nothing.

The scan is one of Mamba-2 (`ssd_scan`) over rows, `ranks` of each token, whose keys and queries are
turned into the frame of the first token: then the state need not be turned. What differs is the
weight of a row in its own token.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ssmprof_kernels import launch
from ssmprof_kernels.launch import replay
from ssmprof_kernels.mamba3 import rates, states, walk
from ssmprof_kernels.ssd import parts, summaries
from ssmprof_kernels.ssd import plan as ssd_plan

#: Order of the tensors of a call.
NAMES = (
    *("q", "k", "v", "a", "dt", "trap", "angles", "z", "state", "dt_bias", "q_bias", "k_bias"),
    *("D", "mimo_v", "mimo_z", "mimo_out", "out", "final"),
)
_STRIDES = {
    "q": ("q", "blrgn"),
    "k": ("k", "blrgn"),
    "v": ("v", "blhp"),
    "a": ("a", "blh"),
    "dt": ("dt", "blh"),
    "trap": ("trap", "blh"),
    "angles": ("angle", "bls"),
    "z": ("z", "blhp"),
}
#: Up to so many chunks are summed by whoever needs their sum, more by a launch of its own.
_FOLD = 32
#: Heads of a program that forms exponents, and of one that forms angles.
_RATES, _ANGLES = 16, 8


class Sizes(NamedTuple):
    """Letters of `reference.mamba3`; `ranks` is R rounded up to a power of two."""

    batch: int
    length: int
    heads: int
    width: int
    states: int
    rank: int
    ranks: int
    groups: int
    angles: int
    mixed: bool


def power_of_two(n: int) -> int:
    """The smallest that is not below n."""
    return 1 << (n - 1).bit_length()


def sizes(given: dict[str, Tensor | None]) -> Sizes:
    """Of the tensors of a call."""
    q, v, angles = given["q"], given["v"], given["angles"]
    assert q is not None
    assert v is not None
    assert angles is not None
    batch, length, heads, width = v.shape
    rank, groups, states = q.shape[2:]
    mixed = rank > 1 or any(given[f"mimo_{n}"] is not None for n in ("v", "z", "out"))
    ranks = power_of_two(rank)
    return Sizes(
        batch, length, heads, width, states, rank, ranks, groups, angles.shape[2], mixed
    )  # fmt: skip


def record(tensors: tuple[Tensor | None, ...], meta: dict[str, Any]) -> replay.Recording:
    """Choose kernels, tiles and segments; `tensors` in the order of `NAMES`."""
    scan = _Scan(tensors, meta)
    scan.add_rates()
    scan.add_first_state()
    if scan.cut.segments:
        scan.add_summaries()
    scan.add_walk()
    scan.add_final_state()
    return scan.recording


class _Scan:
    """One call: sizes, scratch, and the launches that they make."""

    def __init__(self, tensors: tuple[Tensor | None, ...], meta: dict[str, Any]) -> None:
        self.given = dict(zip(NAMES, tensors, strict=True))
        self.ref = {name: replay.Arg(i) for i, name in enumerate(NAMES)}
        self.size = size = sizes(self.given)
        self.meta = meta
        v = self.given["v"]
        assert v is not None
        self.dtype, self.interpret = v.dtype, not v.is_cuda
        self.rows = size.length * size.ranks
        self.Q = max(meta["Q"], size.ranks)
        self.BP = min(meta["BP"], ssd_plan.tile(size.width))
        # Features that are turned, half of them angles, and the rest.
        self.BS = ssd_plan.tile(size.angles)
        self.BU = ssd_plan.tile(max(1, size.states - 2 * size.angles))
        self.cut = ssd_plan.plan(
            size.batch, self.rows, size.heads, size.width, None,
            meta | {"Q": self.Q, "BP": self.BP}, launch.facts(v.device).sm_count,
        )  # fmt: skip
        self.K = self.cut.T // self.Q
        self.chunks = self.cut.S * self.K
        self.fold = _FOLD if self.chunks <= _FOLD else 0
        self.recording = replay.Recording(len(tensors))
        self.strides = {name: self._strides(name) for name in _STRIDES}
        self.same = {"H": size.heads, "PER_GROUP": size.heads // size.groups}
        self.letters = {"N": size.states, "P": size.width, "R": size.rank}
        self.tiles = {
            **self.letters, "RANKS": size.ranks, "ANGLES": size.angles, "Q": self.Q,
            "BP": self.BP, "BS": self.BS, "BU": self.BU, "MIXED": size.mixed,
            "APART": v.dtype == torch.float32,
            "WIDE": self.interpret or v.dtype == torch.float16,
            "PRECISION": "tf32x3" if v.dtype == torch.float32 else "tf32",
        }  # fmt: skip
        self._reserve()

    def _strides(self, name: str) -> dict[str, int]:
        letter, axes = _STRIDES[name]
        t = self.given[name]
        steps = (0,) * len(axes) if t is None else t.stride()
        return {f"{letter}_s{a}": s for a, s in zip(axes, steps, strict=True)}

    def _options(self, warps: int = 4, stages: int = 2) -> dict[str, Any]:
        return replay.launch_options(warps, stages)

    def _reserve(self) -> None:
        """Scratch: exponents, turns, states."""
        rec, size, cut = self.recording, self.size, self.cut
        of_row = (cut.slots, size.heads, cut.T)
        self.exponents = {"decays_ptr": rec.work(*of_row), "sources_ptr": rec.work(*of_row)}
        self.own = rec.work(*of_row)
        self.sums = rec.work(size.batch, self.chunks + 1, size.heads, self.BS)
        turns = torch.float32 if self.dtype == torch.float32 else torch.int16
        self.turns = rec.tensor(size.batch, size.length, size.heads, self.BS, dtype=turns)
        state = (size.heads, size.width, size.states)
        self.h0 = None if self.given["state"] is None else rec.work(size.batch, *state)
        self.last = None if self.given["final"] is None else rec.work(size.batch, *state)
        self.states: dict[str, Any] = {"state_ptr": None, "decay_ptr": None}
        if cut.segments:
            ends, totals = rec.work(cut.slots, *state), rec.work(cut.slots, size.heads)
            self.states = {"state_ptr": ends, "decay_ptr": totals}
            decays, sources = self.exponents.values()
            self.made = parts.Made(decays, sources, ends, totals)

    def add_rates(self) -> None:
        """All that knows no state: exponents and angles."""
        size, ref, rec = self.size, self.ref, self.recording
        tokens = self.Q // size.ranks
        same = {
            "dt_ptr": ref["dt"], "angle_ptr": ref["angles"], "bias_ptr": ref["dt_bias"],
            "sums_ptr": self.sums, "L": size.length, "H": size.heads, "chunks": self.chunks,
            "ANGLES": size.angles, "TOKENS": tokens, "BS": self.BS,
            **self.strides["dt"], **self.strides["angles"],
        }  # fmt: skip
        rec.add(
            rates.ssmprof_scan_mamba3_rates,
            size.batch * self.chunks * -(-size.heads // _RATES),
            self._options(),
            a_ptr=ref["a"], trap_ptr=ref["trap"], own_ptr=self.own, K=self.K, RANKS=size.ranks,
            BT=max(16, tokens), HEADS=_RATES, APART=self.tiles["APART"], **same,
            **self.exponents, **self.strides["a"], **self.strides["trap"],
        )  # fmt: skip
        if not self.fold:
            rec.add(
                rates.ssmprof_scan_mamba3_prefix, size.batch * size.heads, self._options(),
                sums_ptr=self.sums, H=size.heads, chunks=self.chunks, BS=self.BS, BC=32,
            )  # fmt: skip
        rec.add(
            rates.ssmprof_scan_mamba3_angles,
            size.batch * self.chunks * -(-size.heads // _ANGLES), self._options(),
            turns_ptr=self.turns, HEADS=_ANGLES, FOLD=self.fold, **same,
        )  # fmt: skip

    def add_first_state(self) -> None:
        """What was given, and what the first token looks back at."""
        size, ref = self.size, self.ref
        state = self.given["state"]
        if state is None:
            return
        first = {n: s for d in ("dt", "trap") for n, s in self.strides[d].items()}
        self.recording.add(
            states.ssmprof_scan_mamba3_begin,
            size.batch * size.heads * -(-size.width // self.BP),
            self._options(),
            state_ptr=ref["state"], dt_ptr=ref["dt"], trap_ptr=ref["trap"],
            bias_ptr=ref["dt_bias"], mix_ptr=ref["mimo_v"], h0_ptr=self.h0, H=size.heads,
            s_b=state.stride(0), BN=ssd_plan.tile(size.states), BP=self.BP, MIXED=size.mixed,
            **self.letters,
            **{n: s for n, s in first.items() if not n.endswith("sl")},
        )  # fmt: skip

    def add_summaries(self) -> None:
        """End states of segments, first apart, then from the start of their sequence."""
        size, ref, cut, rec = self.size, self.ref, self.cut, self.recording
        rec.add(
            walk.ssmprof_scan_mamba3_summaries,
            cut.slots * size.heads * -(-size.width // self.BP),
            self._options(self.meta["sum_warps"], self.meta["sum_stages"]),
            k_ptr=ref["k"], v_ptr=ref["v"], k_bias_ptr=ref["k_bias"], mix_ptr=ref["mimo_v"],
            turns_ptr=self.turns, L=size.length, K=self.K, S=cut.S, **self.same,
            **self.exponents, **self.states, **self.strides["k"], **self.strides["v"],
            **self.tiles,
        )  # fmt: skip
        if cut.segments == 2:
            cells = size.width * size.states
            block = min(1024, ssd_plan.tile(cells))
            rec.add(
                summaries.ssmprof_scan_ssd_combine, size.batch * size.heads * -(-cells // block),
                self._options(), made=self.made, h0_ptr=self.h0, cu_ptr=None, L=self.rows,
                H=size.heads, SIZE=cells, K=self.K, S=cut.S, Q=self.Q, BLOCK=block,
                H0=self.h0 is not None, CUT=parts.Cut(False, False, False),
            )  # fmt: skip

    def add_walk(self) -> None:
        """y, and the state behind the last token."""
        size, ref, cut = self.size, self.ref, self.cut
        self.recording.add(
            walk.ssmprof_scan_mamba3_walk,
            cut.slots * size.heads * -(-size.width // self.BP),
            self._options(self.meta["num_warps"], self.meta["num_stages"]),
            q_ptr=ref["q"], k_ptr=ref["k"], v_ptr=ref["v"], z_ptr=ref["z"],
            q_bias_ptr=ref["q_bias"], k_bias_ptr=ref["k_bias"], mix_ptr=ref["mimo_v"],
            mix_z_ptr=ref["mimo_z"], mix_o_ptr=ref["mimo_out"], d_ptr=ref["D"],
            turns_ptr=self.turns, own_ptr=self.own, h0_ptr=self.h0, y_ptr=ref["out"],
            final_ptr=self.last, L=size.length, K=self.K, S=cut.S,
            GATE=self.given["z"] is not None, SUM=self.given["mimo_out"] is not None,
            H0=self.h0 is not None, FINAL=self.last is not None, SEGMENTS=cut.segments,
            **self.same, **self.exponents, **self.states, **self.strides["q"],
            **self.strides["k"], **self.strides["v"], **self.strides["z"], **self.tiles,
        )  # fmt: skip

    def add_final_state(self) -> None:
        """State, keys and value of the last token, in its frame."""
        size, ref = self.size, self.ref
        if self.last is None:
            return
        self.recording.add(
            states.ssmprof_scan_mamba3_end,
            size.batch * size.heads * -(-size.width // self.BP),
            self._options(),
            h_ptr=self.last, k_ptr=ref["k"], v_ptr=ref["v"], k_bias_ptr=ref["k_bias"],
            sums_ptr=self.sums, final_ptr=ref["final"], L=size.length, chunks=self.chunks,
            BN=ssd_plan.tile(size.states), BP=self.BP, BS=self.BS, FOLD=self.fold,
            **self.same, **self.letters, **self.strides["k"],
            **self.strides["v"],
        )  # fmt: skip
