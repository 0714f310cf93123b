"""Names of Zamba2: blocks of shared weights, and what each of their users has of its own."""

from __future__ import annotations

from typing import Any

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.models.config.names import one
from ssmprof.models.config.names.parts import Names, attention, ends, mamba2, mlp
from ssmprof.models.recipe import Recipe

# Scores are divided by the root of half a head's width.
_SCORES = 2**0.5


def zamba2_names(keys: Any, recipe: Recipe) -> Names:
    """Names of Zamba2: tensors of a shared block stand under the first layer that uses it."""
    scan = recipe.parts["mamba2"]
    assert isinstance(scan, Mamba2)
    found = ends(recipe, "model.embed_tokens.weight", "model.final_layernorm.weight")
    blocks: dict[int, str] = {}
    users = 0
    for step, layer in enumerate(recipe.layers):
        ours, base = f"stack.layers.{step}", f"model.layers.{step}"
        mixer = base
        if layer.shared is not None:
            copy, mixer = layer.shared.copy, f"{base}.mamba_decoder"
            if copy not in blocks:
                blocks[copy] = f"{base}.shared_transformer"
                found |= _block(recipe, f"stack.shared.copies.{copy}", blocks[copy])
            found[f"{ours}.shared.proj.weight"] = one(f"{base}.linear.weight")
            found |= _adapters(recipe, f"{ours}.shared.adapters", blocks[copy], users)
            users += 1
        found[f"{ours}.norm.weight"] = one(f"{mixer}.input_layernorm.weight")
        found |= mamba2(scan, f"{ours}.parts.0", f"{mixer}.mamba")
    return found


def _block(recipe: Recipe, ours: str, base: str) -> Names:
    attend, forward = recipe.parts["attention"], recipe.parts["mlp"]
    assert isinstance(attend, Attention)
    assert isinstance(forward, Mlp)
    return {
        f"{ours}_attention.norm.weight": one(f"{base}.input_layernorm.weight"),
        f"{ours}_mlp.norm.weight": one(f"{base}.pre_ff_layernorm.weight"),
        **attention(attend, f"{ours}_attention.part", f"{base}.self_attn", scores=_SCORES),
        **mlp(forward, f"{ours}_mlp.part", f"{base}.feed_forward", up=("gate_up_proj",)),
    }


def _adapters(recipe: Recipe, ours: str, base: str, user: int) -> Names:
    """Both products of each adapter of one user; those of queries carry the scale of scores."""
    found: Names = {}
    if recipe.parts["attention"].adapter_rank:
        for place, name in enumerate("qkv"):
            theirs = f"{base}.self_attn.linear_{name}_adapter_list.{user}"
            found[f"{ours}.attention.{place}.down.weight"] = one(f"{theirs}.0.weight")
            scale = _SCORES if name == "q" else 1.0
            found[f"{ours}.attention.{place}.up.weight"] = one(f"{theirs}.1.weight", scale)
    theirs = f"{base}.feed_forward.gate_up_proj_adapter_list.{user}"
    found[f"{ours}.mlp.down.weight"] = one(f"{theirs}.0.weight")
    found[f"{ours}.mlp.up.weight"] = one(f"{theirs}.1.weight")
    return found
