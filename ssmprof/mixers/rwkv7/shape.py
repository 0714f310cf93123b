"""RWKV-7 as data (arXiv:2503.14456, section 4).

Shape letters: T tokens of the call, d width, H heads of width K, C chunk. The state of a head is
(K, K): S_t = S_{t-1} (diag(w_t) - k_t (a_t k_t)) + v_t k_t. Its transition is diagonal plus
rank one; a chunk of it needs four causal products, C K each per token, the inverse of a unit
lower triangle, C^3 / 3, five products of values or keys with such triangles, and 8 K K with the
state. Both halves of a layer mix each token with the one before, which is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ssmprof.mixers.part import Held, Keys, Memory, Part, Rank, State, Weight, alive
from ssmprof.mixers.recurrence import chunk_of, new_state, recurrence, state_bytes
from ssmprof.mixers.steps import DELTA_WALK, Loops
from ssmprof.mixers.workspace import KERNEL_CHUNK, by_chunks, by_span, squares, tile
from ssmprof.scalars import DTYPE_BYTES, Dtype, Size
from ssmprof.work import Cost, Parts, call_tokens, elementwise, matmul, total, work

if TYPE_CHECKING:
    from ssmprof.mixers.workspace import Form
    from ssmprof.records import Point

# The lowest log decay: -exp(-1/2) times a sigmoid.
LOWEST = -0.6065306597126334
MIXED = 6  # inputs that the time mix shifts by a weight of their own: r, w, k, v, a, g


class Rwkv7(Part, frozen=True, kw_only=True, tag="rwkv7"):
    """Time mix; decay, step size, value and gate are low-rank projections of these ranks.

    `value_rank` 0 is the first layer, whose values the others are mixed with. `norm_bias` is one of
    the norm of heads. `state_dtype` is the dtype of the state kept between tokens.
    """

    label: ClassVar[str] = "RWKV-7"
    scan_op: ClassVar[str] = "rwkv7"
    plain: ClassVar[Loops] = Loops(chunk=DELTA_WALK, span=604)
    memory: ClassVar[Memory] = "fixed"

    heads: Size
    head_dim: Size = 64
    decay_rank: Size
    step_rank: Size
    gate_rank: Size
    value_rank: Rank = 0
    norm_bias: bool = True
    state_dtype: Dtype = "float32"

    @property
    def width(self) -> int:
        """Features of all heads."""
        return self.heads * self.head_dim

    @property
    def _state(self) -> int:
        return self.heads * self.head_dim**2

    def check(self, d_model: int) -> tuple[str, str] | None:
        """Heads make up the width that is read."""
        if self.width != self.reads(d_model):
            return "heads", f"{self.heads} of {self.head_dim} do not make {self.reads(d_model)}"
        return None

    def lacks(self, earlier: Sequence[Part]) -> tuple[str, str] | None:
        """Values of a first layer, which are mixed with its own."""
        first = (one for one in earlier if isinstance(one, Rwkv7) and not one.value_rank)
        if self.value_rank and not any(one.width == self.width for one in first):
            return "value_rank", (
                f"mixes values with those of a first layer, and none of {self.width} features with "
                "value_rank = 0 comes before"
            )
        return None

    @property
    def _ranks(self) -> tuple[tuple[int, bool], ...]:
        """Rank of each low-rank projection, and whether it has a bias."""
        ranks = ((self.decay_rank, True), (self.step_rank, True), (self.gate_rank, False))
        return (*ranks, (self.value_rank, True)) if self.value_rank else ranks

    def weights(self, d_model: int) -> list[Weight]:
        """Shifts, four projections, low-rank projections, vectors of keys, norm of heads."""
        reads, width = self.reads(d_model), self.width
        found = [Weight(MIXED * reads)] + [Weight(reads * width)] * 3 + [Weight(width * d_model)]
        for rank, bias in self._ranks:
            found += [Weight(reads * rank), Weight(rank * width)]
            found += [Weight(width)] if bias else []
        found += [Weight(width)] * 3  # of the removed key, of the added key, of the bonus
        return found + [Weight(width)] * (2 if self.norm_bias else 1)

    def held(self, point: Point) -> list[Held]:
        """The token before, and the state."""
        state = Held("ssm_state", self._state, self.state_dtype)
        return [Held("conv_state", self.width), state]

    def kept(self) -> list[Keys | State]:
        """The token before, and the state."""
        return [State("rwkv7", self.heads, self._state, self.state_dtype, self.width, columns=1)]

    def cost(self, d_model: int, point: Point) -> Parts:
        """Shift, projections, rule, norm with bonus and gate, output."""
        b, tokens, reads = DTYPE_BYTES[point.dtype], call_tokens(point), self.reads(d_model)
        projected = matmul(tokens, reads, self.width, b)
        low = [
            matmul(tokens, *shape, b, bias=bias and shape[1] == self.width)
            for rank, bias in self._ranks
            for shape in ((reads, rank), (rank, self.width))
        ]
        return {
            "shift": shift(point, reads, MIXED),
            "in_proj": total((projected, projected, projected)),
            "low_rank": total(low),
            "keys": self._keys(tokens, b),
            "scan": self._rule(point),
            "norm": self._normed(tokens, b),
            "out_proj": matmul(tokens, self.width, d_model, b),
        }

    def _keys(self, tokens: int, b: int) -> Cost:
        """In one pass: key that is removed (normed), key that is added, sigmoids of decay and step
        size (two special functions each), mixed values."""
        mixed = 1 if self.value_rank else 0
        return work(
            flops=tokens * self.width * (11 + 4 * mixed),
            read=((3 + 3 * mixed) * tokens + 2) * self.width * b,
            written=(4 + mixed) * tokens * self.width * b,
            exps=tokens * (self.width * (4 + 2 * mixed) + 2 * self.heads),
        )

    def _rule(self, point: Point) -> Cost:
        chunk, width = chunk_of(point), self.head_dim
        if point.phase == "decode":  # decayed, asked, corrected, added to, used
            flops = 9.0 * width**2
        else:
            flops = 9 * chunk * width + chunk**2 / 3 + 8 * width**2 + 2 * width**2 / chunk
        return recurrence(
            point,
            flops=self.heads * flops,
            # Exponential of the decay; in a chunk keys and queries are scaled by it.
            exps=self.width * (1 if point.phase == "decode" else 3),
            read=6 * self.width,
            written=self.width,
            state=state_bytes(self._state, self.state_dtype),
        )

    def _normed(self, tokens: int, b: int) -> Cost:
        """In one pass: norm of heads, plus the bonus of the present token, times the gate."""
        vectors = 3 if self.norm_bias else 2
        return work(
            flops=tokens * self.width * (10 + vectors),
            read=(5 * tokens + vectors) * self.width * b,
            written=tokens * self.width * b,
            exps=tokens * self.heads,
        )

    def passed(self) -> int:
        """Values of the first layer are kept for the later ones."""
        return 0 if self.value_rank else self.width

    def workspace(self, d_model: int, point: Point, form: Form) -> int:
        """What each chunk does to a state, what it reads of one, its outputs, its solution."""
        if form == "kernels":
            b, key = DTYPE_BYTES[point.dtype], tile(self.head_dim)
            states = key * key * (4 + b) + 4 * key
            rows = KERNEL_CHUNK * key * (4 + b)
            return by_chunks(point, self.heads * (states + rows + squares(point, 1)))
        widths = self.heads * (25 * self.head_dim + 3 * KERNEL_CHUNK)
        return by_span(point, widths) if form == "plain" else 0

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The widest of: shifted inputs, projections of them, the rule with its inputs, output.

        Values that are handed on are not its own; mixed ones are, and what they are mixed by.
        """
        new = new_state(point, state_bytes(self._state, self.state_dtype))
        width, inputs = self.width, MIXED * self.reads(d_model)
        own = [width] * (2 if self.value_rank else 0)
        given = (5 if self.value_rank else 4) * width  # made in one piece
        return max(
            alive(point, (self.reads(d_model), inputs)),
            alive(point, (inputs, *own, *[width] * 5, self.gate_rank)),
            new + workspace + alive(point, (given, *[width] * 3)),
            alive(point, (width, d_model)),
        )


