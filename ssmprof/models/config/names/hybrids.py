"""Names of hybrids of attention and Mamba-2."""

from __future__ import annotations

from typing import Any

from ssmprof.errors import ConfigError
from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.models.config.names import one
from ssmprof.models.config.names.parts import Names, attention, ends, mamba2, mlp
from ssmprof.models.recipe import Recipe


def bamba_names(keys: Any, recipe: Recipe) -> Names:
    """Names of Bamba."""
    found = ends(recipe, "model.embed_tokens.weight", "model.final_layernorm.weight")
    for step, layer in enumerate(recipe.layers):
        ours, base = f"stack.layers.{step}", f"model.layers.{step // 2}"
        norm = "pre_ff_layernorm" if step % 2 else "input_layernorm"
        found[f"{ours}.norm.weight"] = one(f"{base}.{norm}.weight")
        part = recipe.parts[layer.parts[0]]
        if isinstance(part, Attention):
            found |= attention(part, f"{ours}.parts.0", f"{base}.self_attn")
        elif isinstance(part, Mamba2):
            found |= mamba2(part, f"{ours}.parts.0", f"{base}.mamba")
        else:
            assert isinstance(part, Mlp)
            found |= mlp(part, f"{ours}.parts.0", f"{base}.feed_forward")
    return found


def falcon_h1_names(keys: Any, recipe: Recipe) -> Names:
    """Names of Falcon-H1, whose multipliers scale what sub-layers read and write."""
    attend, scan, forward = (recipe.parts[name] for name in ("attention", "mamba2", "mlp"))
    assert isinstance(attend, Attention)
    assert isinstance(scan, Mamba2)
    assert isinstance(forward, Mlp)
    found = ends(recipe, "model.embed_tokens.weight", "model.final_layernorm.weight")
    for layer in range(len(recipe.layers) // 2):
        base = f"model.layers.{layer}"
        mixed, after = f"stack.layers.{2 * layer}", f"stack.layers.{2 * layer + 1}"
        found[f"{mixed}.norm.weight"] = one(f"{base}.input_layernorm.weight")
        found[f"{after}.norm.weight"] = one(f"{base}.pre_ff_layernorm.weight")
        found |= attention(
            attend,
            f"{mixed}.parts.0",
            f"{base}.self_attn",
            inputs=keys.attention_in_multiplier,
            keys=keys.key_multiplier,
            output=keys.attention_out_multiplier,
        )
        found |= mamba2(
            scan,
            f"{mixed}.parts.1",
            f"{base}.mamba",
            inputs=keys.ssm_in_multiplier,
            projected=keys.ssm_multipliers,
            output=keys.ssm_out_multiplier,
        )
        gate, output = keys.mlp_multipliers
        found |= mlp(forward, f"{after}.parts.0", f"{base}.feed_forward", gate=gate, output=output)
    return found


def granite_names(keys: Any, recipe: Recipe) -> Names:
    """Names of a dense Granite 4, whose residual multiplier scales what sub-layers write."""
    found = ends(recipe, "model.embed_tokens.weight", "model.norm.weight")
    residual = keys.residual_multiplier
    for step, layer in enumerate(recipe.layers):
        ours, base = f"stack.layers.{step}", f"model.layers.{step // 2}"
        norm = "post_attention_layernorm" if step % 2 else "input_layernorm"
        found[f"{ours}.norm.weight"] = one(f"{base}.{norm}.weight")
        part = recipe.parts[layer.parts[0]]
        if isinstance(part, Attention):
            scores = keys.attention_multiplier * part.head_dim**0.5
            found |= attention(
                part, f"{ours}.parts.0", f"{base}.self_attn", scores=scores, output=residual
            )
        elif isinstance(part, Mamba2):
            found |= mamba2(part, f"{ours}.parts.0", f"{base}.mamba", output=residual)
        elif isinstance(part, Mlp):
            found |= mlp(
                part, f"{ours}.parts.0", f"{base}.shared_mlp",
                up=("input_linear",), down="output_linear", output=residual,
            )  # fmt: skip
        else:
            raise _no_names(recipe, part.label)
    return found


def nemotron_names(keys: Any, recipe: Recipe) -> Names:
    """Names of a dense Nemotron-H: every layer is one mixer."""
    found = ends(recipe, "backbone.embeddings.weight", "backbone.norm_f.weight")
    for step, layer in enumerate(recipe.layers):
        ours, base = f"stack.layers.{step}", f"backbone.layers.{step}"
        found[f"{ours}.norm.weight"] = one(f"{base}.norm.weight")
        part = recipe.parts[layer.parts[0]]
        if isinstance(part, Attention):
            found |= attention(part, f"{ours}.parts.0", f"{base}.mixer")
        elif isinstance(part, Mamba2):
            found |= mamba2(part, f"{ours}.parts.0", f"{base}.mixer")
        elif isinstance(part, Mlp):
            found |= mlp(part, f"{ours}.parts.0", f"{base}.mixer")
        else:
            raise _no_names(recipe, part.label)
    return found


def _no_names(recipe: Recipe, label: str) -> ConfigError:
    return ConfigError(f"{recipe.name}: weights of a {label} are not known by name")
