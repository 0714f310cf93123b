"""PLaMo 2 (arXiv:2509.04897): its own Mamba and attention with a window, norms on both sides."""

from __future__ import annotations

from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.part import Part
from ssmprof.mixers.plamo2.shape import Plamo2
from ssmprof.models.config.common import Attending, attention, each_with
from ssmprof.models.config.experts import Indices
from ssmprof.models.config.keys import Count, Epsilon, KeyProblem, Text, agree, must_be
from ssmprof.models.config.reader import Family
from ssmprof.models.config.rotary import turn
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Size, Tokens

LEAST_RANK = 64  # of the projection that makes dt


class Plamo2Keys(Attending, frozen=True, kw_only=True):
    """Keys of a PLaMo 2; one layer of every `mamba_step` is attention."""

    num_hidden_layers: Count
    intermediate_size: Size
    hidden_size_per_head: Size = 128
    mamba_enabled: bool = True
    mamba_step: Size = 2
    mamba_d_state: Size = 64
    mamba_d_conv: Size = 4
    mamba_num_heads: Size = 32
    attention_window_size: Tokens = 2048
    full_attention_idx: Indices = ()
    linear_type: Text = "normal"
    use_predefined_initial_state: bool = False
    rms_norm_eps: Epsilon = 1e-6
    tie_word_embeddings: bool = True


def _attends(keys: Plamo2Keys) -> list[bool]:
    """Which layers are attention: the middle of every step, or the last of a short model."""
    count, step = keys.num_hidden_layers, keys.mamba_step
    if not keys.mamba_enabled:
        return [True] * count
    if step < 2:
        raise KeyProblem("mamba_step", f"{step}, but a step has a Mamba and an attention")
    if count <= step // 2:
        return [layer == count - 1 for layer in range(count)]
    return [layer % step == step // 2 for layer in range(count)]


def _plamo2(keys: Plamo2Keys, name: str) -> Recipe:
    must_be(keys.linear_type, "normal", "linear_type", "projections of another kind")
    state = keys.use_predefined_initial_state
    must_be(state, False, "use_predefined_initial_state", "a learned first state")
    agree(keys.head_dim, keys.hidden_size_per_head, "head_dim", "hidden_size_per_head")
    attends, wide = _attends(keys), keys.hidden_size_per_head
    for layer in keys.full_attention_idx:
        if layer >= len(attends) or not attends[layer]:
            raise KeyProblem("full_attention_idx", f"layer {layer} is no attention")
    mixers = [
        ("attention" if layer in keys.full_attention_idx else "sliding") if here else "plamo2"
        for layer, here in enumerate(attends)
    ]
    turned = turn(keys, wide)
    window = keys.attention_window_size
    parts: dict[str, Part] = {
        "plamo2": Plamo2(
            d_inner=keys.mamba_num_heads * wide,
            d_state=keys.mamba_d_state,
            headdim=wide,
            dt_rank=max(LEAST_RANK, keys.hidden_size // 16),
            d_conv=keys.mamba_d_conv,
        ),
        "attention": attention(keys, turned, width=wide, qk_norm="heads"),
        "sliding": attention(keys, turned, width=wide, qk_norm="heads", window=window),
        "mlp": Mlp(d_ff=keys.intermediate_size),
    }
    return recipe(
        name,
        keys.hidden_size,
        each_with(mixers, "mlp", sandwich=True),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=keys.tie_word_embeddings,
        norm_eps=keys.rms_norm_eps,
    )


FAMILIES = {"plamo2": Family(Plamo2Keys, _plamo2)}
