"""Names of MiniMax-01: lightning attention beside softmax, experts in every layer."""

from __future__ import annotations

from typing import Any

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.linear_attention.shape import Lightning
from ssmprof.mixers.moe.shape import Moe
from ssmprof.models.config.names import Piece, Source, one
from ssmprof.models.config.names.experts import NORMS, experts
from ssmprof.models.config.names.parts import Names, attention, ends
from ssmprof.models.recipe import Recipe


def minimax_names(keys: Any, recipe: Recipe) -> Names:
    """Names of MiniMax; what beta and alpha scale is what a sub-layer says, by their ratio."""
    found = ends(recipe, "model.embed_tokens.weight", "model.norm.weight")
    for step, layer in enumerate(recipe.layers):
        ours, base = f"stack.layers.{step}", f"model.layers.{step // 2}"
        found[f"{ours}.norm.weight"] = one(f"{base}.{NORMS[step % 2]}.weight")
        part, ours = recipe.parts[layer.parts[0]], f"{ours}.parts.0"
        if isinstance(part, Lightning):
            ratio = _ratio(keys, "linear_attn", "linear_attention")
            found |= _lightning(part, ours, f"{base}.self_attn", ratio)
        elif isinstance(part, Attention):
            ratio = _ratio(keys, "full_attn", "full_attention")
            found |= attention(part, ours, f"{base}.self_attn", output=ratio)
        else:
            assert isinstance(part, Moe)
            moe, ratio = f"{base}.block_sparse_moe", _ratio(keys, "mlp", "mlp")
            found |= experts(
                part, ours, moe, router=f"{moe}.gate.weight", up=("w1", "w3"), down="w2",
                output=ratio,
            )  # fmt: skip
    return found


def _ratio(keys: Any, name: str, own: str) -> float:
    """Of beta and alpha, whether told as transformers or as its own code names them."""
    beta = getattr(keys, f"{name}_beta_factor") * getattr(keys, f"layernorm_{own}_beta")
    alpha = getattr(keys, f"{name}_alpha_factor") * getattr(keys, f"layernorm_{own}_alpha")
    return beta / alpha


def _lightning(part: Lightning, ours: str, base: str, ratio: float) -> Names:
    """One lightning attention, whose projections stand head by head."""
    width = part.key_dim
    rows = [
        Piece(f"{base}.qkv_proj.weight", (start, start + width))
        for kind in range(3)
        for start in range(kind * width, 3 * part.heads * width, 3 * width)
    ]
    return {
        f"{ours}.in_proj.weight": Source((*rows, Piece(f"{base}.output_gate.weight"))),
        f"{ours}.norm.weight": one(f"{base}.norm.weight"),
        f"{ours}.out_proj.weight": one(f"{base}.out_proj.weight", ratio),
    }
