"""Mamba-1 as data (arXiv:2312.00752, section 3).

Shape letters: B batch, T tokens of the call, d width, D inner width, N state size, R rank of dt.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from ssmprof import limits
from ssmprof.mixers.part import Held, Keys, Memory, Part, State, Weight, alive, allocated
from ssmprof.mixers.steps import Steps
from ssmprof.mixers.workspace import SCAN_ELEMENTS
from ssmprof.scalars import DTYPE_BYTES, Dtype, Size
from ssmprof.work import Parts, call_tokens, causal_conv, conv_update, elementwise, matmul, work

if TYPE_CHECKING:
    from ssmprof.mixers.workspace import Form
    from ssmprof.records import Point


# The plain form: launches of a chunk before and after its tokens; how often it reads or writes the
# decay or the state of each token, (D, N) in float32.
AROUND_WALK, MOVES = 18, 15


class Mamba1(Part, frozen=True, kw_only=True, tag="mamba1"):
    """A selective scan over a state of (D, N); `dt_rank` None is the published ceil(d / 16).

    `inner_norms` norms dt, B and C before the scan: with weights (`weighted`, Jamba) or without
    (`plain`, Falcon-Mamba); `inner_norm_eps` None is the model's epsilon. `state_dtype` is the
    dtype of the state kept between tokens.
    """

    label: ClassVar[str] = "Mamba-1"
    scan_op: ClassVar[str] = "selective_scan"
    memory: ClassVar[Memory] = "fixed"

    d_inner: Size
    d_state: Size
    d_conv: Annotated[int, Meta(ge=2, le=limits.TAPS)] = 4
    dt_rank: Size | None = None
    conv_bias: bool = True
    proj_bias: bool = False
    inner_norms: Literal["none", "plain", "weighted"] = "none"
    inner_norm_eps: Annotated[float, Meta(gt=0, le=1.0)] | None = None
    state_dtype: Dtype = "float32"

    def rank(self, d_model: int) -> int:
        """Rank of the step-size projection."""
        return self.dt_rank or math.ceil(d_model / 16)

    def weights(self, d_model: int) -> list[Weight]:
        """Projections, convolution, decays, skips and the bias of dt."""
        d, inner, states, rank = d_model, self.d_inner, self.d_state, self.rank(d_model)
        found = [
            Weight(self.reads(d) * 2 * inner),
            Weight(inner * self.d_conv),
            Weight(inner * (rank + 2 * states)),
            Weight(rank * inner),
            *[Weight(inner, float32=True)] * 2,
            Weight(inner * states, float32=True),
            Weight(inner * d),
        ]
        if self.conv_bias:
            found.append(Weight(inner))
        if self.proj_bias:
            found += [Weight(2 * inner), Weight(d)]
        if self.inner_norms == "weighted":
            found += [Weight(rank), Weight(states), Weight(states)]
        return found

    def held(self, point: Point) -> list[Held]:
        """The window of the convolution and the state."""
        state = Held("ssm_state", self.d_inner * self.d_state, self.state_dtype)
        return [Held("conv_state", self.d_inner * self.d_conv), state]

    def kept(self) -> list[Keys | State]:
        """State and window; ranks share out the inner width."""
        inner, columns = self.d_inner, self.d_conv - 1
        state = inner * self.d_state
        return [State("mamba1", inner, state, self.state_dtype, channels=inner, columns=columns)]

    def cost(self, d_model: int, point: Point) -> Parts:
        """Projections, convolution, selection and selective scan."""
        b, rank, tokens = DTYPE_BYTES[point.dtype], self.rank(d_model), call_tokens(point)
        inner, states, decode = self.d_inner, self.d_state, point.phase == "decode"
        held = point.batch * inner * states * DTYPE_BYTES[self.state_dtype]
        moved = tokens * (3 * inner + 2 * states) * b  # u, dt, z, B, C
        fixed = inner * (states + 2) * 4  # A, D and the bias of dt, in float32
        conv = conv_update if decode else causal_conv
        parts = {
            "in_proj": matmul(tokens, self.reads(d_model), 2 * inner, b, bias=self.proj_bias),
            "conv": conv(tokens, inner, self.d_conv, b),
            "x_proj": matmul(tokens, inner, rank + 2 * states, b),
            "dt_proj": matmul(tokens, rank, inner, b),
            "scan": work(
                flops=6 * tokens * inner * states,
                read=moved + fixed + (held if decode else 0),
                written=tokens * inner * b + held,
                exps=tokens * inner * (states + 4),
            ),
            "out_proj": matmul(tokens, inner, d_model, b, bias=self.proj_bias),
        }
        if self.inner_norms != "none":
            parts["norms"] = elementwise(tokens * (rank + 2 * states), b, reads=1, flops=4)
        return parts

    def _chunk(self, point: Point) -> int:
        """Tokens of a chunk of the plain form."""
        states = self.d_inner * self.d_state * point.batch
        return min(point.context, max(1, SCAN_ELEMENTS // states))

    def workspace(self, d_model: int, point: Point, form: Form) -> int:
        """Decays and states of a chunk of the plain form."""
        if form != "plain" or point.phase == "decode":
            return 0
        return 2 * 4 * self._chunk(point) * self.d_inner * self.d_state * point.batch

    def steps(self, point: Point, form: Form) -> Steps:
        """The plain form's: rows of a chunk walk side by side, two launches a token, and then each
        adds what the row before it left."""
        if form != "plain" or point.phase == "decode":
            return Steps()
        chunk = self._chunk(point)
        rows = math.gcd(chunk, 1 << (chunk.bit_length() - 1) // 2)
        each = AROUND_WALK + 2 * (chunk // rows - 1) + rows
        moved = MOVES * 4 * point.batch * point.tokens * self.d_inner * self.d_state
        return Steps(launches=each * math.ceil(point.tokens / chunk), moved_bytes=moved)

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The scan, its new state beside the one it replaces."""
        inner = self.d_inner
        state = inner * self.d_state * DTYPE_BYTES[self.state_dtype] * point.batch
        new = 0 if point.phase == "decode" else allocated(state)
        # Parts of one projection, or tensors of their own where they are normed.
        selected = (self.rank(d_model) + 2 * self.d_state,)
        if self.inner_norms != "none":
            selected = (self.d_state, self.d_state)
        return new + workspace + alive(point, (2 * inner, inner, *selected, inner, inner))
