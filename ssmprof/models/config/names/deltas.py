"""Names of models whose mixers are delta rules: Qwen3-Next, Qwen3.5, Olmo Hybrid, Kimi Linear."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.delta.shape import GatedDelta, Kda
from ssmprof.mixers.mla.shape import Latent
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.moe.shape import Moe
from ssmprof.models.config.names import Piece, Source, one
from ssmprof.models.config.names.experts import experts, latent
from ssmprof.models.config.names.parts import Names, attention, ends, head_order, mlp
from ssmprof.models.recipe import Recipe

# Taps of queries, keys and values that are published apart.
TAPS = ("q_conv1d", "k_conv1d", "v_conv1d")


def stacked(*names: str) -> Source:
    """A parameter made of whole tensors, one below the other."""
    return Source(tuple(Piece(name) for name in names))


def _rule(ours: str, base: str, norm: str, out: str, *, taps: tuple[str, ...]) -> Names:
    """What all delta rules have: taps, the norm of a head, the last projection."""
    return {
        f"{ours}.conv.weight": Source(
            tuple(Piece(f"{base}.{name}.weight") for name in taps), "squeeze"
        ),
        f"{ours}.norm.weight": one(f"{base}.{norm}.weight"),
        f"{ours}.out_proj.weight": one(f"{base}.{out}.weight"),
    }


def _decays(ours: str, base: str) -> Names:
    return {
        f"{ours}.A_log": one(f"{base}.A_log", transform="flatten"),
        f"{ours}.dt_bias": one(f"{base}.dt_bias"),
    }


def _qwen35(part: GatedDelta, ours: str, base: str) -> Names:
    names = (f"{base}.in_proj_{name}.weight" for name in ("qkv", "z", "b", "a"))
    projected = {f"{ours}.in_proj.weight": stacked(*names)}
    rule = _rule(ours, base, "norm", "out_proj", taps=("conv1d",))
    return projected | rule | _decays(ours, base)


def _olmo(ours: str, base: str) -> Names:
    names = (f"{base}.{name}_proj.weight" for name in "qkvgba")
    projected = {f"{ours}.in_proj.weight": stacked(*names)}
    return projected | _rule(ours, base, "o_norm", "o_proj", taps=TAPS) | _decays(ours, base)


def _qwen3_next(part: GatedDelta, ours: str, base: str) -> Names:
    """Its projections are fused by heads of keys: those of a head and of its values together."""
    heads, per_key = part.key_heads_or_all, part.heads // part.key_heads_or_all
    key, value = part.key_dim, per_key * part.value_dim
    wide, narrow = f"{base}.in_proj_qkvz.weight", f"{base}.in_proj_ba.weight"
    pieces = (
        *_of_heads(wide, heads, (key, key, value, value)),
        *_of_heads(narrow, heads, (per_key, per_key)),
    )
    projected = {f"{ours}.in_proj.weight": Source(pieces)}
    return projected | _rule(ours, base, "norm", "out_proj", taps=("conv1d",)) | _decays(ours, base)


def _of_heads(name: str, heads: int, sizes: tuple[int, ...]) -> Iterator[Piece]:
    """Rows that stand head by head, one kind after the other."""
    start = 0
    for size in sizes:
        for head in range(heads):
            first = head * sum(sizes) + start
            yield Piece(name, (first, first + size))
        start += size


def _gated_attention(part: Attention, ours: str, base: str) -> Names:
    """Attention whose gate stands behind the query of each head; norms multiply with 1 + w."""
    found = attention(part, ours, base, add=1.0)
    for kind in ("weight", "bias") if part.qkv_bias else ("weight",):
        order, sizes = head_order(part), (part.head_dim, part.head_dim)
        queries = list(_of_heads(f"{base}.q_proj.{kind}", part.heads, sizes))
        found[f"{ours}.qkv_proj.{kind}"] = Source((
            *(piece._replace(order=order) for piece in queries[: part.heads]),
            Piece(f"{base}.k_proj.{kind}", order=order),
            Piece(f"{base}.v_proj.{kind}"),
            *queries[part.heads :],
        ))  # fmt: skip
    return found


def _qwen(recipe: Recipe, delta: Callable[[GatedDelta, str, str], Names]) -> Names:
    found = ends(recipe, "model.embed_tokens.weight", "model.norm.weight", add=1.0)
    for step, layer in enumerate(recipe.layers):
        ours, base = f"stack.layers.{step}", f"model.layers.{step // 2}"
        norm = "post_attention_layernorm" if step % 2 else "input_layernorm"
        found[f"{ours}.norm.weight"] = one(f"{base}.{norm}.weight", add=1.0)
        part, inside = recipe.parts[layer.parts[0]], f"{ours}.parts.0"
        if isinstance(part, GatedDelta):
            found |= delta(part, inside, f"{base}.linear_attn")
        elif isinstance(part, Attention):
            found |= _gated_attention(part, inside, f"{base}.self_attn")
        elif isinstance(part, Moe):
            moe = f"{base}.mlp"
            found |= experts(part, inside, moe, router=f"{moe}.gate.weight", common="shared_expert")
        else:
            assert isinstance(part, Mlp)
            found |= mlp(part, inside, f"{base}.mlp")
    return found


def qwen3_next_names(keys: Any, recipe: Recipe) -> Names:
    """Names of a Qwen3-Next."""
    return _qwen(recipe, _qwen3_next)


def qwen35_names(keys: Any, recipe: Recipe) -> Names:
    """Names of a Qwen3.5, with experts or without."""
    return _qwen(recipe, _qwen35)


def olmo_hybrid_names(keys: Any, recipe: Recipe) -> Names:
    """Names of Olmo Hybrid: norms of a layer with attention stand behind its sub-layers."""
    found = ends(recipe, "model.embed_tokens.weight", "model.norm.weight")
    for step, layer in enumerate(recipe.layers):
        ours, base = f"stack.layers.{step}", f"model.layers.{step // 2}"
        part, inside = recipe.parts[layer.parts[0]], f"{ours}.parts.0"
        if layer.norm == "after":
            norm = "post_feedforward_layernorm" if step % 2 else "post_attention_layernorm"
            found[f"{ours}.norm.weight"] = one(f"{base}.{norm}.weight")
        else:
            norm = "post_attention_layernorm" if step % 2 else "input_layernorm"
            found[f"{ours}.norm.weight"] = one(f"{base}.{norm}.weight")
        if isinstance(part, GatedDelta):
            found |= _olmo(inside, f"{base}.linear_attn")
        elif isinstance(part, Attention):
            found |= attention(part, inside, f"{base}.self_attn")
        else:
            assert isinstance(part, Mlp)
            found |= mlp(part, inside, f"{base}.mlp")
    return found


def kda(part: Kda, ours: str, base: str) -> Names:
    """One Kimi delta attention."""
    qkvb = (f"{base}.{name}_proj.weight" for name in "qkvb")
    low = {"decay_down": "f_a", "decay_up": "f_b", "gate_down": "g_a", "gate_up": "g_b"}
    return {
        f"{ours}.in_proj.weight": stacked(*qkvb),
        **{
            f"{ours}.{mine}.weight": one(f"{base}.{name}_proj.weight") for mine, name in low.items()
        },
        **_rule(ours, base, "o_norm", "o_proj", taps=TAPS),
        **_decays(ours, base),
    }


def kimi_names(keys: Any, recipe: Recipe) -> Names:
    """Names of a Kimi Linear."""
    found = ends(recipe, "model.embed_tokens.weight", "model.norm.weight")
    for step, layer in enumerate(recipe.layers):
        ours, base = f"stack.layers.{step}", f"model.layers.{step // 2}"
        norm = "post_attention_layernorm" if step % 2 else "input_layernorm"
        found[f"{ours}.norm.weight"] = one(f"{base}.{norm}.weight")
        part, inside = recipe.parts[layer.parts[0]], f"{ours}.parts.0"
        if isinstance(part, Kda):
            found |= kda(part, inside, f"{base}.self_attn")
        elif isinstance(part, Latent):
            found |= latent(part, inside, f"{base}.self_attn")
        elif isinstance(part, Moe):
            moe = f"{base}.block_sparse_moe"
            found |= experts(
                part,
                inside,
                moe,
                router=f"{moe}.gate.weight",
                up=("w1", "w3"),
                down="w2",
                common_up=("gate_proj", "up_proj"),
                common_down="down_proj",
            )
        else:
            assert isinstance(part, Mlp)
            found |= mlp(part, inside, f"{base}.mlp")
    return found
