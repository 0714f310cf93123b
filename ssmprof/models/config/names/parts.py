"""Names of each kind of sub-layer and of a model's ends, whatever family they are of."""

from __future__ import annotations

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.mlp.shape import GATED, Mlp
from ssmprof.models.config.names import Piece, Source, one
from ssmprof.models.recipe import Recipe

Names = dict[str, Source]


def ends(recipe: Recipe, embedding: str, norm: str, *, add: float = 0.0) -> Names:
    """Embedding, last norm, and the head where it has weights of its own."""
    found = {"embedding.weight": one(embedding), "norm.weight": one(norm, add=add)}
    return found if recipe.tie_embeddings else found | {"head.weight": one("lm_head.weight")}


def head_order(part: Attention) -> tuple[int, ...]:
    """Rows of a head in our order: turned pairs stand half a head apart, as if all were turned.

    Published code turns the first `rope_dim` features among themselves.
    """
    if not part.rotated or part.rotated == part.head_dim:
        return ()
    half, rest = part.rotated // 2, (part.head_dim - part.rotated) // 2
    first, second = range(half), range(half, 2 * half)
    still = range(2 * half, part.head_dim)
    return (*first, *still[:rest], *second, *still[rest:])


def fused(part: Attention, name: str) -> list[tuple[str, tuple[int, int] | None]]:
    """Queries, keys and values as rows of one published tensor."""
    q, k = part.heads * part.head_dim, part.kv_heads * part.head_dim
    v = part.kv_heads * part.v_dim
    return [(name, (0, q)), (name, (q, q + k)), (name, (q + k, q + k + v))]


def attention(
    part: Attention,
    ours: str,
    base: str,
    *,
    qkv: str | None = None,
    inputs: float = 1.0,
    scores: float = 1.0,
    keys: float = 1.0,
    output: float = 1.0,
    add: float = 0.0,
) -> Names:
    """One attention; `inputs` scales what it reads, `scores`, `keys` and `output` what they say.

    `qkv` is the published name of fused projections. Where queries are normed, a scale before the
    norm would be lost: scores are scaled behind it.
    """
    normed = part.qk_norm != "none"
    order = head_order(part)
    scales = (1.0 if normed else scores, 1.0 if normed else keys, 1.0)

    def projected(kind: str, before: float) -> Source:
        where = (
            fused(part, f"{base}.{qkv}.{kind}")
            if qkv
            else [(f"{base}.{name}_proj.{kind}", None) for name in "qkv"]
        )
        return Source(
            tuple(
                Piece(name, rows, order if place < 2 else (), scale * before)
                for place, ((name, rows), scale) in enumerate(zip(where, scales, strict=True))
            )
        )

    found = {
        f"{ours}.qkv_proj.weight": projected("weight", inputs),
        f"{ours}.out_proj.weight": one(f"{base}.o_proj.weight", output),
    }
    if part.qkv_bias:
        found[f"{ours}.qkv_proj.bias"] = projected("bias", 1.0)
    if part.out_bias:
        found[f"{ours}.out_proj.bias"] = one(f"{base}.o_proj.bias", output)
    if normed:
        for name, scale in (("q_norm", scores), ("k_norm", keys)):
            piece = Piece(f"{base}.{name}.weight", order=order, scale=scale, add=add)
            found[f"{ours}.{name}"] = Source((piece,))
    return found


def mlp(
    part: Mlp,
    ours: str,
    base: str,
    *,
    gate: float = 1.0,
    output: float = 1.0,
    up: tuple[str, ...] | None = None,
    down: str = "down_proj",
) -> Names:
    """One feed-forward; `gate` scales what goes into the activation, `output` what comes out.

    `up` are the published names of the first product, gate rows before the others.
    """
    if up is None:
        up = ("gate_proj", "up_proj") if part.act in GATED else ("up_proj",)
    found: Names = {}
    for kind in ("weight", "bias") if part.bias else ("weight",):
        pieces = [Piece(f"{base}.{name}.{kind}") for name in up]
        pieces[0] = pieces[0]._replace(scale=gate)
        found[f"{ours}.up.{kind}"] = Source(tuple(pieces))
        found[f"{ours}.down.{kind}"] = one(f"{base}.{down}.{kind}", output)
    return found


def _scan(part: Mamba1 | Mamba2, ours: str, base: str, output: float) -> Names:
    """What both state spaces have: convolution, decays, skips, and the last projection."""
    found = {
        f"{ours}.conv.weight": one(f"{base}.conv1d.weight", transform="squeeze"),
        f"{ours}.A": one(f"{base}.A_log", transform="neg_exp"),
        f"{ours}.D": one(f"{base}.D"),
        f"{ours}.out_proj.weight": one(f"{base}.out_proj.weight", output),
    }
    if part.conv_bias:
        found[f"{ours}.conv.bias"] = one(f"{base}.conv1d.bias")
    if part.proj_bias:
        found[f"{ours}.out_proj.bias"] = one(f"{base}.out_proj.bias", output)
    return found


def mamba1(part: Mamba1, ours: str, base: str) -> Names:
    """One Mamba-1; the bias of the step size is that of its projection."""
    found = _scan(part, ours, base, 1.0) | {
        f"{ours}.in_proj.weight": one(f"{base}.in_proj.weight"),
        f"{ours}.x_proj.weight": one(f"{base}.x_proj.weight"),
        f"{ours}.dt_proj.weight": one(f"{base}.dt_proj.weight"),
        f"{ours}.dt_bias": one(f"{base}.dt_proj.bias"),
    }
    if part.proj_bias:
        found[f"{ours}.in_proj.bias"] = one(f"{base}.in_proj.bias")
    if part.inner_norms == "weighted":
        for mine, theirs in (("dt_norm", "dt"), ("B_norm", "b"), ("C_norm", "c")):
            found[f"{ours}.{mine}"] = one(f"{base}.{theirs}_layernorm.weight")
    return found


def mamba2(
    part: Mamba2,
    ours: str,
    base: str,
    *,
    inputs: float = 1.0,
    projected: tuple[float, ...] = (),
    output: float = 1.0,
) -> Names:
    """One Mamba-2; `projected` scales gate, x, B, C and step size, `inputs` what it reads."""
    found = _scan(part, ours, base, output) | {f"{ours}.dt_bias": one(f"{base}.dt_bias")}
    states = part.ngroups * part.d_state
    sizes = (part.d_inner, part.d_inner, states, states, part.nheads)
    for kind in ("weight", "bias") if part.proj_bias else ("weight",):
        name, before = f"{base}.in_proj.{kind}", inputs if kind == "weight" else 1.0
        pieces: list[Piece] = []
        start = 0
        for size, scale in zip(sizes, projected, strict=False):
            pieces.append(Piece(name, (start, start + size), scale=scale * before))
            start += size
        found[f"{ours}.in_proj.{kind}"] = Source(tuple(pieces)) if pieces else one(name, before)
    if part.gated_norm:
        found[f"{ours}.norm.weight"] = one(f"{base}.norm.weight")
    return found
