"""The recurrent block of Griffin as data (arXiv:2402.19427, sections 2.3 and 2.4).

Shape letters: T tokens of the call, d width, D width of the recurrence, H blocks of its gates. The
state is one number per feature: h_t = a_t h_{t-1} + sqrt(1 - a_t^2) (i_t x_t), where both gates are
block-diagonal products of x_t.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ssmprof.mixers.part import Conv, Held, Keys, Memory, Part, State, Weight, alive
from ssmprof.mixers.recurrence import new_state, recurrence, state_bytes
from ssmprof.mixers.steps import SHORT_SPAN, Loops, Steps
from ssmprof.scalars import DTYPE_BYTES, Dtype, Size
from ssmprof.work import Cost, Parts, call_tokens, elementwise, matmul, total, work

if TYPE_CHECKING:
    from ssmprof.mixers.workspace import Form
    from ssmprof.records import Point


class RgLru(Part, frozen=True, kw_only=True, tag="rglru"):
    """Two branches of `width`: a GELU, and a convolution with the recurrence; their product.

    `heads` are the blocks of the gates' weights. All projections have biases.
    """

    label: ClassVar[str] = "RG-LRU"
    memory: ClassVar[Memory] = "fixed"
    plain: ClassVar[Loops] = Loops(span=55, tokens=SHORT_SPAN)

    width: Size
    heads: Size
    d_conv: Conv = 4
    state_dtype: Dtype = "float32"

    def check(self, d_model: int) -> tuple[str, str] | None:
        """Equal blocks, and a convolution."""
        if self.width % self.heads:
            return "heads", f"{self.heads} does not divide the width {self.width}"
        if not self.d_conv:
            return "d_conv", "0; the block has a convolution"
        return None

    def weights(self, d_model: int) -> list[Weight]:
        """Projections, taps, both gates' blocks, the decay; each with its bias."""
        reads, width = self.reads(d_model), self.width
        blocks = width * width // self.heads
        return [
            *[Weight(reads * width), Weight(width)] * 2,
            *[Weight(width * self.d_conv), Weight(width)],
            *[Weight(blocks), Weight(width)] * 2,
            Weight(width, float32=True),
            *[Weight(width * d_model), Weight(d_model)],
        ]

    def held(self, point: Point) -> list[Held]:
        """The window of the convolution and the state."""
        state = Held("ssm_state", self.width, self.state_dtype)
        return [Held("conv_state", self.width * self.d_conv), state]

    def kept(self) -> list[Keys | State]:
        """State and window; ranks share out the blocks of the gates."""
        width, columns = self.width, self.d_conv - 1
        return [State("rglru", self.heads, width, self.state_dtype, width, columns)]

    def cost(self, d_model: int, point: Point) -> Parts:
        """Projections, convolution, gates, recurrence, product with the other branch."""
        b, tokens, width = DTYPE_BYTES[point.dtype], call_tokens(point), self.width
        branch = matmul(tokens, self.reads(d_model), width, b, bias=True)
        return {
            "in_proj": total((branch, branch)),
            "conv": self._conv(point, b),
            "gates": work(
                flops=4 * tokens * width * (width // self.heads),
                read=(2 * width * (width // self.heads) + 2 * width + tokens * width) * b,
                written=2 * tokens * width * b,
            ),
            # Two sigmoids, the decay, the root of what it leaves.
            "scan": recurrence(
                point,
                flops=7 * width,
                exps=4 * width,
                read=3 * width,
                written=width,
                state=state_bytes(width, self.state_dtype),
            ),
            "gelu": elementwise(tokens * width, b, reads=2, flops=9, exps=1),
            "out_proj": matmul(tokens, width, d_model, b, bias=True),
        }

    def _conv(self, point: Point, b: int) -> Cost:
        """Taps without an activation; a step reads its window and writes it back."""
        tokens, decode = call_tokens(point), point.phase == "decode"
        moved = tokens * self.width * (self.d_conv if decode else 1) * b
        return work(flops=2 * tokens * self.width * self.d_conv, read=moved, written=moved)

    def steps(self, point: Point, form: Form) -> Steps:
        """Those of the plain form, the only one."""
        return self.plain.steps(point)

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The recurrence with its gates beside the other branch, and the output."""
        new = new_state(point, state_bytes(self.width, self.state_dtype))
        width = self.width
        scan = new + alive(point, [width] * 5)
        return max(scan, alive(point, (width, width, width)), alive(point, (width, d_model)))
