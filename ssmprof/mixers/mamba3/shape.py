"""Mamba-3 as data (arXiv:2603.15569).

Shape letters: T tokens of the call, d width, D inner width, H heads of width P, G groups of B and
C, N state size, R rank (1: one input and one output per head), Q chunk, S angles. The trapezoidal
rule adds the previous token's input to each step, so that its key and value are kept beside the
state; the complex-valued state is turned by data-dependent angles, pair by pair. Here the state
itself is turned in each step, as the recurrence is written: no running angle is kept. A chunk has Q
/ R tokens, so that its R^2 scores per pair of tokens cost R times those of rank 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from ssmprof.mixers.part import Held, Keys, Memory, Part, State, Weight, alive
from ssmprof.mixers.recurrence import (
    CHUNK,
    chunk_of,
    inside_chunk,
    new_state,
    recurrence,
    state_bytes,
    through_state,
)
from ssmprof.mixers.steps import SHORT_SPAN, Loops
from ssmprof.mixers.workspace import KERNEL_CHUNK, by_chunks, by_span, tile
from ssmprof.scalars import DTYPE_BYTES, Dtype, Size
from ssmprof.work import Cost, Parts, call_tokens, elementwise, gated_norm, matmul, total

if TYPE_CHECKING:
    from ssmprof.mixers.workspace import Form
    from ssmprof.records import Point


class Mamba3(Part, frozen=True, kw_only=True, tag="mamba3"):
    """A scan over a state of (H, P, N), H = d_inner / headdim; no convolution.

    `mimo_rank` above 1 is the multi-input, multi-output form. `rope_fraction` of the state is
    turned. Without `out_norm` the gate is applied inside the scan and nothing is normed.
    """

    label: ClassVar[str] = "Mamba-3"
    scan_op: ClassVar[str] = "mamba3_scan"
    plain: ClassVar[Loops] = Loops(span=117, tokens=SHORT_SPAN)
    memory: ClassVar[Memory] = "fixed"

    d_inner: Size
    d_state: Size = 128
    headdim: Size = 64
    ngroups: Size = 1
    mimo_rank: Annotated[int, Meta(ge=1, le=CHUNK)] = 1
    rope_fraction: Annotated[float, Meta(gt=0, le=1)] = 0.5
    out_norm: bool = False
    state_dtype: Dtype = "float32"

    @property
    def nheads(self) -> int:
        """Heads of the scan."""
        return self.d_inner // self.headdim

    @property
    def angles(self) -> int:
        """Pairs of the state that are turned; their angles are the same for all heads."""
        return int(self.d_state * self.rope_fraction) // 2

    @property
    def projected(self) -> int:
        """Outputs of the first product: gate, x, B, C, step, decay, rule's weight, angles."""
        inputs = 2 * self.d_state * self.ngroups * self.mimo_rank
        return 2 * self.d_inner + inputs + 3 * self.nheads + self.angles

    @property
    def _state(self) -> int:
        """The state, and the previous token's keys of each head and rank, and its value."""
        keys = self.nheads * self.mimo_rank * self.d_state
        return self.d_inner * self.d_state + keys + self.d_inner

    def check(self, d_model: int) -> tuple[str, str] | None:
        """Whole heads, in equal groups."""
        if self.d_inner % self.headdim:
            return "headdim", f"{self.headdim} does not divide d_inner = {self.d_inner}"
        if self.nheads % self.ngroups:
            return "ngroups", f"{self.ngroups} does not divide {self.nheads} heads"
        if not self.angles:
            return "d_state", f"{self.d_state} has no pair to turn"
        return None

    def weights(self, d_model: int) -> list[Weight]:
        """Projections, biases and norms of B and C, bias of the step, skips, mixing of ranks."""
        biases = self.nheads * self.mimo_rank * self.d_state
        found = [
            Weight(self.reads(d_model) * self.projected),
            *[Weight(biases, float32=True)] * 2,
            *[Weight(self.d_state)] * 2,
            *[Weight(self.nheads, float32=True)] * 2,
            Weight(self.d_inner * d_model),
        ]
        if self.mimo_rank > 1:  # of x, gate and output
            found += [Weight(self.mimo_rank * self.d_inner, float32=True)] * 3
        return found + ([Weight(self.d_inner)] if self.out_norm else [])

    def held(self, point: Point) -> list[Held]:
        """State, keys and value as one."""
        return [Held("ssm_state", self._state, self.state_dtype)]

    def kept(self) -> list[Keys | State]:
        """State, keys and value as one."""
        return [State("mamba3", self.nheads, self._state, self.state_dtype)]

    def cost(self, d_model: int, point: Point) -> Parts:
        """Projections, norms of B and C, scan, output."""
        b, tokens, rank = DTYPE_BYTES[point.dtype], call_tokens(point), self.mimo_rank
        inputs = 2 * self.d_state * self.ngroups * rank
        parts = {
            "in_proj": matmul(tokens, self.reads(d_model), self.projected, b),
            "norms": elementwise(tokens * inputs, b, reads=1, flops=4),
            "scan": self._scan(point),
            "out_proj": matmul(tokens, self.d_inner, d_model, b),
        }
        if self.out_norm:
            normed = gated_norm(tokens, self.d_inner * rank, b)
            mixed = 2 * tokens * self.d_inner * rank if rank > 1 else 0
            parts["norm"] = total((normed, elementwise(mixed, b, reads=1, flops=2)))
        return parts

    def _scan(self, point: Point) -> Cost:
        rank, key, value = self.mimo_rank, self.d_state, self.headdim
        turn = 6 * self.angles  # FLOPs of one turned vector, three per element
        if point.phase == "decode":
            # Decayed, turned, two tokens added, used; of R inputs and outputs each.
            flops = key * value * (1 + 6 * rank) + turn * (value + rank)
            exps = 6 * self.nheads
        else:  # B and C are turned instead of the state
            chunk = chunk_of(point, max(CHUNK // rank, 1))
            flops = rank**2 * inside_chunk(chunk, key, value) + 2 * rank * turn
            flops += rank * through_state(chunk * rank, key, value)
            exps = self.nheads * (chunk / 2 + 6)
        mixed = 4 * self.nheads * rank * value if rank > 1 else 0
        gate = 0 if self.out_norm else 1
        wide = self.d_inner * (1 + gate) + 2 * key * self.ngroups * rank
        return recurrence(
            point,
            flops=self.nheads * (flops + 2 * rank * key) + mixed,  # B and C have biases
            exps=exps + 2 * self.angles * self.nheads + gate * 2 * self.d_inner,
            read=wide + 3 * self.nheads + self.angles,
            written=self.d_inner * (rank if self.out_norm else 1),
            state=state_bytes(self._state, self.state_dtype),
        )

    def workspace(self, d_model: int, point: Point, form: Form) -> int:
        """Exponents and turns of every token; rates of every token and a span."""
        if form == "kernels":
            turns = self.nheads * tile(self.angles)
            rows = 3 * self.nheads * 4 * self.mimo_rank + turns * 2
            return by_chunks(point, KERNEL_CHUNK * rows + 4 * turns)
        rank = self.mimo_rank
        widths = 2 * self.nheads * (self.d_state + self.headdim) * rank
        widths += self.nheads * self.d_state * self.headdim / KERNEL_CHUNK
        rates = by_span(point, 5 * self.nheads, point.context)
        return by_span(point, 4 * widths, SHORT_SPAN) + rates if form == "plain" else 0

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The widest of scan, norm and output; a new state lives beside the one it replaces."""
        inner, rank = self.d_inner, self.mimo_rank
        new = new_state(point, state_bytes(self._state, self.state_dtype))
        made = inner * (rank if self.out_norm else 1)
        normed = 2 * self.d_state * self.ngroups * rank
        scan = new + workspace + alive(point, (self.projected, normed, made))
        summed = (made, inner) if rank > 1 else ()
        norm = alive(point, (self.projected, made, made, *summed)) if self.out_norm else 0
        return max(scan, norm, alive(point, (inner, d_model)))
