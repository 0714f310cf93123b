"""What all kinds of linear attention share: sizes, projections, state, the recurrence's work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ssmprof.mixers.part import Keys, State, Weight, alive, kind
from ssmprof.mixers.recurrence import (
    MatrixState,
    chunk_of,
    conv_weights,
    inside_chunk,
    new_state,
    recurrence,
    short_conv,
    state_bytes,
    through_state,
)
from ssmprof.mixers.workspace import KERNEL_CHUNK, by_chunks, by_span, squares
from ssmprof.scalars import DTYPE_BYTES, Size
from ssmprof.work import Cost, Parts, call_tokens, matmul

if TYPE_CHECKING:
    from ssmprof.mixers.workspace import Form
    from ssmprof.records import Point


class LinearAttention(MatrixState, frozen=True, kw_only=True):
    """Sizes of a layer; `kv_heads` None is as many as queries, each head has a state of its own.

    The other sizes are those of `MatrixState`.
    """

    kv_heads: Size | None = None

    @property
    def kv_heads_or_all(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads

    @property
    def key_width(self) -> int:
        """Features of all keys of a token."""
        return self.kv_heads_or_all * self.key_dim

    @property
    def kv_value_width(self) -> int:
        """Features of all values of a token."""
        return self.kv_heads_or_all * self.value_dim

    @property
    def channels(self) -> int:
        """Queries, keys and values of a token."""
        return self.heads * self.key_dim + self.key_width + self.kv_value_width

    def check(self, d_model: int) -> tuple[str, str] | None:
        """Heads divide."""
        if self.heads % self.kv_heads_or_all:
            return "kv_heads", f"{self.kv_heads} does not divide {self.heads} heads"
        return None

    def projections(self, d_model: int) -> list[Weight]:
        """Of queries, keys, values, gate and output, and the convolution's taps."""
        reads = self.reads(d_model)
        return [
            Weight(reads * self.channels),
            *([Weight(reads * self.value_width)] if self.gate else []),
            *conv_weights(self.channels, self.d_conv, bias=self.conv_bias),
            Weight(self.value_width * d_model),
        ]

    def kept(self) -> list[Keys | State]:
        """State and window; ranks share out the heads of keys."""
        heads, columns = self.kv_heads_or_all, max(self.d_conv - 1, 0)
        channels = self.channels
        return [State(kind(self), heads, self.state_elements, self.state_dtype, channels, columns)]

    def projected(self, d_model: int, point: Point) -> Parts:
        """Work of the projections and the convolution."""
        b, tokens = DTYPE_BYTES[point.dtype], call_tokens(point)
        width = self.channels + (self.value_width if self.gate else 0)
        parts = {
            "in_proj": matmul(tokens, self.reads(d_model), width, b),
            "out_proj": matmul(tokens, self.value_width, d_model, b),
        }
        if self.d_conv:
            parts["conv"] = short_conv(point, self.channels, self.d_conv)
        return parts

    def scan(self, point: Point, *, exps: float, extra: int = 0) -> Cost:
        """The recurrence; `exps` per token, `extra` inputs beside queries, keys and values."""
        chunk, key, value = chunk_of(point), self.key_dim, self.value_dim
        if point.phase == "decode":  # decayed, added to, used
            flops = 5.0 * key * value
        else:
            flops = inside_chunk(chunk, key, value) + through_state(chunk, key, value)
        return recurrence(
            point,
            flops=self.heads * flops,
            exps=exps,
            read=self.channels + extra,
            written=self.value_width,
            state=state_bytes(self.state_elements, self.state_dtype),
        )

    def made(self) -> int:
        """Features made for the recurrence beside queries, keys and values as projected."""
        raise NotImplementedError

    def workspace(self, d_model: int, point: Point, form: Form) -> int:
        """Scores of each chunk; a span."""
        if form == "kernels":
            return by_chunks(point, self.heads * squares(point, 1))
        widths = self.heads * (4 * self.key_dim + 3 * self.value_dim + KERNEL_CHUNK)
        return by_span(point, widths) if form == "plain" else 0

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The widest of: convolution, recurrence with its inputs, norm, output."""
        new = new_state(point, state_bytes(self.state_elements, self.state_dtype))
        projected, value = self.channels + (self.value_width if self.gate else 0), self.value_width
        convolved = self.channels if self.d_conv else 0
        kept = projected if self.gate or not convolved else 0
        return max(
            alive(point, (projected, convolved)),
            new + workspace + alive(point, (kept, convolved, self.made(), value)),
            alive(point, (projected if self.gate else 0, value, value)),
            alive(point, (value, d_model)),
        )
