"""Attention as data: sizes, parameters, work, keys and values, peak.

Shape letters: B batch, L context, Hq query heads, Hk key-value heads, dh head width, w window.
Causal halves are taken: a prefill looks at L(L+1)/2 pairs, or w(w+1)/2 + (L-w)w with a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from ssmprof import limits
from ssmprof.mixers.part import Conv, Held, Keys, Memory, Part, State, Weight, alive
from ssmprof.scalars import DTYPE_BYTES, Size, Tokens, Value
from ssmprof.work import Cost, Parts, call_tokens, elementwise, held_tokens, matmul, total, work

if TYPE_CHECKING:
    from ssmprof.records import Point

Base = Annotated[float, Meta(gt=0, le=limits.ROPE_BASE)]
Factor = Annotated[float, Meta(gt=0, le=limits.ROPE_BASE)]


class RopeScaling(Value, frozen=True, kw_only=True):
    """How the rotary angles are stretched beyond the trained length, by the names of transformers.

    `factors` are those of `longrope`, one per pair; `low` and `high` those of `llama3`. `truncate`
    rounds the ends of the ramp of `yarn` to whole pairs.
    """

    kind: Literal["linear", "llama3", "yarn", "longrope"]
    factor: Factor = 1.0
    original_tokens: Tokens | None = None
    low: Factor = 1.0
    high: Factor = 4.0
    beta_fast: Factor = 32.0
    beta_slow: Factor = 1.0
    attention_factor: Factor | None = None
    truncate: bool = True
    factors: Annotated[tuple[Factor, ...], Meta(max_length=limits.WIDTH)] = ()
    long_factors: Annotated[tuple[Factor, ...], Meta(max_length=limits.WIDTH)] = ()


class Attention(Part, frozen=True, kw_only=True, tag="attention"):
    """Attention; `kv_heads < heads` is grouped-query, `window` limits how far it looks.

    `rope_theta` is the base of the rotary embedding over the first `rope_dim` features of a head
    (all where None); None means no positional embedding at all. `qk_norm` norms queries and keys
    before they are turned: each head (`head`; `heads` where each has weights of its own) or all of
    a token (`width`). `gate` multiplies the output with the sigmoid of a second query projection,
    `sinks` adds one learned logit per head to every softmax, `kv_from="shared"` reads the keys and
    values of the nearest earlier layer that has some and has none of its own. `score_cap` bounds
    the scores by tanh, `differential` subtracts a second map. `d_conv` convolves queries, keys and
    values (0 for none, Mamba-2's hybrids). Every token also sees `prefix` learned tokens before the
    prompt, whatever the window, whose keys and values are constants (Hymba's meta tokens).
    """

    label: ClassVar[str] = "attention"
    memory: ClassVar[Memory] = "grows"

    heads: Size
    kv_heads: Size
    head_dim: Size
    v_head_dim: Size | None = None
    window: Tokens | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    rope_theta: Base | None = 10_000.0
    rope_dim: Size | None = None
    rope_interleaved: bool = False
    rope_scaling: RopeScaling | None = None
    qk_norm: Literal["none", "head", "heads", "width"] = "none"
    gate: bool = False
    sinks: bool = False
    score_cap: Factor | None = None
    kv_from: Literal["own", "shared"] = "own"
    differential: bool = False
    d_conv: Conv = 0
    prefix: Annotated[int, Meta(ge=0, le=limits.CONTEXT_TOKENS)] = 0

    @property
    def v_dim(self) -> int:
        """Width of a value head."""
        return self.v_head_dim or self.head_dim

    @property
    def q_width(self) -> int:
        """Features of all queries of a token."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Features of the keys and values that a token adds, both together."""
        return self.kv_heads * (self.head_dim + self.v_dim)

    @property
    def qkv_width(self) -> int:
        """Outputs of the projection before the scores."""
        own = self.kv_width if self.kv_from == "own" else 0
        return self.q_width * (2 if self.gate else 1) + own

    @property
    def rotated(self) -> int:
        """Features of a head that are turned."""
        return 0 if self.rope_theta is None else (self.rope_dim or self.head_dim)

    def check(self, d_model: int) -> tuple[str, str] | None:
        """Heads divide, and pairs are pairs."""
        if self.heads % self.kv_heads:
            return "kv_heads", f"{self.kv_heads} does not divide {self.heads} heads"
        if self.differential and self.kv_heads % 2:
            return "kv_heads", f"{self.kv_heads} is odd; the difference is one of two heads"
        if self.rotated % 2 or (self.rotated and self.head_dim % 2):
            key = "rope_dim" if self.rotated % 2 and self.rope_dim else "head_dim"
            odd = self.rotated if self.rotated % 2 else self.head_dim
            return key, f"{odd} is odd; rotary embedding turns pairs"
        if self.rotated > self.head_dim:
            return "rope_dim", f"{self.rotated} of {self.head_dim} features of a head"
        return None

    def lacks(self, earlier: Sequence[Part]) -> tuple[str, str] | None:
        """Keys and values of an earlier layer, where they are shared."""
        own = (one for one in earlier if isinstance(one, Attention) and one.kv_from == "own")
        if self.kv_from == "shared" and not any(own):
            return "kv_from", "no earlier layer has keys and values to share"
        return None

    def adapted(self, d_model: int) -> tuple[int, ...]:
        """Queries, keys and values have an adapter each, a gate has none."""
        keys, values = self.kv_heads * self.head_dim, self.kv_heads * self.v_dim
        return (self.q_width, keys, values) if self.kv_from == "own" else (self.q_width,)

    def weights(self, d_model: int) -> list[Weight]:
        """Projections, biases, norms of queries and keys, sinks."""
        out = self.heads * self.v_dim
        found = [Weight(self.reads(d_model) * self.qkv_width), Weight(out * d_model)]
        if self.qkv_bias:
            found.append(Weight(self.qkv_width))
        if self.out_bias:
            found.append(Weight(d_model))
        own = self.kv_from == "own"
        if self.qk_norm == "head":
            found += [Weight(self.head_dim)] * (2 if own else 1)
        elif self.qk_norm != "none":
            found.append(Weight(self.q_width))
            found += [Weight(self.kv_heads * self.head_dim)] if own else []
        if self.sinks:
            found.append(Weight(self.heads))
        if self.differential:  # four vectors of lambda and the norm of two heads (arXiv:2410.05258)
            found += [Weight(self.head_dim, float32=True)] * 4 + [Weight(2 * self.v_dim)]
        if self.d_conv:
            found += [Weight(self.qkv_width * self.d_conv), Weight(self.qkv_width)]
        return found

    def rows(self, point: Point) -> int:
        """Tokens the cache holds during the call; a decode step adds its own."""
        return self.prefix + min(held_tokens(point), self.window or held_tokens(point))

    def held(self, point: Point) -> list[Held]:
        """Keys and values, unless another layer holds them, and the convolution's window."""
        conv = [Held("conv_state", self.qkv_width * self.d_conv)] if self.d_conv else []
        if self.kv_from == "shared":
            return conv
        rows = self.rows(point) * self.kv_heads
        return [Held("kv", rows * self.head_dim), Held("kv", rows * self.v_dim), *conv]

    def kept(self) -> list[Keys | State]:
        """Keys and values, and the window of a convolution."""
        found: list[Keys | State] = []
        if self.kv_from == "own":
            width = self.head_dim + self.v_dim
            found.append(Keys(self.kv_heads, width, self.window, prefix=self.prefix))
        if self.d_conv:
            columns, channels = self.d_conv - 1, self.qkv_width
            found.append(State("attention", self.kv_heads, 0, channels=channels, columns=columns))
        return found

    def table(self) -> tuple[object, int] | None:
        """Cosine and sine of half a head, whatever of it is turned."""
        if self.rope_theta is None:
            return None
        return (self.rope_theta, self.rotated, self.rope_scaling), self.head_dim // 2

    def cost(self, d_model: int, point: Point) -> Parts:
        """Projections, rotary embedding with the cache write, scores and output."""
        b, tokens = DTYPE_BYTES[point.dtype], call_tokens(point)
        q, k = self.q_width, self.kv_heads * self.head_dim
        v = self.kv_heads * self.v_dim
        own = self.kv_from == "own"
        parts = {
            "qkv_proj": matmul(tokens, self.reads(d_model), self.qkv_width, b, bias=self.qkv_bias),
            "attention": self._scores(point, b),
            "out_proj": matmul(tokens, self.heads * self.v_dim, d_model, b, bias=self.out_bias),
        }
        # Keys and values are written into the cache on the way, whether or not anything is rotated.
        written = (k + v) // 2 if own else 0
        turned = q + (k if own else 0) if self.rope_theta is not None else 0
        moved = turned or written
        rope = elementwise(tokens * moved, b, reads=1, flops=3 if turned else 0)
        parts["rope"] = total((rope, elementwise(tokens * written, b, reads=1, flops=0)))
        if self.qk_norm != "none":
            parts["qk_norm"] = elementwise(tokens * (q + (k if own else 0)), b, reads=1, flops=4)
        if self.d_conv:
            window = self.qkv_width * (self.d_conv if point.phase == "decode" else 1)
            parts["conv"] = work(
                flops=2 * tokens * self.qkv_width * self.d_conv,
                read=tokens * window * b,
                written=tokens * window * b,
            )
        if self.differential:  # of two maps, and its norm
            parts["difference"] = elementwise(tokens * self.heads * self.v_dim, b, reads=2, flops=7)
        if self.gate:
            parts["gate"] = elementwise(
                tokens * self.heads * self.v_dim, b, reads=2, flops=1, exps=1
            )
        return parts

    def _scores(self, point: Point, b: int) -> Cost:
        decode = point.phase == "decode"
        looked = self.rows(point) if decode else read_pairs(point, self.window)
        looked = point.batch * (looked + (0 if decode else self.prefix * point.tokens))
        tokens = call_tokens(point)
        # Each of two maps weighs the values of both heads.
        values = self.v_dim * (2 if self.differential else 1)
        # Rows of keys and values that are read.
        seen = looked if decode else point.batch * (rows_read(point, self.window) + self.prefix)
        return work(
            flops=2 * looked * self.heads * (self.head_dim + values),
            read=(seen * self.kv_width + tokens * self.q_width) * b,
            written=tokens * self.heads * values * b,
            exps=self.heads * looked * (2 if self.score_cap else 1),
        )

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The widest of: projection with what is turned, scores, gate, and output."""
        b = DTYPE_BYTES[point.dtype]
        q, out = self.q_width, self.heads * self.v_dim
        made = (out, self.heads * 4 / b)  # with the log-sum-exp of every row, float32
        if self.differential:  # one map, and both halves of the other
            made = (out, out / 2, out / 2, out)
        turned = q if self.rope_theta is not None else 0
        last = alive(point, (out, d_model))
        if self.gate:  # a view of the projection, which lives as long, and its sigmoid
            last = max(last, alive(point, (self.qkv_width, out, out)))
        if self.window is not None and point.phase == "prefill":
            # A ring cannot be attended to in place: keys are rotated beside it.
            turned = turned and q + self.kv_heads * self.head_dim
            return max(alive(point, (self.qkv_width, turned, *made)), last)
        # Queries that are not rotated are a view of the projection.
        held = self.qkv_width if self.gate or not turned else 0
        convolved = self.qkv_width if self.d_conv else 0
        first = alive(point, (self.qkv_width, convolved or turned))
        return max(first, alive(point, (held, turned, *made)), last)


def pairs(context: int, window: int | None) -> int:
    """(query, key) pairs of a causal prefill of `context` tokens."""
    if window is None or window >= context:
        return context * (context + 1) // 2
    return window * (window + 1) // 2 + (context - window) * window


def read_pairs(point: Point, window: int | None) -> int:
    """(query, key) pairs of one sequence of a prefill: those of its chunk, where it is read so."""
    return pairs(point.context, window) - pairs(point.past, window)


def rows_read(point: Point, window: int | None) -> int:
    """Rows of keys and values that the prefill of one sequence looks at."""
    return point.tokens + min(point.past, window or point.past)
