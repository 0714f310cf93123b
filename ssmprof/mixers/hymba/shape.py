"""Hymba's block as data (arXiv:2411.13676, section 2.1).

Attention and Mamba-1 read one projection; each output, as wide as the Mamba's inner width D, is
normed, their mean goes through one output projection. The projection of both is counted as the two
it consists of; the one for the output is the Mamba's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.part import Held, Keys, Memory, Part, State, Weight, alive
from ssmprof.mixers.steps import Steps
from ssmprof.scalars import DTYPE_BYTES
from ssmprof.work import Parts, call_tokens, elementwise, rms_norm, total

if TYPE_CHECKING:
    from ssmprof.mixers.workspace import Form
    from ssmprof.records import Point


class Hymba(Part, frozen=True, kw_only=True, tag="hymba"):
    """Attention without its output projection beside a Mamba-1, both normed and averaged."""

    label: ClassVar[str] = "Hymba"
    scan_op: ClassVar[str] = "selective_scan"
    memory: ClassVar[Memory] = "both"

    attention: Attention
    mamba: Mamba1

    def check(self, d_model: int) -> tuple[str, str] | None:
        """Both outputs are of one width."""
        inner, out = self.mamba.d_inner, self.attention.heads * self.attention.v_dim
        if out != inner:
            return "attention.heads", f"{out} features of all values, but d_inner = {inner}"
        if self.attention.out_bias or self.attention.qkv_bias:
            return "attention.qkv_bias", "the projections are shared with the Mamba"
        if self.attention.d_conv:
            return "attention.d_conv", "only the Mamba's input is convolved"
        for name, part in (("attention", self.attention), ("mamba", self.mamba)):
            problem = part.check(d_model)
            if problem:
                return f"{name}.{problem[0]}", problem[1]
        return None

    def weights(self, d_model: int) -> list[Weight]:
        """Those of both with one output projection, and a norm of each output."""
        inner = self.mamba.d_inner
        out = Weight(inner * d_model)
        found = self.attention.weights(d_model)
        found.remove(out)
        return [*found, *self.mamba.weights(d_model), *[Weight(inner)] * 2]

    def held(self, point: Point) -> list[Held]:
        """Keys and values, window and state."""
        return [*self.attention.held(point), *self.mamba.held(point)]

    def kept(self) -> list[Keys | State]:
        """Keys and values, state and window."""
        return [*self.attention.kept(), *self.mamba.kept()]

    def table(self) -> tuple[object, int] | None:
        """The attention's."""
        return self.attention.table()

    def cost(self, d_model: int, point: Point) -> Parts:
        """Work of both without the attention's output, norms and mean."""
        b, tokens, inner = DTYPE_BYTES[point.dtype], call_tokens(point), self.mamba.d_inner
        attention = self.attention.cost(d_model, point)
        del attention["out_proj"]
        norm = rms_norm(tokens, inner, b)
        mean = elementwise(tokens * inner, b, reads=2, flops=2)
        return {**attention, **self.mamba.cost(d_model, point), "merge": total((norm, norm, mean))}

    def workspace(self, d_model: int, point: Point, form: Form) -> int:
        """Of the Mamba."""
        return self.mamba.workspace(d_model, point, form)

    def steps(self, point: Point, form: Form) -> Steps:
        """Of the Mamba."""
        return self.mamba.steps(point, form)

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The Mamba beside the attention's projection and output; or the attention."""
        inner, attention = self.mamba.d_inner, self.attention
        beside = alive(point, (attention.qkv_width, inner))
        projected = alive(point, (2 * inner,))
        first = projected + attention.peak(d_model, point)
        return max(first, beside + self.mamba.peak(d_model, point, workspace))
