"""Which kernels a Mamba-3 scan launches, with which tiles, segments and arguments.

Promises: depends on shapes, strides, dtypes and options only; `record` launches nothing.

The scan is one of Mamba-2 (`ssd_scan`) over rows, `ranks` of each token, whose keys and queries
have been turned into the frame of the first token: then the state need not be turned. What differs
is the weight of a row in its own token, which is folded into the products of its keys and queries.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ssmprof_kernels import launch, replay, ssd_launches, ssd_plan, ssd_summaries
from ssmprof_kernels.mamba3 import rates, turning, walk

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
FOLD = 32


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
    )


def record(tensors: tuple[Tensor | None, ...], meta: dict[str, Any]) -> replay.Recording:
    """Choose kernels, tiles and segments; `tensors` in the order of `NAMES`."""
    return _Scan(tensors, meta).recording


class _Scan:
    """One recording in the making."""

    def __init__(self, tensors: tuple[Tensor | None, ...], meta: dict[str, Any]) -> None:
        self.given = dict(zip(NAMES, tensors, strict=True))
        self.ref = {name: replay.Arg(i) for i, name in enumerate(NAMES)}
        self.size = sizes(self.given)
        v = self.given["v"]
        assert v is not None
        self.dtype, self.device = v.dtype, v.device
        self.interpret = not v.is_cuda
        self.facts = launch.facts(v.device)
        self.driven = self._driven(meta)
        self.rows = self.size.length * self.size.ranks
        self.Q = meta["Q"]
        self.BP = min(16 if v.dtype == torch.float32 else meta["BP"], ssd_plan.tile(self.size.width))
        self.BN = ssd_plan.tile(self.size.states)
        self.BS = ssd_plan.tile(self.size.angles)
        self.cut = ssd_plan.plan(
            self.size.batch, self.rows, self.size.heads, self.size.width, None, meta,
            self.facts.sm_count,
        )  # fmt: skip
        self.K = self.cut.T // self.Q
        self.chunks = self.cut.S * self.K
        self.fold = power_of_two(self.chunks) if self.chunks <= FOLD else 0
        self.apart = self.dtype == torch.float32
        self.recording = replay.Recording(len(tensors))
        self.meta = meta
        self.strides = {name: self._strides(name) for name in _STRIDES}
        self._reserve()
        self._prepare()
        self._scan()
        self._close()

    def _driven(self, meta: dict[str, Any]) -> bool:
        """Whether Hopper's form of the scan serves."""
        size = self.size
        return bool(
            ssd_launches.GLUON
            and self.facts.sm == 90
            and meta["gluon"]
            and meta["Q"] == 64
            and self.dtype != torch.float32
            and size.width % 64 == 0
            and meta["BP"] == 64
            and size.states in (32, 64, 128)
            and (size.mixed or ssd_launches._is_matrix(self.given["v"]))  # type: ignore[arg-type]
        )

    def _strides(self, name: str) -> dict[str, int]:
        letter, axes = _STRIDES[name]
        t = self.given[name]
        steps = (0,) * len(axes) if t is None else t.stride()
        return {f"{letter}_s{a}": s for a, s in zip(axes, steps, strict=True)}

    def _options(self, warps: int = 4, stages: int = 2) -> dict[str, Any]:
        found = {"num_warps": warps, "num_stages": stages}
        return found if self.interpret else found | {"enable_fp_fusion": True}

    def _reserve(self) -> None:
        """Scratch: exponents, turns, rows, states."""
        rec, size, cut = self.recording, self.size, self.cut
        of_row = (cut.slots, size.heads, cut.T)
        rows = (size.batch, self.rows, size.heads)
        self.exponents = {"decays_ptr": rec.work(*of_row), "sources_ptr": rec.work(*of_row)}
        self.own = rec.work(*of_row)
        self.sums = rec.work(size.batch, self.chunks + 1, size.heads, self.BS)
        self.turned_k = rec.tensor(*rows, size.states, dtype=self.dtype)
        self.turned_q = rec.tensor(*rows, size.states, dtype=self.dtype)
        square = (size.batch * self.chunks, size.heads, self.Q, self.Q)
        self.pairs = rec.tensor(*square, dtype=self.dtype)
        self.x = self.ref["v"]
        self.x_strides = {f"x_s{a}": self.strides["v"][f"v_s{a}"] for a in "blhp"}
        if size.mixed:
            self.x = rec.tensor(*rows, size.width, dtype=self.dtype)
            steps = (self.rows * size.heads * size.width, size.heads * size.width, size.width, 1)
            self.x_strides = {f"x_s{a}": s for a, s in zip("blhp", steps, strict=True)}
        # Ranks that stay apart without a gate are written where they are wanted.
        apart = self.given["mimo_out"] is None and self.given["z"] is None
        self.finished = size.mixed and not (apart and size.ranks == size.rank)
        self.y = self.ref["out"]
        if self.finished:
            self.y = rec.tensor(*rows, size.width, dtype=self.dtype)
        state = (size.heads, size.width, size.states)
        self.h0 = None if self.given["state"] is None else rec.work(size.batch, *state)
        self.last = None if self.given["final"] is None else rec.work(size.batch, *state)
        self.states: dict[str, Any] = {"state_ptr": None, "decay_ptr": None}
        if cut.segments:
            self.states = {
                "state_ptr": rec.work(cut.slots, *state),
                "decay_ptr": rec.work(cut.slots, size.heads),
            }

    def _prepare(self) -> None:
        """All that knows no state."""
        size, ref, rec = self.size, self.ref, self.recording
        tokens = self.Q // size.ranks
        same = {"L": size.length, "H": size.heads, "chunks": self.chunks, "K": self.K}
        turns = {"angle_ptr": ref["angles"], "bias_ptr": ref["dt_bias"], "sums_ptr": self.sums}
        rec.add(
            rates._rates,
            size.batch * self.chunks * -(-size.heads // 16),
            self._options(),
            a_ptr=ref["a"], dt_ptr=ref["dt"], trap_ptr=ref["trap"], own_ptr=self.own,
            ANGLES=size.angles, TOKENS=tokens, RANKS=size.ranks, BT=max(16, tokens), BS=self.BS,
            HEADS=16, APART=self.apart, INTERPRET=self.interpret, **turns, **same,
            **self.exponents, **self.strides["a"], **self.strides["dt"], **self.strides["trap"],
            **self.strides["angles"],
        )  # fmt: skip
        if not self.fold:
            rec.add(
                rates._prefix, size.batch * size.heads, self._options(), sums_ptr=self.sums,
                H=size.heads, chunks=self.chunks, BS=self.BS, BC=32,
            )  # fmt: skip
        rec.add(
            turning._turn,
            size.batch * self.chunks * size.heads,
            self._options(self.meta.get("turn_warps", 4)),
            q_ptr=ref["q"], k_ptr=ref["k"], v_ptr=ref["v"], dt_ptr=ref["dt"],
            q_bias_ptr=ref["q_bias"], k_bias_ptr=ref["k_bias"], mix_ptr=ref["mimo_v"],
            own_ptr=self.own, q_out=self.turned_q, k_out=self.turned_k,
            x_out=self.x if size.mixed else None, pairs_ptr=self.pairs,
            PER_GROUP=size.heads // size.groups, N=size.states, P=size.width, R=size.rank,
            RANKS=size.ranks, ANGLES=size.angles, Q=self.Q, BN=self.BN, BP=self.BP, BS=self.BS,
            FOLD=self.fold, MIXED=size.mixed, INTERPRET=self.interpret, **turns, **same,
            **self.strides["q"], **self.strides["k"], **self.strides["v"], **self.strides["dt"],
            **self.strides["angles"],
        )  # fmt: skip
        if self.h0 is not None:
            state = self.given["state"]
            assert state is not None
            first = {n: s for d in ("dt", "trap") for n, s in self.strides[d].items()}
            rec.add(
                turning._begin,
                size.batch * size.heads * -(-size.width // self.BP),
                self._options(),
                state_ptr=ref["state"], dt_ptr=ref["dt"], trap_ptr=ref["trap"],
                bias_ptr=ref["dt_bias"], mix_ptr=ref["mimo_v"], h0_ptr=self.h0, H=size.heads,
                s_b=state.stride(0), N=size.states, P=size.width, R=size.rank, BN=self.BN,
                BP=self.BP, MIXED=size.mixed, INTERPRET=self.interpret,
                **{n: s for n, s in first.items() if not n.endswith("sl")},
            )  # fmt: skip

    def _scan(self) -> None:
        """Summaries of segments, and the walk."""
        size, cut, rec = self.size, self.cut, self.recording
        grid = cut.slots * size.heads * -(-size.width // self.BP)
        if cut.segments:
            if self.driven:
                self._hopper_summaries(grid)
            else:
                rec.add(
                    walk._summaries, grid, self._options(self.meta["sum_warps"], self._stages()),
                    x_ptr=self.x, k_ptr=self.turned_k, L=self.rows, H=size.heads, K=self.K,
                    S=cut.S, **self.exponents, **self.states, **self.x_strides, **self._tiles(),
                )  # fmt: skip
        if cut.segments == 2:
            state = size.width * size.states
            block = min(1024, ssd_plan.tile(state))
            rec.add(
                ssd_summaries._combine, size.batch * size.heads * -(-state // block),
                self._options(), h0_ptr=self.h0, cu_ptr=None, L=self.rows, H=size.heads,
                SIZE=state, K=self.K, S=cut.S, Q=self.Q, BLOCK=block, H0=self.h0 is not None,
                VARLEN=False, PDL=False, **self.states,
            )  # fmt: skip
        gate = self.given["z"] is not None and not size.mixed
        same = {
            "d_ptr": self.ref["D"], "z_ptr": self.ref["z"] if gate else None, "h0_ptr": self.h0,
            "y_ptr": self.y, "final_ptr": self.last, "pairs_ptr": self.pairs, "L": self.rows,
            "H": size.heads, "K": self.K, "S": cut.S, "GATE": gate, "H0": self.h0 is not None,
            "FINAL": self.last is not None, "SEGMENTS": cut.segments, "RANKS": size.ranks,
            **self.exponents, **self.states, **self.x_strides, **self.strides["z"],
        }  # fmt: skip
        if self.driven:
            self._hopper_walk(grid, same)
        else:
            rec.add(
                walk._walk, grid, self._options(8 if self.apart else self.meta["num_warps"], self._stages()),
                x_ptr=self.x, k_ptr=self.turned_k, q_ptr=self.turned_q, **same, **self._tiles(),
            )  # fmt: skip

    def _stages(self) -> int:
        """Blackwell pipelines wrongly (`ssd_plan.DEFAULT_BLACKWELL`); fp32 and fp16 are wide."""
        return 2 if self.dtype == torch.bfloat16 and self.facts.sm < 100 else 1

    def _tiles(self) -> dict[str, Any]:
        size = self.size
        return {
            "N": size.states, "P": size.width, "Q": self.Q, "BP": self.BP, "BN": self.BN,
            "APART": self.apart, "WIDE": self.interpret or self.dtype == torch.float16,
            "PRECISION": "tf32x3" if self.dtype == torch.float32 else "tf32",
        }  # fmt: skip

    def _views(self) -> tuple[Any, Any, Any]:
        """Descriptors of values, keys and queries."""
        from ssmprof_kernels import ssd_hopper

        def view(arg: Any, columns: int) -> replay.View:
            make = functools.partial(ssd_hopper.matrix, rows=self.Q, columns=columns)
            return replay.View(arg.index, make)

        return view(self.x, self.BP), view(self.turned_k, self.BN), view(self.turned_q, self.BN)

    def _plain(self) -> dict[str, Any]:
        """What the kernels of the Mamba-2 scan want to know, too."""
        size, cut = self.size, self.cut
        return {
            "cu_ptr": None, "PER_GROUP": 1, "P": size.width, "N": size.states, "Q": self.Q,
            "BP": self.BP, "BN": self.BN, "VARLEN": False, "PDL": False, "count": size.batch,
            "steps": 0, "L": self.rows, "H": size.heads, "K": self.K, "S": cut.S,
        }  # fmt: skip

    def _hopper_summaries(self, grid: int) -> None:
        from ssmprof_kernels import ssd_hopper

        x, k, _ = self._views()
        self.recording.add(
            ssd_hopper._summaries, grid, self._options(), x_desc=x, b_desc=k,
            STAGES=self.meta["sum_ring"], **self.exponents, **self.states, **self._plain(),
        )  # fmt: skip

    def _hopper_walk(self, grid: int, same: dict[str, Any]) -> None:
        from ssmprof_kernels import ssd_hopper_walk

        x, k, q = self._views()
        row = self.size.heads * self.size.states
        steps = dict(zip("blgn", (self.rows * row, row, self.size.states, 1), strict=True))
        self.recording.add(
            ssd_hopper_walk._walk, grid, self._options(), x_desc=x, b_desc=k, c_desc=q,
            x_ptr=self.x, b_ptr=self.turned_k, c_ptr=self.turned_q, SKIP=1,
            **{f"b_s{a}": s for a, s in steps.items()}, **{f"c_s{a}": s for a, s in steps.items()},
            **(self._plain() | same),
        )  # fmt: skip

    def _close(self) -> None:
        """Final state, gates and sum of ranks."""
        size, ref, rec = self.size, self.ref, self.recording
        if self.last is not None:
            rec.add(
                turning._end,
                size.batch * size.heads * -(-size.width // self.BP),
                self._options(),
                h_ptr=self.last, k_ptr=ref["k"], v_ptr=ref["v"], k_bias_ptr=ref["k_bias"],
                sums_ptr=self.sums, final_ptr=ref["final"], L=size.length, H=size.heads,
                PER_GROUP=size.heads // size.groups, chunks=self.chunks, N=size.states,
                P=size.width, R=size.rank, BN=self.BN, BP=self.BP, BS=self.BS, FOLD=self.fold,
                INTERPRET=self.interpret, **self.strides["k"], **self.strides["v"],
            )  # fmt: skip
        if self.finished:
            wide = power_of_two(size.width)
            heads = max(1, 2048 // wide)
            gate = self.given["z"] is not None
            rec.add(
                turning._finish,
                size.batch * size.length * -(-size.heads // heads),
                self._options(),
                y_ptr=self.y, z_ptr=ref["z"], mix_z_ptr=ref["mimo_z"], mix_o_ptr=ref["mimo_out"],
                out_ptr=ref["out"], L=size.length, H=size.heads, P=size.width, R=size.rank,
                RANKS=size.ranks, BH=min(heads, power_of_two(size.heads)), BP=wide, GATE=gate,
                SUM=self.given["mimo_out"] is not None, **self.strides["z"],
            )  # fmt: skip
