"""Names of mixtures of experts, and of the transformers that have them."""

from __future__ import annotations

import math
from typing import Any

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.mla.shape import Latent
from ssmprof.mixers.mlp.shape import GATED, Mlp
from ssmprof.mixers.moe.shape import Moe
from ssmprof.models.config.names import Piece, Source, one
from ssmprof.models.config.names.parts import Names, attention, ends, mlp
from ssmprof.models.recipe import Recipe

NORMS = ("input_layernorm", "post_attention_layernorm")


def experts(
    part: Moe,
    ours: str,
    base: str,
    *,
    router: str,
    up: tuple[str, ...] = ("gate_proj", "up_proj"),
    down: str = "down_proj",
    common: str = "shared_experts",
    common_up: tuple[str, ...] | None = None,
    common_down: str | None = None,
    output: float = 1.0,
) -> Names:
    """Experts that are published one by one, as `base.experts.3.up_proj`, and the shared one.

    `common` is what the shared one is called, `common_up` and `common_down` its matrices where they
    have other names than those of the rest.
    """
    every = range(part.experts)
    found = {
        f"{ours}.router.proj.weight": one(router),
        f"{ours}.up": Source(
            tuple(Piece(f"{base}.experts.{e}.{name}.weight") for e in every for name in up),
            matrices=part.experts,
        ),
        f"{ours}.down": Source(
            tuple(Piece(f"{base}.experts.{e}.{down}.weight", scale=output) for e in every),
            matrices=part.experts,
        ),
    }
    if part.selection_bias:
        found[f"{ours}.router.selection_bias"] = one(f"{base}.gate.e_score_correction_bias")
    if part.shared_d_ff:
        shared = f"{base}.{common}"
        pieces = tuple(Piece(f"{shared}.{name}.weight") for name in common_up or up)
        found[f"{ours}.shared.up.weight"] = Source(pieces)
        found[f"{ours}.shared.down.weight"] = one(f"{shared}.{common_down or down}.weight", output)
    if part.shared_gate:
        found[f"{ours}.shared.gate.weight"] = one(f"{base}.{common}_gate.weight")
    return found


def mixtral_names(keys: Any, recipe: Recipe) -> Names:
    """Names of Mixtral."""
    found = ends(recipe, "model.embed_tokens.weight", "model.norm.weight")
    for step, layer in enumerate(recipe.layers):
        ours, base = f"stack.layers.{step}", f"model.layers.{step // 2}"
        found[f"{ours}.norm.weight"] = one(f"{base}.{NORMS[step % 2]}.weight")
        part = recipe.parts[layer.parts[0]]
        if isinstance(part, Attention):
            found |= attention(part, f"{ours}.parts.0", f"{base}.self_attn")
        else:
            assert isinstance(part, Moe)
            moe = f"{base}.block_sparse_moe"
            found |= experts(
                part, f"{ours}.parts.0", moe, router=f"{moe}.gate.weight", up=("w1", "w3"),
                down="w2",
            )  # fmt: skip
    return found


def gpt_oss_names(keys: Any, recipe: Recipe) -> Names:
    """Names of gpt-oss, whose gates and values take turns, input features first."""
    found = ends(recipe, "model.embed_tokens.weight", "model.norm.weight")
    for step, layer in enumerate(recipe.layers):
        ours, base = f"stack.layers.{step}", f"model.layers.{step // 2}"
        found[f"{ours}.norm.weight"] = one(f"{base}.{NORMS[step % 2]}.weight")
        part = recipe.parts[layer.parts[0]]
        ours = f"{ours}.parts.0"
        if isinstance(part, Attention):
            found |= attention(part, ours, f"{base}.self_attn")
            if part.sinks:
                found[f"{ours}.sinks"] = one(f"{base}.self_attn.sinks")
            continue
        moe = f"{base}.mlp"
        found |= {
            f"{ours}.router.proj.weight": one(f"{moe}.router.weight"),
            f"{ours}.router.proj.bias": one(f"{moe}.router.bias"),
            f"{ours}.up": one(f"{moe}.experts.gate_up_proj", transform="halves_transpose"),
            f"{ours}.up_bias": one(f"{moe}.experts.gate_up_proj_bias", transform="halves"),
            f"{ours}.down": one(f"{moe}.experts.down_proj", transform="transpose"),
            f"{ours}.down_bias": one(f"{moe}.experts.down_proj_bias"),
        }
    return found


def deepseek_names(keys: Any, recipe: Recipe) -> Names:
    """Names of DeepSeek-V2 and V3."""
    found = ends(recipe, "model.embed_tokens.weight", "model.norm.weight")
    for step, layer in enumerate(recipe.layers):
        ours, base = f"stack.layers.{step}", f"model.layers.{step // 2}"
        found[f"{ours}.norm.weight"] = one(f"{base}.{NORMS[step % 2]}.weight")
        part = recipe.parts[layer.parts[0]]
        ours = f"{ours}.parts.0"
        if isinstance(part, Latent):
            found |= latent(part, ours, f"{base}.self_attn", scores=_stretch(keys))
        elif isinstance(part, Mlp):
            found |= mlp(part, ours, f"{base}.mlp")
        else:
            assert isinstance(part, Moe)
            assert part.act in GATED
            found |= experts(part, ours, f"{base}.mlp", router=f"{base}.mlp.gate.weight")
    return found


def _stretch(keys: Any) -> float:
    """What YaRN multiplies scores with, beside cosine and sine (arXiv:2309.00071, section 3.4)."""
    told = keys.rope_scaling or keys.rope_parameters or {}
    kind = told.get("rope_type") or told.get("type") or "default"
    share, factor = told.get("mscale_all_dim"), told.get("factor", 1.0)
    if kind == "default" or not share or factor <= 1:
        return 1.0
    return (0.1 * share * math.log(factor) + 1.0) ** 2


def latent(part: Latent, ours: str, base: str, *, scores: float = 1.0) -> Names:
    """One latent attention; `scores` scales what its softmax reads."""
    turned = part.qk_rope_head_dim
    pairs = (*range(0, turned, 2), *range(1, turned, 2)) if part.rope_interleaved else ()
    still = part.qk_nope_head_dim
    order = (*range(still), *(still + row for row in pairs)) if pairs else ()
    rank = part.kv_lora_rank
    low = (0, rank), (rank, rank + turned)
    queries = "q_b_proj" if part.q_lora_rank else "q_proj"

    def down(kind: str) -> Source:
        name = f"{base}.kv_a_proj_with_mqa.{kind}"
        return Source((Piece(name, low[0]), Piece(name, low[1], pairs)))

    found = {
        f"{ours}.q_proj.weight": Source((Piece(f"{base}.{queries}.weight", None, order, scores),)),
        f"{ours}.kv_down.weight": down("weight"),
        f"{ours}.kv_norm.weight": one(f"{base}.kv_a_layernorm.weight"),
        f"{ours}.kv_up.weight": one(f"{base}.kv_b_proj.weight"),
        f"{ours}.out_proj.weight": one(f"{base}.o_proj.weight"),
    }
    if part.q_lora_rank:
        found[f"{ours}.q_down.weight"] = one(f"{base}.q_a_proj.weight")
        found[f"{ours}.q_norm.weight"] = one(f"{base}.q_a_layernorm.weight")
    if part.bias:
        found[f"{ours}.kv_down.bias"] = down("bias")
        found[f"{ours}.out_proj.bias"] = one(f"{base}.o_proj.bias")
        if part.q_lora_rank:
            found[f"{ours}.q_down.bias"] = one(f"{base}.q_a_proj.bias")
    return found
