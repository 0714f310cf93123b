"""Delta rules as data: S_t = a_t S_{t-1} (I - b_t k_t k_t) + b_t v_t k_t, o_t = S_t q_t.

The kinds differ in the decay a_t: none (DeltaNet), one per head (gated DeltaNet), one per key
feature (Kimi delta attention). Shape letters: T tokens of the call, d width, H heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ssmprof.mixers.delta.base import DeltaRule
from ssmprof.mixers.part import Rank, Weight, alive
from ssmprof.mixers.recurrence import chunk_of, new_state, state_bytes
from ssmprof.mixers.steps import DELTA_WALK, Loops
from ssmprof.mixers.workspace import KERNEL_CHUNK, by_chunks, by_span, squares, tile
from ssmprof.scalars import DTYPE_BYTES
from ssmprof.work import Parts, call_tokens, matmul, total

if TYPE_CHECKING:
    from ssmprof.mixers.workspace import Form
    from ssmprof.records import Point


class Delta(DeltaRule, frozen=True, kw_only=True, tag="delta"):
    """DeltaNet (arXiv:2406.06484): no decay; published models have no gate."""

    label: ClassVar[str] = "DeltaNet"
    scan_op: ClassVar[str] = "delta_rule"
    plain: ClassVar[Loops] = Loops(chunk=DELTA_WALK - 1, span=131)  # nothing decays

    gate: bool = False

    def weights(self, d_model: int) -> list[Weight]:
        """Projections, taps, norm, and the gate's projection where there is one."""
        gate = [Weight(self.reads(d_model) * self.value_width)] if self.gate else []
        return [*self.projections(d_model), *gate]

    def cost(self, d_model: int, point: Point) -> Parts:
        """Projections, convolution, rule, norm."""
        return {
            **self.projected(d_model, point),
            "scan": self.rule(point, decays=0, exps=0),
        }


class GatedDelta(DeltaRule, frozen=True, kw_only=True, tag="gated_delta"):
    """Gated DeltaNet (arXiv:2412.06464): one decay per head, as Mamba-2 has it."""

    label: ClassVar[str] = "gated DeltaNet"
    scan_op: ClassVar[str] = "gated_delta_rule"
    plain: ClassVar[Loops] = Loops(chunk=DELTA_WALK, span=180)

    def fused(self) -> tuple[int, ...]:
        """Beside the rest one decay per head."""
        return (*super().fused(), self.heads)

    def workspace(self, d_model: int, point: Point, form: Form) -> int:
        """A span with queries and keys by their decays; kernels as without a decay."""
        decayed = by_span(point, 3 * self.heads * self.key_dim) if form == "plain" else 0
        return super().workspace(d_model, point, form) + decayed

    def weights(self, d_model: int) -> list[Weight]:
        """Projections, taps, norm; projection, rate and bias of the decay."""
        reads = self.reads(d_model)
        return [
            *self.projections(d_model),
            *([Weight(reads * self.value_width)] if self.gate else []),
            Weight(reads * self.heads),
            *[Weight(self.heads, float32=True)] * 2,
        ]

    def cost(self, d_model: int, point: Point) -> Parts:
        """Projections, convolution, rule, gated norm."""
        # Softplus and exponential of a decay; in a chunk the decays between its pairs of tokens.
        pairs = 0 if point.phase == "decode" else chunk_of(point) / 2
        rule = self.rule(point, decays=self.heads, exps=self.heads * (3 + pairs))
        return {**self.projected(d_model, point), "scan": rule}


class Kda(DeltaRule, frozen=True, kw_only=True, tag="kda"):
    """Kimi delta attention (arXiv:2510.26692, section 3): one decay per key feature.

    Decay and gate are projections of rank `rank` (None: the width of a value head); the gate is a
    sigmoid, and has a bias where `gate_bias` says so.
    """

    label: ClassVar[str] = "KDA"
    scan_op: ClassVar[str] = "kda"
    plain: ClassVar[Loops] = Loops(chunk=DELTA_WALK, span=391)

    rank: Rank | None = None
    gate_bias: bool = False

    @property
    def low_rank(self) -> int:
        """Rank of decay and gate."""
        return self.rank or self.value_dim

    def fused(self) -> tuple[int, ...]:
        """The gate has projections of its own."""
        return (self.channels, 0, self.heads)

    def weights(self, d_model: int) -> list[Weight]:
        """Projections, taps, norm; factors, bias and rate of the decay; factors of the gate."""
        reads, rank = self.reads(d_model), self.low_rank
        decays = self.heads * self.key_dim
        found = [
            *self.projections(d_model),
            Weight(reads * rank),
            Weight(rank * decays),
            Weight(decays, float32=True),
            Weight(self.heads, float32=True),
        ]
        if self.gate:
            found += [Weight(reads * rank), Weight(rank * self.value_width)]
            found += [Weight(self.value_width)] if self.gate_bias else []
        return found

    def cost(self, d_model: int, point: Point) -> Parts:
        """Projections, convolution, decay, gate, rule, gated norm."""
        b, tokens, reads = DTYPE_BYTES[point.dtype], call_tokens(point), self.reads(d_model)
        decays = self.heads * self.key_dim
        low = matmul(tokens, reads, self.low_rank, b)
        # Softplus and exponential; in a chunk queries and keys are scaled by their decays so far.
        exps = decays * (3 if point.phase == "decode" else 4)
        parts = {
            **self.projected(d_model, point),
            "decay_proj": total((low, matmul(tokens, self.low_rank, decays, b))),
            "scan": self.rule(point, decays=decays, exps=exps),
        }
        if self.gate:
            high = matmul(tokens, self.low_rank, self.value_width, b, bias=self.gate_bias)
            parts["gate_proj"] = total((low, high))
        return parts

    def workspace(self, d_model: int, point: Point, form: Form) -> int:
        """Scores, solution, queries and keys by their decays, decay of each chunk; a span."""
        key = tile(self.key_dim)
        if form == "kernels":
            chunk, numbers = self.doubled(point)
            rows = key * ((2 + numbers) * chunk * DTYPE_BYTES[point.dtype] + 4)
            size = squares(point, 1 + numbers, chunk) + rows
            return by_chunks(point, self.heads * size, chunk)
        widths = self.heads * (15 * self.key_dim + 3 * self.value_dim + KERNEL_CHUNK)
        return by_span(point, widths) if form == "plain" else 0

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The widest of: recurrence with its inputs and decays, gate, norm, output."""
        new = new_state(point, state_bytes(self.state_elements, self.state_dtype))
        decays, value = self.heads * self.key_dim, self.value_width
        ruled = (sum(self.fused()), self.channels, decays, value)
        gated = (value, value, max(value, self.low_rank)) if self.gate else (value, value)
        ruling = new + workspace + alive(point, ruled)
        return max(ruling, alive(point, gated), alive(point, (value, d_model)))
