"""Names of hybrids of attention and Mamba."""

from __future__ import annotations

from typing import Any

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.moe.shape import Moe
from ssmprof.models.config.names import one
from ssmprof.models.config.names.experts import experts
from ssmprof.models.config.names.parts import Names, attention, ends, mamba1, mamba2, mlp
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
    """Names of a Granite 4, whose residual multiplier scales what sub-layers write."""
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
            assert isinstance(part, Moe)
            found |= _granite_experts(part, f"{ours}.parts.0", base, residual)
    return found


def nemotron_names(keys: Any, recipe: Recipe) -> Names:
    """Names of Nemotron-H, dense or with experts: every layer is one mixer."""
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
            assert isinstance(part, Moe)
            found |= _nemotron_experts(part, f"{ours}.parts.0", f"{base}.mixer")
    return found


def _granite_experts(part: Moe, ours: str, base: str, residual: float) -> Names:
    """Granite's experts, each projection of all of them one tensor, beside its feed-forward."""
    routed, shared = f"{base}.block_sparse_moe", f"{base}.shared_mlp"
    return {
        f"{ours}.router.proj.weight": one(f"{routed}.router.layer.weight"),
        f"{ours}.up": one(f"{routed}.input_linear.weight"),
        f"{ours}.down": one(f"{routed}.output_linear.weight", residual),
        f"{ours}.shared.up.weight": one(f"{shared}.input_linear.weight"),
        f"{ours}.shared.down.weight": one(f"{shared}.output_linear.weight", residual),
    }


def _nemotron_experts(part: Moe, ours: str, base: str) -> Names:
    """Nemotron-3's experts, which may read and write a latent."""
    found = experts(part, ours, base, router=f"{base}.gate.weight", up=("up_proj",))
    if part.latent:
        found[f"{ours}.latent_in.weight"] = one(f"{base}.fc1_latent_proj.weight")
        found[f"{ours}.latent_out.weight"] = one(f"{base}.fc2_latent_proj.weight")
    return found


def jamba_names(keys: Any, recipe: Recipe) -> Names:
    """Names of Jamba."""
    found = ends(recipe, "model.embed_tokens.weight", "model.final_layernorm.weight")
    for step, layer in enumerate(recipe.layers):
        ours, base = f"stack.layers.{step}", f"model.layers.{step // 2}"
        norm = "pre_ff_layernorm" if step % 2 else "input_layernorm"
        found[f"{ours}.norm.weight"] = one(f"{base}.{norm}.weight")
        part, after = recipe.parts[layer.parts[0]], f"{base}.feed_forward"
        if isinstance(part, Attention):
            found |= attention(part, f"{ours}.parts.0", f"{base}.self_attn")
        elif isinstance(part, Mamba1):
            found |= mamba1(part, f"{ours}.parts.0", f"{base}.mamba")
        elif isinstance(part, Mlp):
            found |= mlp(part, f"{ours}.parts.0", after)
        else:
            assert isinstance(part, Moe)
            found |= experts(part, f"{ours}.parts.0", after, router=f"{after}.router.weight")
    return found
