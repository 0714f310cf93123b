"""xLSTM-7B (arXiv:2503.13427): a matrix LSTM and a gated feed-forward in every layer."""

from __future__ import annotations

from msgspec import Struct

from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.mlstm.shape import Mlstm
from ssmprof.mixers.part import Part
from ssmprof.models.config.common import each_with
from ssmprof.models.config.experts import one_of
from ssmprof.models.config.keys import (
    Count,
    Epsilon,
    Factor,
    KeyProblem,
    Text,
    Whole,
    agree,
    must_be,
)
from ssmprof.models.config.names.recurrent import xlstm_names
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe
from ssmprof.models.written import recipe
from ssmprof.scalars import Dtype, Size


class Xlstm(Struct, frozen=True, kw_only=True):
    """Keys of an xLSTM; kernels and their chunks change no size."""

    hidden_size: Size | None = None
    embedding_dim: Size | None = None
    num_hidden_layers: Count | None = None
    num_blocks: Count | None = None
    num_heads: Size = 8
    vocab_size: Size = 50304
    use_bias: bool = False
    add_out_norm: bool = True
    qk_dim_factor: Factor = 0.5
    v_dim_factor: Factor = 1.0
    head_dim: Size | None = None
    qk_head_dim: Size | None = None
    v_head_dim: Size | None = None
    ffn_proj_factor: Factor = 2.667
    ffn_round_up_to_multiple_of: Size = 64
    gate_soft_cap: Factor | None = 15.0
    output_logit_soft_cap: Factor | None = 30.0
    norm_eps: Epsilon = 1e-6
    norm_reduction_force_float32: bool = True
    weight_mode: Text = "single"
    chunkwise_kernel: Text | None = None
    sequence_kernel: Text | None = None
    step_kernel: Text | None = None
    mode: Text | None = None
    max_inference_chunksize: Whole = 0
    return_last_states: bool = True
    inference_state_dtype: Dtype = "float32"
    tie_word_embeddings: bool = False


def _head(keys: Xlstm, size: int, factor: float, key: str) -> int:
    """Width of a head of a factor of the model's width."""
    width = int(size * factor)
    if not width or width % keys.num_heads:
        raise KeyProblem(key, f"{factor} of {size} features do not make {keys.num_heads} heads")
    return width // keys.num_heads


def _xlstm(keys: Xlstm, name: str) -> Recipe:
    must_be(keys.add_out_norm, True, "add_out_norm", "an xLSTM without a last norm")
    must_be(keys.use_bias, False, "use_bias", "an xLSTM with biases")
    must_be(keys.tie_word_embeddings, False, "tie_word_embeddings", "an xLSTM with a tied head")
    if keys.weight_mode not in ("single", "fused"):
        raise KeyProblem("weight_mode", f'expected "single" or "fused", got "{keys.weight_mode}"')
    size = one_of(keys.hidden_size, keys.embedding_dim, "hidden_size", "embedding_dim", 4096)
    count = one_of(keys.num_hidden_layers, keys.num_blocks, "num_hidden_layers", "num_blocks", 32)
    step = keys.ffn_round_up_to_multiple_of
    d_ff = int((size * keys.ffn_proj_factor + step - 1) // step * step)
    if not d_ff:
        raise KeyProblem("ffn_proj_factor", f"{keys.ffn_proj_factor} of {size} features is none")
    key = _head(keys, size, keys.qk_dim_factor, "qk_dim_factor")
    value = _head(keys, size, keys.v_dim_factor, "v_dim_factor")
    agree(keys.qk_head_dim, key, "qk_head_dim", "what qk_dim_factor makes")
    for same in ("head_dim", "v_head_dim"):
        agree(getattr(keys, same), value, same, "what v_dim_factor makes")
    parts: dict[str, Part] = {
        "mlstm": Mlstm(
            heads=keys.num_heads,
            key_dim=key,
            value_dim=value,
            gate_cap=keys.gate_soft_cap,
            state_dtype=keys.inference_state_dtype,
        ),
        "mlp": Mlp(d_ff=d_ff),
    }
    return recipe(
        name,
        size,
        each_with(["mlstm"] * count, "mlp"),
        parts,
        vocab=keys.vocab_size,
        tie_embeddings=False,
        norm_eps=keys.norm_eps,
        logits_cap=keys.output_logit_soft_cap,
    )


FAMILIES = {"xlstm": Family(Xlstm, _xlstm, xlstm_names)}
