"""A mixture of experts as data (arXiv:1701.06538, section 2; shared experts: arXiv:2401.06066).

Shape letters: T tokens of the call, d width, E experts, k of them per token, f width of an expert,
r width of the latent that experts read, b bytes per element. A call reads the weights of the
experts that at least one token is sent to. Where each token draws its k at random, these are
E (1 - (1 - k/E)^T) on average: all of them in a prefill, k for a single token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from ssmprof import limits
from ssmprof.mixers.mlp.shape import ACTIVATION, GATED, Activation, beside
from ssmprof.mixers.part import Part, Weight, alive
from ssmprof.scalars import DTYPE_BYTES, Size
from ssmprof.work import Cost, Parts, call_tokens, elementwise, matmul, total, work

if TYPE_CHECKING:
    from ssmprof.records import Point

Scale = Annotated[float, Meta(gt=0, le=limits.SCALE)]


class Moe(Part, frozen=True, kw_only=True, tag="moe"):
    """Experts of width `d_ff`, of which each token is sent to `experts_per_token`.

    `bias` gives every expert biases (gpt-oss); with `latent` experts read and write a projection of
    the stream to that width (Nemotron-3). `clamp` is gpt-oss's gated activation, bounded by it.
    A shared expert of width `shared_d_ff` (0 for none) sees every token; `shared_gate` weights it
    by the sigmoid of one projection.

    The router scores by `score`, adds `selection_bias` only to choose (a buffer of the published
    files, which is no parameter; `router_bias` is one of the projection, and is), keeps the best
    `top_groups` of `groups` of experts, ranked by their best expert or the sum of their best two,
    and takes the best experts of these. Their scores are made to sum to one (`renormalise`) and
    multiplied by `scale`.
    """

    label: ClassVar[str] = "mixture of experts"
    mixes: ClassVar[bool] = False

    experts: Size
    experts_per_token: Size
    d_ff: Size
    act: Activation = "swiglu"
    bias: bool = False
    latent: Size | None = None
    clamp: Scale | None = None
    shared_d_ff: Annotated[int, Meta(ge=0, le=limits.WIDTH)] = 0
    shared_gate: bool = False
    score: Literal["softmax", "sigmoid"] = "softmax"
    router_bias: bool = False
    selection_bias: bool = False
    groups: Size = 1
    top_groups: Size = 1
    group_score: Literal["best", "best_two"] = "best_two"
    renormalise: bool = True
    scale: Scale = 1.0

    def check(self, d_model: int) -> tuple[str, str] | None:
        """There are as many experts as a token is sent to, in equal groups."""
        if self.experts % self.groups:
            return "groups", f"{self.groups} does not divide {self.experts} experts"
        if self.top_groups > self.groups:
            return "top_groups", f"{self.top_groups} of {self.groups} groups"
        eligible = self.experts // self.groups * self.top_groups
        if self.experts_per_token > eligible:
            return "experts_per_token", f"{self.experts_per_token} of {eligible} experts"
        if self.shared_gate and not self.shared_d_ff:
            return "shared_gate", "there is no shared expert; give it a shared_d_ff"
        if self.clamp is not None and self.act != "swiglu":
            return "clamp", f"bounds swiglu, not {self.act}"
        return None

    @property
    def active(self) -> float:
        """Share of the experts' weights that one token is multiplied with."""
        return self.experts_per_token / self.experts

    def up_width(self, d_ff: int) -> int:
        """Outputs of the first product of an expert of width `d_ff`."""
        return (2 if self.act in GATED else 1) * d_ff

    def weights(self, d_model: int) -> list[Weight]:
        """Router, both matrices of all experts, their biases, latent and shared expert."""
        reads, up, share = self.reads(d_model), self.up_width(self.d_ff), self.active
        inside, outside = self.latent or reads, self.latent or d_model
        found = [
            Weight(reads * self.experts),
            Weight(self.experts * inside * up, active=share),
            Weight(self.experts * self.d_ff * outside, active=share),
        ]
        if self.router_bias:
            found.append(Weight(self.experts))
        if self.bias:
            found.append(Weight(self.experts * up, active=share))
            found.append(Weight(self.experts * outside, active=share))
        if self.latent:
            found += [Weight(reads * self.latent), Weight(self.latent * d_model)]
        if self.shared_d_ff:
            found.append(Weight(reads * self.up_width(self.shared_d_ff)))
            found.append(Weight(self.shared_d_ff * d_model))
        if self.shared_gate:
            found.append(Weight(reads))
        return found

    def touched(self, tokens: int) -> float:
        """Experts that at least one of so many tokens is sent to, on average."""
        return self.experts * (1 - (1 - self.active) ** tokens)

    def cost(self, d_model: int, point: Point) -> Parts:
        """Router, grouped products, their weighted sum, and the experts that all tokens see."""
        b, tokens, reads = DTYPE_BYTES[point.dtype], call_tokens(point), self.reads(d_model)
        inside, outside = self.latent or reads, self.latent or d_model
        rows = tokens * self.experts_per_token
        scored = elementwise(tokens * self.experts, b, reads=1, flops=1, exps=1)
        up = self._grouped(tokens, inside, self.up_width(self.d_ff), b)
        down = self._grouped(tokens, self.d_ff, outside, b)
        parts = {
            "router": total(
                (matmul(tokens, reads, self.experts, b, bias=self.router_bias), scored)
            ),
            # Every token is read once, whichever experts it is sent to.
            "up": total((up, work(read=tokens * inside * b))),
            "act": self._act(rows, self.d_ff, b),
            "down": total((down, work(read=rows * self.d_ff * b))),
            "combine": work(
                flops=2 * rows * outside,
                read=(rows * outside + rows) * b,
                written=tokens * outside * b,
            ),
        }
        if self.latent:
            parts["latent_in"] = matmul(tokens, reads, self.latent, b)
            parts["latent_out"] = matmul(tokens, self.latent, d_model, b)
        if self.shared_d_ff:
            parts |= self._shared(d_model, tokens, b)
        return parts

    def _grouped(self, tokens: int, inputs: int, outputs: int, b: int) -> Cost:
        """One product of all experts without its input: rows sorted by expert."""
        rows = tokens * self.experts_per_token
        weights = inputs * outputs + (outputs if self.bias else 0)
        return work(
            flops=2 * rows * inputs * outputs,
            read=self.touched(tokens) * weights * b,
            written=rows * outputs * b,
        )

    def _act(self, rows: int, d_ff: int, b: int) -> Cost:
        flops, exps = ACTIVATION[self.act]
        return work(
            flops=rows * d_ff * (flops + (3 if self.clamp else 0)),
            read=rows * self.up_width(d_ff) * b,
            written=rows * d_ff * b,
            exps=rows * d_ff * exps,
        )

    def _shared(self, d_model: int, tokens: int, b: int) -> Parts:
        """The expert of every token, and the sum with the others."""
        reads, up = self.reads(d_model), self.up_width(self.shared_d_ff)
        parts = {
            "shared_up": matmul(tokens, reads, up, b),
            "shared_act": self._act(tokens, self.shared_d_ff, b),
            "shared_down": matmul(tokens, self.shared_d_ff, d_model, b),
            "shared_add": elementwise(
                tokens * d_model, b, reads=2, flops=2 if self.shared_gate else 1
            ),
        }
        if self.shared_gate:
            gate = work(flops=tokens, read=tokens * b, written=tokens * b, exps=2 * tokens)
            parts["shared_gate"] = total((matmul(tokens, reads, 1, b), gate))
        return parts

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The widest of: rows sorted by expert with their products, their sum, the shared expert.

        Where each row belongs lives until the sum; the shared expert's output beside it.
        """
        k, up = self.experts_per_token, self.up_width(self.d_ff)
        inside, outside = self.latent or self.reads(d_model), self.latent or d_model
        # Three indices of 8 bytes and a weight.
        sent = k * (24 / DTYPE_BYTES[point.dtype] + 1)
        bias, clamped = (1 if self.bias else 0), (1 if self.clamp else 0)
        widest: list[tuple[float, ...]] = [
            (sent, self.latent or 0, k * inside),
            (sent, k * inside, k * up),
            (sent, k * up, max(bias * k * up, (1 + clamped) * k * beside(self.act, self.d_ff))),
            (sent, k * self.d_ff, k * outside),
            (sent, k * outside, max(bias * k * outside, outside)),
        ]
        if self.latent:
            widest.append((outside, d_model))
        if self.shared_d_ff:
            wide = self.up_width(self.shared_d_ff)
            widest.append((d_model, wide, beside(self.act, self.shared_d_ff)))
            widest.append((d_model, self.shared_d_ff, d_model))
        return max(alive(point, widths) for widths in widest)
