"""The gated short convolution as data (LFM2, arXiv:2511.23404, section 2).

Shape letters: T tokens of the call, d width, D width of the convolution, k its taps. Of three
projections B, C and x of a token: out(C conv(B x)). Nothing else is kept than the window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from ssmprof import limits
from ssmprof.mixers.part import Held, Keys, Memory, Part, State, Weight, alive
from ssmprof.mixers.recurrence import conv_weights
from ssmprof.scalars import DTYPE_BYTES, Size
from ssmprof.work import Parts, call_tokens, elementwise, matmul, work

if TYPE_CHECKING:
    from ssmprof.records import Point


class ShortConv(Part, frozen=True, kw_only=True, tag="short_conv"):
    """A depthwise convolution of `width` channels between two products with projections.

    `bias` is one of both projections and of the taps.
    """

    label: ClassVar[str] = "short convolution"
    memory: ClassVar[Memory] = "fixed"

    width: Size
    d_conv: Annotated[int, Meta(ge=1, le=limits.TAPS)] = 3
    bias: bool = False

    def weights(self, d_model: int) -> list[Weight]:
        """Both projections and the taps."""
        return [
            Weight(self.reads(d_model) * 3 * self.width),
            *conv_weights(self.width, self.d_conv, bias=self.bias),
            Weight(self.width * d_model),
            *([Weight(3 * self.width), Weight(d_model)] if self.bias else []),
        ]

    def held(self, point: Point) -> list[Held]:
        """The window of the convolution."""
        return [Held("conv_state", self.width * self.d_conv)]

    def kept(self) -> list[Keys | State]:
        """The window alone; ranks share out its width."""
        width, columns = self.width, self.d_conv - 1
        return [State("short_conv", width, 0, channels=width, columns=columns)]

    def cost(self, d_model: int, point: Point) -> Parts:
        """Projections, convolution, both products."""
        b, tokens, width = DTYPE_BYTES[point.dtype], call_tokens(point), self.width
        decode = point.phase == "decode"
        window = tokens * width * (self.d_conv if decode else 1) * b
        return {
            "in_proj": matmul(tokens, self.reads(d_model), 3 * width, b, bias=self.bias),
            "gate": elementwise(2 * tokens * width, b, reads=2, flops=1),
            "conv": work(flops=2 * tokens * width * self.d_conv, read=window, written=window),
            "out_proj": matmul(tokens, width, d_model, b, bias=self.bias),
        }

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """Projections with what is convolved, and the output."""
        first = alive(point, (3 * self.width, self.width, self.width))
        return max(first, alive(point, (self.width, d_model)))
