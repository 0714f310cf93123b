"""Linear attention as data: S_t = a_t S_{t-1} + k_t v_t, o_t = q_t S_t, per head.

Shape letters: T tokens of the call, d width, H heads, K and V width of a key and a value. The
kinds differ in the decay a_t: a gate per key feature and token (gated linear attention), a constant
of the head (retention and lightning attention), and in what is done to the output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from ssmprof import limits
from ssmprof.mixers.linear_attention.base import LinearAttention
from ssmprof.mixers.part import Rank, Weight, alive
from ssmprof.mixers.recurrence import head_norm, new_state, state_bytes
from ssmprof.mixers.steps import WALK, Loops
from ssmprof.mixers.workspace import KERNEL_CHUNK, by_chunks, by_span, squares, tile
from ssmprof.scalars import DTYPE_BYTES
from ssmprof.work import Cost, Parts, call_tokens, elementwise, gated_norm, matmul, total

if TYPE_CHECKING:
    from ssmprof.mixers.workspace import Form
    from ssmprof.records import Point

Base = Annotated[float, Meta(gt=0, le=limits.ROPE_BASE)]


class Gla(LinearAttention, frozen=True, kw_only=True, tag="gla"):
    """Gated linear attention (arXiv:2312.06635, section 4.4).

    The decay of each key feature is the sigmoid of a projection of rank `gate_rank`, to the power
    of 1/16; each head is normed and multiplied by the SiLU of a gate.
    """

    label: ClassVar[str] = "GLA"
    scan_op: ClassVar[str] = "gla"
    plain: ClassVar[Loops] = Loops(chunk=WALK, span=151)

    gate_rank: Rank = 16

    def check(self, d_model: int) -> tuple[str, str] | None:
        """The decay has a rank."""
        if not self.gate_rank:
            return "gate_rank", "0; the decay needs a projection"
        return super().check(d_model)

    def weights(self, d_model: int) -> list[Weight]:
        """Projections, both factors and the bias of the decay, convolution, norm of a head."""
        low, high = self.reads(d_model) * self.gate_rank, self.gate_rank * self.key_width
        return [
            *self.projections(d_model),
            Weight(low),
            Weight(high),
            Weight(self.key_width),
            Weight(self.value_dim),
        ]

    def made(self) -> int:
        """Logits of the gates."""
        return self.key_width

    def workspace(self, d_model: int, point: Point, form: Form) -> int:
        """Scores, queries and keys by their decays, the decay of each chunk; a span."""
        key, shared = tile(self.key_dim), self.kv_heads_or_all
        if form == "kernels":
            rows = key * (
                (self.heads + shared) * KERNEL_CHUNK * DTYPE_BYTES[point.dtype] + 4 * shared
            )
            return by_chunks(point, self.heads * squares(point, 1) + rows)
        widths = self.heads * (13 * self.key_dim + 2 * self.value_dim)
        return by_span(point, widths) if form == "plain" else 0

    def cost(self, d_model: int, point: Point) -> Parts:
        """Projections, decay, recurrence, gated norm."""
        b, tokens, reads = DTYPE_BYTES[point.dtype], call_tokens(point), self.reads(d_model)
        low = matmul(tokens, reads, self.gate_rank, b)
        high = matmul(tokens, self.gate_rank, self.key_width, b, bias=True)
        # A log-sigmoid is two; in a chunk queries and keys are scaled by their decays so far.
        decay = self.kv_heads_or_all * self.key_dim * 2
        scaled = self.heads * self.key_dim * (1 if point.phase == "decode" else 2)
        return {
            **self.projected(d_model, point),
            "decay_proj": total((low, high)),
            "scan": self.scan(point, exps=decay + scaled, extra=self.key_width),
            "norm": head_norm(point, self.heads, self.value_dim, gate=self.gate),
        }


class RetNet(LinearAttention, frozen=True, kw_only=True, tag="retnet"):
    """Multi-scale retention (arXiv:2307.08621, section 2.2): a constant decay per head.

    Queries and keys are turned by their position (`rope_theta`), each head is normed by itself and
    multiplied by the SiLU of a gate.
    """

    label: ClassVar[str] = "RetNet"
    scan_op: ClassVar[str] = "retention"
    plain: ClassVar[Loops] = Loops(chunk=WALK, span=48)

    rope_theta: Base = 10_000.0

    def check(self, d_model: int) -> tuple[str, str] | None:
        """Pairs are pairs."""
        if self.key_dim % 2:
            return "key_dim", f"{self.key_dim} is odd; rotary embedding turns pairs"
        return super().check(d_model)

    def table(self) -> tuple[object, int] | None:
        """Cosine and sine of half a key."""
        return (self.rope_theta, self.key_dim), self.key_dim // 2

    def weights(self, d_model: int) -> list[Weight]:
        """Projections, convolution, norm of a head."""
        return [*self.projections(d_model), Weight(self.value_dim)]

    def made(self) -> int:
        """Queries and keys, turned."""
        return self.heads * self.key_dim + self.key_width

    def cost(self, d_model: int, point: Point) -> Parts:
        """Projections, rotary embedding, recurrence, gated norm."""
        b, tokens = DTYPE_BYTES[point.dtype], call_tokens(point)
        turned = tokens * self.made()
        return {
            **self.projected(d_model, point),
            "rope": elementwise(turned, b, reads=1, flops=3),
            "scan": self.scan(point, exps=0),
            "norm": head_norm(point, self.heads, self.value_dim, gate=self.gate),
        }


class Lightning(LinearAttention, frozen=True, kw_only=True, tag="lightning"):
    """Lightning attention (arXiv:2401.04658, section 3; MiniMax-01: arXiv:2501.08313).

    A constant decay per head and layer; SiLU of queries, keys and values; the norm is over all
    heads together, and the gate is a sigmoid. `norm_eps` None is the model's epsilon.
    """

    label: ClassVar[str] = "lightning attention"
    scan_op: ClassVar[str] = "retention"
    plain: ClassVar[Loops] = Loops(chunk=WALK, span=42)

    norm_eps: Annotated[float, Meta(gt=0, le=1.0)] | None = None

    def weights(self, d_model: int) -> list[Weight]:
        """Projections and the norm over all heads."""
        return [*self.projections(d_model), Weight(self.value_width)]

    def cost(self, d_model: int, point: Point) -> Parts:
        """Projections with their activation, recurrence, gated norm."""
        b, tokens = DTYPE_BYTES[point.dtype], call_tokens(point)
        activated = tokens * (self.heads * self.key_dim + self.key_width + self.kv_value_width)
        return {
            **self.projected(d_model, point),
            "act": elementwise(activated, b, reads=1, flops=2, exps=2),
            "scan": self.scan(point, exps=0),
            "norm": self._normed(tokens, b),
        }

    def made(self) -> int:
        """Queries, keys and values with their activation."""
        return self.channels

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The widest of: activation, recurrence, norm, output."""
        new = new_state(point, state_bytes(self.state_elements, self.state_dtype))
        projected, value = self.channels + (self.value_width if self.gate else 0), self.value_width
        convolved = self.channels if self.d_conv else 0
        kept = projected if self.gate else 0
        return max(
            alive(point, (projected, convolved)),
            alive(point, (kept, convolved or projected - kept, self.channels)),
            new + workspace + alive(point, (kept, self.channels, value)),
            alive(point, (kept, value, value)),
            alive(point, (value, d_model)),
        )

    def _normed(self, tokens: int, b: int) -> Cost:
        if self.gate:
            return gated_norm(tokens, self.value_width, b)
        return elementwise(tokens * self.value_width, b, reads=1, flops=4)
