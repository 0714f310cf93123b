"""The gated memory unit as data (arXiv:2507.06607, section 2).

Shape letters: T tokens of the call, d width, m width of the memory. The memory is what the nearest
state-space layer before it made of the same token, before its gate: out(m silu(in(x))). Nothing is
kept between tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.part import Part, Weight, alive
from ssmprof.scalars import DTYPE_BYTES, Size
from ssmprof.work import Parts, call_tokens, elementwise, matmul

if TYPE_CHECKING:
    from ssmprof.records import Point


class Gmu(Part, frozen=True, kw_only=True, tag="gmu"):
    """A gate on the memory of an earlier layer, of `memory_width` features."""

    label: ClassVar[str] = "gated memory unit"

    memory_width: Size
    bias: bool = False

    def lacks(self, earlier: Sequence[Part]) -> tuple[str, str] | None:
        """The memory of the nearest Mamba-1 before it."""
        widths = [one.d_inner for one in earlier if isinstance(one, Mamba1)]
        if not widths or widths[-1] != self.memory_width:
            has = f"the nearest one has {widths[-1]}" if widths else "no earlier layer has one"
            return "memory_width", f"a memory of {self.memory_width} features is read, but {has}"
        return None

    def weights(self, d_model: int) -> list[Weight]:
        """Both projections, and their biases."""
        width = self.memory_width
        found = [Weight(self.reads(d_model) * width), Weight(width * d_model)]
        return found + ([Weight(width), Weight(d_model)] if self.bias else [])

    def cost(self, d_model: int, point: Point) -> Parts:
        """Both projections and the gate between them."""
        b, tokens, width = DTYPE_BYTES[point.dtype], call_tokens(point), self.memory_width
        return {
            "in_proj": matmul(tokens, self.reads(d_model), width, b, bias=self.bias),
            "gate": elementwise(tokens * width, b, reads=2, flops=3, exps=2),
            "out_proj": matmul(tokens, width, d_model, b, bias=self.bias),
        }

    def recalls(self, d_model: int) -> int:
        """The memory."""
        return self.memory_width

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The gate, overwritten by its product, and the output; the memory lives beside them."""
        return alive(point, (self.memory_width, d_model))
