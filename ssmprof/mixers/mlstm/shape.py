"""The matrix LSTM as data (arXiv:2405.04517, section 2.3; arXiv:2503.13427, section 3).

Shape letters: T tokens of the call, d width, H heads, K and V width of a key and a value. A head
keeps its matrix (K, V), a normaliser (K) and the running maximum of its exponential gates. The
chunked form is that of linear attention, with one more value for the normaliser
(arXiv:2503.14376).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from ssmprof import limits
from ssmprof.mixers.part import Held, Keys, Memory, Part, State, Weight, alive
from ssmprof.mixers.recurrence import (
    chunk_of,
    inside_chunk,
    new_state,
    recurrence,
    state_bytes,
    through_state,
)
from ssmprof.mixers.steps import SHORT_SPAN, Loops, Steps
from ssmprof.scalars import DTYPE_BYTES, Dtype, Size
from ssmprof.work import Cost, Parts, call_tokens, matmul, total, work

if TYPE_CHECKING:
    from ssmprof.mixers.workspace import Form
    from ssmprof.records import Point

Cap = Annotated[float, Meta(gt=0, le=limits.SCALE)]


class Mlstm(Part, frozen=True, kw_only=True, tag="mlstm"):
    """Exponential input gate, sigmoid forget gate, both one per head and bounded by `gate_cap`.

    `key_dim` and `value_dim` are of one head. Each head is normed and multiplied by the sigmoid of
    the output gate.
    """

    label: ClassVar[str] = "mLSTM"
    memory: ClassVar[Memory] = "fixed"
    plain: ClassVar[Loops] = Loops(span=68, tokens=SHORT_SPAN)

    heads: Size
    key_dim: Size
    value_dim: Size
    gate_cap: Cap | None = 15.0
    state_dtype: Dtype = "float32"

    @property
    def key_width(self) -> int:
        """Features of all keys of a token."""
        return self.heads * self.key_dim

    @property
    def value_width(self) -> int:
        """Features of all values of a token."""
        return self.heads * self.value_dim

    @property
    def projected(self) -> int:
        """Queries, keys, values and output gate."""
        return 2 * self.key_width + 2 * self.value_width

    @property
    def _state(self) -> int:
        return self.heads * (self.key_dim * self.value_dim + self.key_dim + 1)

    def weights(self, d_model: int) -> list[Weight]:
        """Projections, both gates with their bias, norm of heads."""
        reads, gates = self.reads(d_model), 2 * self.heads
        return [
            Weight(reads * self.projected),
            *[Weight(reads * gates), Weight(gates)],
            Weight(self.value_width),
            Weight(self.value_width * d_model),
        ]

    def held(self, point: Point) -> list[Held]:
        """Matrix, normaliser and maximum of every head."""
        return [Held("ssm_state", self._state, self.state_dtype)]

    def kept(self) -> list[Keys | State]:
        """Matrix, normaliser and maximum of every head."""
        return [State("mlstm", self.heads, self._state, self.state_dtype)]

    def cost(self, d_model: int, point: Point) -> Parts:
        """Projections, recurrence, gated norm, output."""
        b, tokens, reads = DTYPE_BYTES[point.dtype], call_tokens(point), self.reads(d_model)
        width = self.value_width
        projected = matmul(tokens, reads, self.projected, b)
        return {
            "in_proj": total((projected, matmul(tokens, reads, 2 * self.heads, b, bias=True))),
            "scan": self._scan(point),
            "norm": work(
                flops=tokens * width * 6,
                read=(2 * tokens + 1) * width * b,
                written=tokens * width * b,
                exps=tokens * (width + self.heads),
            ),
            "out_proj": matmul(tokens, width, d_model, b),
        }

    def _scan(self, point: Point) -> Cost:
        chunk, key, value = chunk_of(point), self.key_dim, self.value_dim + 1
        caps = 2 if self.gate_cap is not None else 0
        if point.phase == "decode":  # decayed, added to, used
            flops, exps = 5.0 * key * value, 4.0 + caps
        else:
            flops = inside_chunk(chunk, key, value) + through_state(chunk, key, value)
            exps = chunk / 2 + 4 + caps
        return recurrence(
            point,
            flops=self.heads * flops,
            exps=self.heads * exps,
            read=2 * self.key_width + self.value_width + 2 * self.heads,
            written=self.value_width,
            state=state_bytes(self._state, self.state_dtype),
        )

    def steps(self, point: Point, form: Form) -> Steps:
        """Those of the plain form, the only one."""
        return self.plain.steps(point)

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The widest of: recurrence beside the output gate, norm, output."""
        new = new_state(point, state_bytes(self._state, self.state_dtype))
        width = self.value_width
        return max(
            new + alive(point, (self.projected, 2 * self.heads, width)),
            alive(point, (self.projected, width, width, width)),
            alive(point, (width, d_model)),
        )
