"""Multi-head latent attention as data (arXiv:2405.04434, section 2.1).

Shape letters: T tokens of the call, d width, H heads, r rank of the latent, dr width of the key
that all heads share and that is turned, dn width of the rest of a key, dv width of a value. A
prefill expands the latent to keys and values of every head. A decode step does not: the expansion
is absorbed into queries and output (section 2.1.2), and all heads look at the same cached rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from ssmprof import limits
from ssmprof.mixers.attention.shape import RopeScaling, read_pairs
from ssmprof.mixers.part import Held, Keys, Memory, Part, State, Weight, alive
from ssmprof.scalars import DTYPE_BYTES, Size
from ssmprof.work import (
    Cost,
    Parts,
    call_tokens,
    elementwise,
    held_tokens,
    matmul,
    rms_norm,
    total,
    work,
)

if TYPE_CHECKING:
    from ssmprof.records import Point

Base = Annotated[float, Meta(gt=0, le=limits.ROPE_BASE)]


class Latent(Part, frozen=True, kw_only=True, tag="mla"):
    """Latent attention; `q_lora_rank` None projects queries directly.

    `qk_rope_head_dim` features of queries and of the one shared key are turned with the base
    `rope_theta`, or left as they are where it is None (Kimi-Linear). `bias` is one of the
    projections to the latents and of the output. `norm_eps` is that of the latents' norms, and
    None the model's.
    """

    label: ClassVar[str] = "MLA"
    memory: ClassVar[Memory] = "grows"

    heads: Size
    kv_lora_rank: Size
    q_lora_rank: Size | None = None
    qk_nope_head_dim: Size = 128
    qk_rope_head_dim: Size = 64
    v_head_dim: Size = 128
    bias: bool = False
    norm_eps: Annotated[float, Meta(gt=0, le=1.0)] | None = None
    rope_theta: Base | None = 10_000.0
    rope_interleaved: bool = False
    rope_scaling: RopeScaling | None = None

    @property
    def head_dim(self) -> int:
        """Width of a query, and of a key once expanded."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def q_width(self) -> int:
        """Features of all queries of a token."""
        return self.heads * self.head_dim

    @property
    def row(self) -> int:
        """Features that a token adds to the cache: its latent and the shared key."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def expanded(self) -> int:
        """Features of a token's keys and values, without the shared key."""
        return self.heads * (self.qk_nope_head_dim + self.v_head_dim)

    def check(self, d_model: int) -> tuple[str, str] | None:
        """Pairs are pairs."""
        if self.rope_theta is not None and self.qk_rope_head_dim % 2:
            width = self.qk_rope_head_dim
            return "qk_rope_head_dim", f"{width} is odd; rotary embedding turns pairs"
        return None

    def weights(self, d_model: int) -> list[Weight]:
        """Projections down, norms of what they make, projections up, output."""
        reads, rank, out = self.reads(d_model), self.q_lora_rank, self.heads * self.v_head_dim
        found = [Weight((rank or reads) * self.q_width)]
        if rank:
            found += [Weight(reads * rank), Weight(rank)]
            found += [Weight(rank)] if self.bias else []
        found += [
            Weight(reads * self.row),
            Weight(self.kv_lora_rank),
            Weight(self.kv_lora_rank * self.expanded),
            Weight(out * d_model),
        ]
        return found + ([Weight(self.row), Weight(d_model)] if self.bias else [])

    def held(self, point: Point) -> list[Held]:
        """One latent and one shared key per token."""
        return [Held("kv", held_tokens(point) * self.row)]

    def kept(self) -> list[Keys | State]:
        """The latent and the shared key, on every rank."""
        return [Keys(1, self.row, latent=True)]

    def table(self) -> tuple[object, int] | None:
        """Cosine and sine of half the turned features."""
        if self.rope_theta is None:
            return None
        return (self.rope_theta, self.qk_rope_head_dim, self.rope_scaling), (
            self.qk_rope_head_dim // 2
        )

    def cost(self, d_model: int, point: Point) -> Parts:
        """Projections down and up, scores, output; rotary embedding with norm and cache write."""
        b, tokens, reads = DTYPE_BYTES[point.dtype], call_tokens(point), self.reads(d_model)
        rank = self.q_lora_rank
        queries = matmul(tokens, rank or reads, self.q_width, b)
        if rank:
            low = matmul(tokens, reads, rank, b, bias=self.bias)
            queries = total((low, rms_norm(tokens, rank, b), queries))
        # The shared key goes into the cache, and what is turned of queries to those absorbed.
        turns = self.rope_theta is not None
        heads = 1 + (self.heads if turns or point.phase == "decode" else 0)
        moved = tokens * heads * self.qk_rope_head_dim
        rotary = elementwise(moved, b, reads=1, flops=3 if turns else 0)
        return {
            "q_proj": queries,
            "kv_down": matmul(tokens, reads, self.row, b, bias=self.bias),
            "rope": total((rms_norm(tokens, self.kv_lora_rank, b), rotary)),
            "kv_up": matmul(tokens, self.kv_lora_rank, self.expanded, b),
            "attention": self._step(point, b)
            if point.phase == "decode"
            else self._scores(point, b),
            "out_proj": matmul(tokens, self.heads * self.v_head_dim, d_model, b, bias=self.bias),
        }

    def _scores(self, point: Point, b: int) -> Cost:
        """Of a prefill: every head has its keys and values, and all of them the shared key."""
        looked, tokens = point.batch * read_pairs(point, None), call_tokens(point)
        seen = self.expanded + self.qk_rope_head_dim
        return work(
            flops=2 * looked * self.heads * (self.head_dim + self.v_head_dim),
            read=tokens * (seen + self.q_width) * b,
            written=tokens * self.heads * self.v_head_dim * b,
            exps=self.heads * looked,
        )

    def _step(self, point: Point, b: int) -> Cost:
        """Of a decode step: queries meet the latents themselves, which are keys and values."""
        looked, batch = point.batch * held_tokens(point), point.batch
        absorbed = self.heads * self.row
        return work(
            flops=2 * looked * self.heads * (self.row + self.kv_lora_rank),
            read=(looked * self.row + batch * absorbed) * b,
            written=batch * self.heads * self.kv_lora_rank * b,
            exps=self.heads * looked,
        )

    def peak(self, d_model: int, point: Point, workspace: int = 0) -> int:
        """The widest of: expanded keys and values with queries, scores, and the output."""
        out, lse = self.heads * self.v_head_dim, self.heads * 4 / DTYPE_BYTES[point.dtype]
        if point.phase == "decode":
            absorbed, latents = self.heads * self.row, self.heads * self.kv_lora_rank
            scores = self.heads * held_tokens(point)
            widest = [
                (self.q_width, self.row, absorbed), (absorbed, scores, scores),
                (absorbed, scores, latents), (latents, out),
            ]  # fmt: skip
        else:
            keys = self.heads * self.head_dim
            widest = [
                (self.q_lora_rank or 0, self.q_width), (self.q_width, self.row),
                (self.q_width, self.expanded, keys, out, lse),
            ]  # fmt: skip
        return max(alive(point, widths) for widths in (*widest, (out, d_model)))
