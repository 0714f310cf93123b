"""Work of recurrences whose state is a matrix per head, (K, V): linear attention and its kin.

Shape letters: T tokens of the call, H heads, K and V width of a key and a value, C chunk. Prefills
are counted in the chunked form (arXiv:2312.06635, section 4): tokens of a chunk see each other by
their causal scores, and earlier ones through the state, which is touched once per chunk. A decode
step reads the whole state and writes it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ssmprof.mixers.part import Conv, Held, Memory, Part, Weight, allocated
from ssmprof.scalars import DTYPE_BYTES, Dtype, Size
from ssmprof.work import Cost, call_tokens, causal_conv, conv_update, elementwise, work

if TYPE_CHECKING:
    from ssmprof.records import Point

# Chunk these FLOPs are counted for: the one of the kernels that are published for such layers.
CHUNK = 64


def chunk_of(point: Point, size: int = CHUNK) -> int:
    """Tokens of one chunk of a prefill."""
    return min(size, point.context)


def inside_chunk(chunk: int, key: int, value: int) -> float:
    """FLOPs per token and head: causal scores within a chunk, and values weighted by them."""
    return chunk * (key + value)


def through_state(chunk: int, key: int, value: int) -> float:
    """FLOPs per token and head: what a chunk adds to the state, its use, and its decay."""
    return 4 * key * value + 2 * key * value / chunk


def recurrence(
    point: Point, *, flops: float, exps: float, read: float, written: float, state: int
) -> Cost:
    """Work of a whole recurrence; all numbers but `state` are per token, bytes as elements.

    `state` is its bytes per sequence: written by every call, and read by a decode step.
    """
    tokens, b = call_tokens(point), DTYPE_BYTES[point.dtype]
    held = point.batch * state
    return work(
        flops=tokens * flops,
        read=tokens * read * b + (held if point.phase == "decode" else 0),
        written=tokens * written * b + held,
        exps=tokens * exps,
    )


def short_conv(point: Point, channels: int, width: int) -> Cost:
    """A causal convolution of a few taps with SiLU, over a prompt or for one token."""
    decode = point.phase == "decode"
    conv = conv_update if decode else causal_conv
    return conv(call_tokens(point), channels, width, DTYPE_BYTES[point.dtype])


def conv_weights(channels: int, width: int, *, bias: bool) -> list[Weight]:
    """Taps of a depthwise convolution, and its bias; none where it has no width."""
    if not width:
        return []
    return [Weight(channels * width), *([Weight(channels)] if bias else [])]


def head_norm(point: Point, heads: int, value: int, *, gate: bool) -> Cost:
    """RMSNorm of every head, multiplied by the SiLU of a gate where there is one."""
    b, elements = DTYPE_BYTES[point.dtype], call_tokens(point) * heads * value
    normed = elementwise(
        elements, b, reads=2 if gate else 1, flops=8 if gate else 4, exps=2 if gate else 0
    )
    return work(
        flops=normed.flops,
        read=normed.read_bytes + value * b,
        written=normed.written_bytes,
        exps=normed.exps + call_tokens(point) * heads,
    )


def state_bytes(elements: int, dtype: Dtype) -> int:
    """Bytes of a state of one sequence."""
    return elements * DTYPE_BYTES[dtype]


def new_state(point: Point, state: int) -> int:
    """Bytes a prefill allocates for the state it makes; a decode step updates its own in place."""
    return 0 if point.phase == "decode" else allocated(point.batch * state)


class MatrixState(Part, frozen=True, kw_only=True):
    """Sizes that linear attention and the delta rules have alike: a state of (K, V) per head.

    `key_dim` and `value_dim` are of one head; `d_conv` convolves queries, keys and values (0 for
    none); `gate` multiplies the normed output. `state_dtype` is the dtype of the state kept
    between tokens.
    """

    memory: ClassVar[Memory] = "fixed"

    heads: Size
    key_dim: Size
    value_dim: Size
    d_conv: Conv = 0
    conv_bias: bool = False
    gate: bool = True
    state_dtype: Dtype = "float32"

    @property
    def value_width(self) -> int:
        """Features of the output of all heads."""
        return self.heads * self.value_dim

    @property
    def channels(self) -> int:
        """Queries, keys and values of a token."""
        raise NotImplementedError

    @property
    def state_elements(self) -> int:
        """Elements of the state of one sequence, (H, K, V)."""
        return self.heads * self.key_dim * self.value_dim

    def held(self, point: Point) -> list[Held]:
        """The state, and the window of the convolution."""
        state = Held("ssm_state", self.state_elements, self.state_dtype)
        window = [Held("conv_state", self.channels * self.d_conv)] if self.d_conv else []
        return [*window, state]
