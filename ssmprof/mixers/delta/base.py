"""What all delta rules share: sizes, projections, state, the rule's work.

Shape letters: H heads, K and V width of a key and a value, C chunk. In the chunked form
(arXiv:2406.06484, section 3; with decay arXiv:2412.06464, section 3) a chunk needs, beside what
linear attention needs, the causal products of its keys, C K per token; the inverse of a unit lower
triangle of (C, C), C^3 / 3; both products with it, C (K + V); and what the state already says
of its keys, 2 K V.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from ssmprof.mixers.part import Conv, Keys, State, Weight, alive, kind
from ssmprof.mixers.recurrence import (
    MatrixState,
    chunk_of,
    conv_weights,
    head_norm,
    inside_chunk,
    new_state,
    recurrence,
    short_conv,
    state_bytes,
    through_state,
)
from ssmprof.mixers.workspace import KERNEL_CHUNK, by_chunks, by_span, squares
from ssmprof.scalars import DTYPE_BYTES, Size
from ssmprof.work import Cost, Parts, call_tokens, elementwise, matmul

if TYPE_CHECKING:
    from ssmprof.mixers.workspace import Form
    from ssmprof.records import Point


class DeltaRule(MatrixState, frozen=True, kw_only=True):
    """Sizes of a layer; `key_heads` None is as many as values, each value head has a state.

    `negative_eigenvalues` doubles the rule's step size (arXiv:2411.12537), which costs nothing;
    `norm_eps` None is the model's epsilon. The other sizes are those of `MatrixState`.
    """

    key_heads: Size | None = None
    d_conv: Conv = 4
    negative_eigenvalues: bool = False
    norm_eps: Annotated[float, Meta(gt=0, le=1.0)] | None = None

    @property
    def key_heads_or_all(self) -> int:
        """Heads of queries and keys."""
        return self.key_heads or self.heads

    @property
    def key_width(self) -> int:
        """Features of all keys of a token."""
        return self.key_heads_or_all * self.key_dim

    @property
    def channels(self) -> int:
        """Queries, keys and values of a token."""
        return 2 * self.key_width + self.value_width

    def check(self, d_model: int) -> tuple[str, str] | None:
        """Heads divide."""
        if self.heads % self.key_heads_or_all:
            return "key_heads", f"{self.key_heads} does not divide {self.heads} heads"
        return None

    def fused(self) -> tuple[int, ...]:
        """Outputs of the first projection: queries with keys and values, gate, inputs of the rule.

        A gate that is projected otherwise has width 0.
        """
        return (self.channels, self.value_width if self.gate else 0, self.heads)

    def projections(self, d_model: int) -> list[Weight]:
        """Of queries, keys, values, step size and output; taps; the norm of a head."""
        reads = self.reads(d_model)
        return [
            Weight(reads * self.channels),
            Weight(reads * self.heads),
            *conv_weights(self.channels, self.d_conv, bias=self.conv_bias),
            Weight(self.value_dim),
            Weight(self.value_width * d_model),
        ]

    def kept(self) -> list[Keys | State]:
        """State and window; ranks share out the heads of keys, and those of values with them."""
        columns = max(self.d_conv - 1, 0)
        return [
            State(
                kind(self),
                self.key_heads_or_all,
                self.state_elements,
                self.state_dtype,
                channels=self.channels,
                columns=columns,
                drafts=True,
            )
        ]

    def projected(self, d_model: int, point: Point) -> Parts:
        """Work of the first projection, the convolution, the norm and the output."""
        b, tokens = DTYPE_BYTES[point.dtype], call_tokens(point)
        parts = {
            "in_proj": matmul(tokens, self.reads(d_model), sum(self.fused()), b),
            "norm": head_norm(point, self.heads, self.value_dim, gate=self.gate),
            "out_proj": matmul(tokens, self.value_width, d_model, b),
        }
        if self.d_conv:
            parts["conv"] = short_conv(point, self.channels, self.d_conv)
        else:
            parts["act"] = elementwise(tokens * self.channels, b, reads=1, flops=2, exps=2)
        return parts

    def rule(self, point: Point, *, decays: int, exps: float) -> Cost:
        """The delta rule; `decays` inputs per token beside queries, keys, values and step sizes.

        `exps` are of the decays. A step decays the state, asks it for its value of the key, writes
        the difference, and uses it.
        """
        chunk, key, value = chunk_of(point), self.key_dim, self.value_dim
        if point.phase == "decode":
            flops = self.heads * (6.0 + (1.0 if decays else 0.0)) * key * value
        else:
            own = inside_chunk(chunk, 0, value) + chunk * (key + value) + chunk**2 / 3
            own += through_state(chunk, key, value) + 2 * key * value
            # Scores of queries and of keys are the same for all values that share a key.
            flops = self.heads * own + self.key_heads_or_all * 2 * chunk * key
        return recurrence(
            point,
            flops=flops,
            # The norms of a query and a key, the sigmoid of a step size.
            exps=2 * self.key_heads_or_all + self.heads + exps,
            read=self.channels + self.heads + decays,
            written=self.value_width,
            state=state_bytes(self.state_elements, self.state_dtype),
        )

    def doubled(self, point: Point) -> tuple[int, int]:
        """Tokens of a chunk, and how many numbers our kernels keep for one of the solution."""
        twice = self.negative_eigenvalues and point.dtype == "bfloat16"
        return (KERNEL_CHUNK // 2, 2) if twice else (KERNEL_CHUNK, 1)

    def workspace(self, d_model: int, point: Point, form: Form) -> int:
        """Scores and solution of each chunk, and three factors per token; a span."""
        if form == "kernels":
            chunk, numbers = self.doubled(point)
            size = squares(point, 1 + numbers, chunk) + 4 * (3 * chunk + 1)
            return by_chunks(point, self.heads * size, chunk)
        widths = self.heads * (4 * self.key_dim + 4 * self.value_dim + 2 * KERNEL_CHUNK)
        return by_span(point, widths) if form == "plain" else 0

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The widest of: recurrence with its inputs, norm, output."""
        new = new_state(point, state_bytes(self.state_elements, self.state_dtype))
        projected, value = sum(self.fused()), self.value_width
        return max(
            new + workspace + alive(point, (projected, self.channels, value)),
            alive(point, (projected if self.gate else 0, value, value)),
            alive(point, (value, d_model)),
        )