class Rwkv7Ffn(Part, frozen=True, kw_only=True, tag="rwkv7_ffn"):
    """Channel mix (section 4): a squared rectifier on each token mixed with the one before.

    `width` is that of the token kept: the model's.
    """

    label: ClassVar[str] = "RWKV-7 channel mix"
    memory: ClassVar[Memory] = "fixed"
    mixes: ClassVar[bool] = False

    width: Size
    d_ff: Size

    def check(self, d_model: int) -> tuple[str, str] | None:
        """The token kept is one that is read."""
        if self.width != self.reads(d_model):
            return "width", f"{self.width}, but {self.reads(d_model)} features are read"
        return None

    def weights(self, d_model: int) -> list[Weight]:
        """The shift and both matrices."""
        return [Weight(self.width), Weight(self.width * self.d_ff), Weight(self.d_ff * d_model)]

    def held(self, point: Point) -> list[Held]:
        """The token before."""
        return [Held("conv_state", self.width)]

    def kept(self) -> list[Keys | State]:
        """The token before."""
        return [State("rwkv7_ffn", self.width, 0, channels=self.width, columns=1)]

    def cost(self, d_model: int, point: Point) -> Parts:
        """Shift, both products, the squared rectifier between them."""
        b, tokens = DTYPE_BYTES[point.dtype], call_tokens(point)
        return {
            "shift": shift(point, self.width, 1),
            "up": matmul(tokens, self.width, self.d_ff, b),
            "act": elementwise(tokens * self.d_ff, b, reads=1, flops=2),
            "down": matmul(tokens, self.d_ff, d_model, b),
        }

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The widest of: the shift, both products."""
        return max(
            alive(point, (self.width, self.width)),
            alive(point, (self.width, self.d_ff)),
            alive(point, (self.d_ff, d_model)),
        )


def shift(point: Point, width: int, outputs: int) -> Cost:
    """Each token mixed with the one before by `outputs` weights; the last is kept."""
    b, tokens = DTYPE_BYTES[point.dtype], call_tokens(point)
    kept = point.batch * width
    return work(
        flops=tokens * width * (1 + 2 * outputs),
        read=(tokens * width + (kept if point.phase == "decode" else 0) + outputs * width) * b,
        written=(tokens * width * outputs + kept) * b,
    )
