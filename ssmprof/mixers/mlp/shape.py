"""The dense feed-forward sub-layer as data: d width, f d_ff, T tokens of the call."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from ssmprof.mixers.part import Part, Weight, alive
from ssmprof.scalars import DTYPE_BYTES, Size
from ssmprof.work import Parts, call_tokens, matmul, work

if TYPE_CHECKING:
    from ssmprof.records import Point

Activation = Literal["swiglu", "geglu", "geglu_tanh", "gelu", "gelu_tanh", "relu2"]
# FLOPs and special functions of one output of the activation. GELU's erf is one special function.
ACTIVATION: dict[Activation, tuple[int, int]] = {
    "swiglu": (3, 2), "geglu": (6, 1), "geglu_tanh": (9, 1), "gelu": (5, 1), "gelu_tanh": (8, 1),
    "relu2": (2, 0),
}  # fmt: skip
GATED: tuple[Activation, ...] = ("swiglu", "geglu", "geglu_tanh")


def beside(act: Activation, d_ff: int) -> int:
    """Features of a token that the activation makes beside what it reads; `relu2` overwrites it."""
    return 0 if act == "relu2" else d_ff


class Mlp(Part, frozen=True, kw_only=True, tag="mlp"):
    """Feed-forward: gated activations have three matrices of (d, f), the others two.

    `relu2` is the squared rectifier of Nemotron-H; `geglu_tanh` and `gelu_tanh` are GELU by its
    tanh approximation (Gemma).
    """

    label: ClassVar[str] = "feed-forward"
    mixes: ClassVar[bool] = False

    d_ff: Size
    act: Activation = "swiglu"
    bias: bool = False

    @property
    def up_width(self) -> int:
        """Outputs of the first product: gate and value of a gated activation in one matrix."""
        return (2 if self.act in GATED else 1) * self.d_ff

    def adapted(self, d_model: int) -> tuple[int, ...]:
        """An adapter adds to the first product."""
        return (self.up_width,)

    def weights(self, d_model: int) -> list[Weight]:
        """Both matrices, and their biases."""
        reads = self.reads(d_model)
        found = [Weight(reads * self.up_width), Weight(self.d_ff * d_model)]
        return found + ([Weight(self.up_width), Weight(d_model)] if self.bias else [])

    def cost(self, d_model: int, point: Point) -> Parts:
        """Up and down projections and the activation between them."""
        b, tokens = DTYPE_BYTES[point.dtype], call_tokens(point)
        flops, exps = ACTIVATION[self.act]
        outputs = tokens * self.d_ff
        return {
            "up": matmul(tokens, self.reads(d_model), self.up_width, b, bias=self.bias),
            "act": work(
                flops=outputs * flops,
                read=tokens * self.up_width * b,
                written=outputs * b,
                exps=outputs * exps,
            ),
            "down": matmul(tokens, self.d_ff, d_model, b, bias=self.bias),
        }

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """Before and after the activation."""
        first = alive(point, (self.up_width, beside(self.act, self.d_ff)))
        return max(first, alive(point, (self.d_ff, d_model)))
