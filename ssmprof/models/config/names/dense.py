"""Names of transformers built like Llama."""

from __future__ import annotations

from typing import Any

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.models.config.names import one
from ssmprof.models.config.names.parts import Names, attention, ends, mlp
from ssmprof.models.recipe import Recipe


def _dense(
    recipe: Recipe, norms: tuple[str, str], *, after: tuple[str, str] | None = None,
    add: float = 0.0, qkv: str | None = None, up: tuple[str, ...] | None = None,
    scores: float = 1.0,
) -> Names:  # fmt: skip
    """Names of a transformer; `norms` stand before its two sub-layers, `after` behind them."""
    found = ends(recipe, "model.embed_tokens.weight", "model.norm.weight", add=add)
    for step, layer in enumerate(recipe.layers):
        ours, base = f"stack.layers.{step}", f"model.layers.{step // 2}"
        found[f"{ours}.norm.weight"] = one(f"{base}.{norms[step % 2]}.weight", add=add)
        if after is not None:
            found[f"{ours}.after.weight"] = one(f"{base}.{after[step % 2]}.weight", add=add)
        part = recipe.parts[layer.parts[0]]
        if isinstance(part, Attention):
            values: dict[str, Any] = {"qkv": qkv, "scores": scores, "add": add}
            found |= attention(part, f"{ours}.parts.0", f"{base}.self_attn", **values)
        else:
            assert isinstance(part, Mlp)
            found |= mlp(part, f"{ours}.parts.0", f"{base}.mlp", up=up)
    return found


_NORMS = ("input_layernorm", "post_attention_layernorm")


def llama_names(keys: Any, recipe: Recipe) -> Names:
    """Names of Llama, Mistral, Qwen2 and Qwen3."""
    return _dense(recipe, _NORMS)


def phi3_names(keys: Any, recipe: Recipe) -> Names:
    """Names of Phi-3, whose projections are fused."""
    return _dense(recipe, _NORMS, qkv="qkv_proj", up=("gate_up_proj",))


def gemma_names(keys: Any, recipe: Recipe) -> Names:
    """Names of Gemma 2 and 3: norms multiply with 1 + w, scores have a scale of their own."""
    return _dense(
        recipe,
        ("input_layernorm", "pre_feedforward_layernorm"),
        after=("post_attention_layernorm", "post_feedforward_layernorm"),
        add=1.0,
        scores=(keys.width / keys.query_pre_attn_scalar) ** 0.5,
    )
