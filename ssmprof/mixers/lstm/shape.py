"""LSTM and GRU as data, in the form of cuDNN and torch: four or three gates of one hidden vector.

Shape letters: T tokens of the call, d width, h hidden size, g gates. The products with the inputs
run over all tokens at once; those with the hidden vector one token after the other, which is what
such units are slow by: bytes count their weights once, as if they stayed on the chip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ssmprof.mixers.part import Held, Keys, Memory, Part, State, Weight, alive, allocated
from ssmprof.mixers.recurrence import new_state, state_bytes
from ssmprof.mixers.steps import Steps
from ssmprof.mixers.workspace import cudnn
from ssmprof.scalars import DTYPE_BYTES, Dtype, Size
from ssmprof.work import Parts, call_tokens, matmul, total, work

if TYPE_CHECKING:
    from ssmprof.mixers.workspace import Form
    from ssmprof.records import Point

# FLOPs and special functions per hidden feature and token, beside the products.
LSTM_POINTWISE, GRU_POINTWISE = (4, 5), (6, 3)
# Kernels of cuDNN per token: the product with the hidden vector, and the gates.
TOKEN_LAUNCHES = 2
# cuDNN refused 75,264 tokens in one call; a longer prompt is read in calls of so many.
CALL_TOKENS = 32_768


class Lstm(Part, frozen=True, kw_only=True, tag="lstm"):
    """Long short-term memory of `hidden` features; a projection to d where it is another width."""

    label: ClassVar[str] = "LSTM"
    memory: ClassVar[Memory] = "fixed"

    hidden: Size
    bias: bool = True
    state_dtype: Dtype = "float32"

    def weights(self, d_model: int) -> list[Weight]:
        """Of the input and of the hidden vector, and the projection."""
        return gates_weights(self, d_model, 4)

    def held(self, point: Point) -> list[Held]:
        """Hidden vector and cell."""
        return [Held("ssm_state", 2 * self.hidden, self.state_dtype)]

    def kept(self) -> list[Keys | State]:
        """Hidden vector and cell."""
        return [State("lstm", self.hidden, 2 * self.hidden, self.state_dtype)]

    def cost(self, d_model: int, point: Point) -> Parts:
        """Products with inputs and the recurrence, as one; and the projection."""
        return gates_cost(self, d_model, point, 4, LSTM_POINTWISE, 2)

    def workspace(self, d_model: int, point: Point, form: Form) -> int:
        """cuDNN's workspace."""
        return gates_workspace(self, d_model, point, 4) if form == "kernels" else 0

    def steps(self, point: Point, form: Form) -> Steps:
        """cuDNN's."""
        return gates_steps(self, point, 4)

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The gates' inputs beside the outputs."""
        return gates_peak(self, d_model, point, 4, 2, workspace)


class Gru(Part, frozen=True, kw_only=True, tag="gru"):
    """Gated recurrent unit of `hidden` features; a projection to d where it is another width."""

    label: ClassVar[str] = "GRU"
    memory: ClassVar[Memory] = "fixed"

    hidden: Size
    bias: bool = True
    state_dtype: Dtype = "float32"

    def weights(self, d_model: int) -> list[Weight]:
        """Of the input and of the hidden vector, and the projection."""
        return gates_weights(self, d_model, 3)

    def held(self, point: Point) -> list[Held]:
        """The hidden vector."""
        return [Held("ssm_state", self.hidden, self.state_dtype)]

    def kept(self) -> list[Keys | State]:
        """The hidden vector."""
        return [State("gru", self.hidden, self.hidden, self.state_dtype)]

    def cost(self, d_model: int, point: Point) -> Parts:
        """Products with inputs and the recurrence, as one; and the projection."""
        return gates_cost(self, d_model, point, 3, GRU_POINTWISE, 1)

    def workspace(self, d_model: int, point: Point, form: Form) -> int:
        """cuDNN's workspace."""
        return gates_workspace(self, d_model, point, 3) if form == "kernels" else 0

    def steps(self, point: Point, form: Form) -> Steps:
        """cuDNN's."""
        return gates_steps(self, point, 3)

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The gates' inputs beside the outputs."""
        return gates_peak(self, d_model, point, 3, 1, workspace)


def gates_weights(part: Lstm | Gru, d_model: int, gates: int) -> list[Weight]:
    """Weights and both biases of so many gates, and the projection where there is one."""
    wide = gates * part.hidden
    found = [Weight(part.reads(d_model) * wide), Weight(part.hidden * wide)]
    found += [Weight(wide)] * 2 if part.bias else []
    return found + ([Weight(part.hidden * d_model)] if part.hidden != d_model else [])


def gates_cost(
    part: Lstm | Gru, d_model: int, point: Point, gates: int, each: tuple[int, int], kept: int
) -> Parts:
    """Work of so many gates; `each` per hidden feature, `kept` vectors of it between tokens."""
    b, tokens, hidden = DTYPE_BYTES[point.dtype], call_tokens(point), part.hidden
    wide, (flops, exps) = gates * hidden, each
    held = point.batch * kept * state_bytes(hidden, part.state_dtype)
    inputs = matmul(tokens, part.reads(d_model), wide, b, bias=part.bias)
    steps = work(
        flops=tokens * (2 * hidden * wide + flops * hidden),
        read=(hidden * wide + (wide if part.bias else 0) + tokens * wide) * b
        + (held if point.phase == "decode" else 0),
        written=tokens * hidden * b + held,
        exps=tokens * exps * hidden,
    )
    parts = {"scan": total((inputs, steps))}  # one call of torch does both
    if hidden != d_model:
        parts["out_proj"] = matmul(tokens, hidden, d_model, b)
    return parts


def gates_steps(part: Lstm | Gru, point: Point, gates: int) -> Steps:
    """One token after the other, each with the weights of the hidden vector."""
    if point.phase == "decode":
        return Steps()
    weights = gates * part.hidden**2 * DTYPE_BYTES[point.dtype]
    return Steps(native=TOKEN_LAUNCHES * point.tokens, moved_bytes=weights * point.tokens)


def gates_workspace(part: Lstm | Gru, d_model: int, point: Point, gates: int) -> int:
    """cuDNN's workspace, less the inputs of all gates but two, which it does not keep."""
    wide = gates * part.hidden
    tokens = min(call_tokens(point), point.batch * CALL_TOKENS)
    kept = tokens * (gates - 2) * part.hidden * DTYPE_BYTES[point.dtype]
    workspace = cudnn(point, (part.reads(d_model) + part.hidden) * wide)
    return workspace - kept if workspace else 0


def gates_peak(
    part: Lstm | Gru, d_model: int, point: Point, gates: int, kept: int, workspace: int
) -> int:
    """Inputs of the gates beside hidden vectors, and the projection's output."""
    hidden = part.hidden
    new = kept * new_state(point, state_bytes(hidden, part.state_dtype)) + workspace
    last = alive(point, (hidden, d_model)) if hidden != d_model else 0
    if call_tokens(point) <= point.batch * CALL_TOKENS:
        return max(new + alive(point, (gates * hidden, hidden)), last)
    tokens = point.batch * CALL_TOKENS * DTYPE_BYTES[point.dtype]
    piece = sum(allocated(tokens * width) for width in (gates * hidden, hidden))
    return max(new + alive(point, (hidden,)) + piece, last)
