"""What files of transformers 4 and 5 leave out, write out or nest means one and the same model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from models.published import config, read, without

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.mamba1.shape import Mamba1
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.models.config import reader
from ssmprof.models.recipe import Recipe

# What every file of transformers 5 has beside its family's keys.
WRITTEN_OUT = {
    "architectures": ["X"], "chunk_size_feed_forward": 0, "dtype": "bfloat16",
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "is_encoder_decoder": False, "output_attentions": False, "output_hidden_states": False,
    "pad_token_id": 0, "problem_type": None, "return_dict": True, "transformers_version": "5.24.0",
    "use_cache": True, "bos_token_id": 1, "eos_token_id": [2, 3], "initializer_range": 0.02,
    "_name_or_path": "", "attention_dropout": 0.0, "quantization_config": {"bits": 4},
}  # fmt: skip

QWEN2 = {
    "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "intermediate_size": 4864, "vocab_size": 151_936,
    "tie_word_embeddings": True, "rope_theta": 1e6, "hidden_act": "silu",
    "sliding_window": 32_768, "use_sliding_window": False, "max_window_layers": 21,
}  # fmt: skip
PHI4_MINI = {
    "model_type": "phi3", "hidden_size": 3072, "num_hidden_layers": 32, "num_attention_heads": 24,
    "num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 200_064,
    "tie_word_embeddings": True, "rope_theta": 10_000.0, "hidden_act": "silu", "full_attn_mod": 1,
    "partial_rotary_factor": 0.75, "sliding_window": 262_144, "attention_bias": False,
    "interpolate_factor": 1, "lm_head_bias": False, "max_position_embeddings": 131_072,
    "original_max_position_embeddings": 4096, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
    "rope_scaling": {
        "type": "longrope", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48,
    },
}  # fmt: skip
MAMBA = {
    "model_type": "mamba", "hidden_size": 1536, "num_hidden_layers": 48, "state_size": 16,
    "conv_kernel": 4, "expand": 2, "time_step_rank": 96, "vocab_size": 50_280,
    "d_inner": 3072, "d_model": 1536, "n_layer": 48, "ssm_cfg": {}, "rms_norm": True,
    "fused_add_norm": True, "pad_vocab_size_multiple": 8, "intermediate_size": 3072,
}  # fmt: skip
GEMMA3_4B: dict[str, Any] = {
    "model_type": "gemma3", "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27},
    "text_config": {
        "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10_240,
        "num_hidden_layers": 34, "sliding_window": 1024,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    },
}  # fmt: skip


def attention(recipe: Recipe, name: str = "attention") -> Attention:
    part = recipe.parts[name]
    assert isinstance(part, Attention)
    return part


def test_keys_that_every_file_writes_change_nothing():
    for name in ("llama-3.1-8b", "gemma-3-1b", "granite-4.0-h-1b", "zamba2-2.7b"):
        assert read(config(name, **WRITTEN_OUT)) == read(config(name))


def test_a_rotary_base_is_read_where_either_version_writes_it():
    flat = attention(read(QWEN2))
    assert flat == Attention(heads=14, kv_heads=2, head_dim=64, qkv_bias=True, rope_theta=1e6)
    values = {key: value for key, value in QWEN2.items() if key != "rope_theta"}
    for nested in (
        {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}},
        {"rope_parameters": {"full_attention": {"rope_theta": 1e6, "rope_type": "default"}}},
        {"rope_theta": 1e6, "rope_parameters": {"rope_type": "default"}},
    ):
        assert attention(read(values | nested)) == flat


def test_scaling_of_llama_3_is_read_from_either_key():
    old = attention(read(config("llama-3.1-8b")))
    assert old.rope_scaling is not None
    assert old.rope_scaling.kind == "llama3"
    assert old.rope_scaling.original_tokens == 8192
    nested = config("llama-3.1-8b")["rope_scaling"] | {"rope_theta": 500_000.0}
    new = without("llama-3.1-8b", "rope_scaling", "rope_theta") | {"rope_parameters": nested}
    assert attention(read(new)) == old


def test_heads_turn_in_part_and_factors_stand_for_each_pair():
    found = attention(read(PHI4_MINI))
    assert (found.rope_dim, found.window) == (96, 262_144)
    assert found.rope_scaling is not None
    assert found.rope_scaling.factor == 32
    assert len(found.rope_scaling.factors) == len(found.rope_scaling.long_factors) == 48
    assert read(PHI4_MINI | {"rope_scaling": {**PHI4_MINI["rope_scaling"], "type": "su"}}) == read(
        PHI4_MINI
    )
    silent = {key: PHI4_MINI[key] for key in PHI4_MINI if "max_position" not in key}
    short = attention(read(silent)).rope_scaling  # both lengths are the class's
    assert short is not None and (short.factor, short.original_tokens) == (1, 4096)  # noqa: PT018
    assert attention(read(config("bamba-9b"))).rope_dim == 64
    assert attention(read(without("bamba-9b", "attn_rotary_emb"))).rope_dim == 64


def test_yarn_is_read_with_its_factors():
    scaling = {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768,
        "mscale": 1.0, "mscale_all_dim": 0.5, "beta_fast": 16, "truncate": False,
    }  # fmt: skip
    found = attention(read(config("qwen3-8b", rope_scaling=scaling))).rope_scaling
    assert found is not None
    assert (found.factor, found.beta_fast, found.truncate) == (4.0, 16.0, False)
    assert found.attention_factor == pytest.approx(1.1386294 / 1.0693147)


def test_a_window_holds_for_the_layers_that_have_one():
    sliding = QWEN2 | {"use_sliding_window": True}
    found = read(sliding)
    assert [layer.parts[0] for layer in found.layers[::2]] == ["attention"] * 21 + ["sliding"] * 3
    assert attention(found, "sliding").window == 32_768
    assert attention(found).window is None
    kinds = ["full_attention"] * 21 + ["sliding_attention"] * 3
    assert read(sliding | {"layer_types": kinds}) == found
    assert attention(read(sliding | {"max_window_layers": 0})).window == 32_768
    assert attention(read(sliding | {"max_window_layers": 24})).window is None
    assert attention(read(sliding | {"sliding_window": None})).window is None
    mixed = config("mistral-7b-v0.1", layer_types=["sliding_attention", "full_attention"] * 16)
    assert read(mixed).count("sliding") == 16


def test_no_window_of_mistral_is_none_where_null_and_the_classs_where_absent():
    assert attention(read(config("mistral-7b-v0.1"))).window == 4096
    assert attention(read(config("mistral-7b-v0.3"))).window is None
    assert attention(read(without("mistral-7b-v0.3", "sliding_window"))).window == 4096


def test_gemma_3_turns_by_two_bases_in_either_style():
    old = read(config("gemma-3-1b"))
    assert attention(old, "sliding") == Attention(
        heads=4, kv_heads=1, head_dim=256, window=512, qk_norm="head"
    )
    assert attention(old).rope_theta == 1e6
    assert [layer.parts[0] for layer in old.layers[::2]][:7] == [
        *["sliding"] * 5, "attention", "sliding"
    ]  # fmt: skip
    assert all(layer.sandwich for layer in old.layers)
    assert old.parts["mlp"] == Mlp(d_ff=6912, act="geglu_tanh")
    assert (old.tie_embeddings, old.embedding_scale) == (True, 1152**0.5)
    kinds = [
        "full_attention" if layer.parts[0] == "attention" else "sliding_attention"
        for layer in old.layers[::2]
    ]
    new = without("gemma-3-1b", "rope_theta", "rope_local_base_freq", "sliding_window_pattern")
    new |= {
        "layer_types": kinds, "_sliding_window_pattern": 6, "use_bidirectional_attention": False,
        "final_logit_softcapping": None, "attn_logit_softcapping": None,
        "rope_parameters": {
            "full_attention": {"rope_theta": 1e6, "rope_type": "default"},
            "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
        },
    }  # fmt: skip
    assert read(new) == old
    assert read(without("gemma-3-1b", "sliding_window_pattern")) == old


def test_a_model_that_sees_is_read_for_its_text_with_the_defaults_of_its_class():
    found = read(GEMMA3_4B)
    assert (found.d_model, found.vocab, found.count("attention")) == (2560, 262_208, 5)
    wide = attention(found)
    assert (wide.heads, wide.kv_heads, wide.head_dim) == (8, 4, 256)
    assert wide.rope_scaling is not None
    assert wide.rope_scaling.kind == "linear"
    assert attention(found, "sliding").rope_scaling is None


def test_gemma_2_bounds_scores_and_slides_every_other_layer():
    values = config("gemma-3-1b", model_type="gemma2", rope_theta=10_000.0)
    for key in ("sliding_window_pattern", "rope_local_base_freq"):
        del values[key]
    found = read(values)
    assert [layer.parts[0] for layer in found.layers[:4]] == ["sliding", "mlp", "attention", "mlp"]
    assert (attention(found).score_cap, found.logits_cap) == (50.0, 30.0)
    assert attention(found).qk_norm == "none"


def test_mamba_has_the_rank_of_the_rule_and_the_taps_of_the_file():
    part = Mamba1(d_inner=3072, d_state=16, dt_rank=96)
    for told in (96, "auto", None):
        assert read(MAMBA | {"time_step_rank": told}).parts["mamba1"] == part
    changed = {"conv_kernel": 5, "use_bias": True, "use_conv_bias": False}
    found = read(MAMBA | changed).parts["mamba1"]
    assert found == Mamba1(
        d_inner=3072, d_state=16, dt_rank=96, d_conv=5, proj_bias=True, conv_bias=False
    )
    falcon = read(config("falcon-mamba-7b"))
    assert falcon.parts["mamba1"] == Mamba1(
        d_inner=8192, d_state=16, dt_rank=256, inner_norms="plain", inner_norm_eps=1e-6
    )


@pytest.mark.parametrize("limit", ["[0.0, Infinity]", '[0.0, {"__float__": "Infinity"}]', "null"])
def test_a_step_without_bounds_is_read_as_python_and_transformers_5_write_it(
    limit: str, tmp_path: Path
):
    text = json.dumps(config("codestral-mamba-7b", time_step_limit=0))
    file = tmp_path / "config.json"
    file.write_text(text.replace('"time_step_limit": 0', f'"time_step_limit": {limit}'))
    assert reader.read(file).parts == read(config("codestral-mamba-7b")).parts
    bounded = read(config("codestral-mamba-7b", time_step_limit=[0.001, 0.1])).parts["mamba2"]
    assert isinstance(bounded, Mamba2)
    assert bounded.dt_limit == (0.001, 0.1)


def test_nemotron_is_spelt_by_letters_or_listed_and_defaults_of_experts_mean_nothing():
    old = read(config("nemotron-h-8b"))
    letters = {"M": "linear_attention", "*": "full_attention", "-": "mlp"}
    listed = [letters[letter] for letter in config("nemotron-h-8b")["hybrid_override_pattern"]]
    new = without("nemotron-h-8b", "hybrid_override_pattern", "num_hidden_layers", "expand") | {
        "layers_block_type": listed, "n_routed_experts": 8, "n_shared_experts": 1,
        "moe_intermediate_size": 7688, "moe_shared_expert_intermediate_size": 7688,
        "num_experts_per_tok": 2, "norm_topk_prob": True, "n_group": 1, "topk_group": 1,
        "routed_scaling_factor": 1.0, "moe_shared_expert_overlap": True, "moe_latent_size": None,
        "mtp_layers_block_type": ["full_attention", "moe"], "num_nextn_predict_layers": 0,
        "mamba_ssm_cache_dtype": "float32", "time_step_min": 0.001, "sliding_window": None,
    }  # fmt: skip
    assert read(new) == old
    earlier = [letters[letter].replace("linear_attention", "mamba") for letter in "M*-M"]
    assert read(new | {"layers_block_type": earlier}).layer_count == 4
    assert attention(old).rope_theta is None
    assert attention(read(without("nemotron-h-8b", "head_dim"))).head_dim == 128
    biased = read(new | {"use_bias": True, "mlp_bias": True, "use_conv_bias": False})
    scan, forward = biased.parts["mamba2"], biased.parts["mlp"]
    assert isinstance(scan, Mamba2)
    assert isinstance(forward, Mlp)
    assert (scan.proj_bias, scan.conv_bias, forward.bias) == (True, False, True)
    assert read(new | {"mlp_hidden_act": "gelu"}).parts["mlp"] == Mlp(d_ff=21_504, act="gelu")


def test_biases_of_hybrids_are_kept():
    bamba = read(config("bamba-9b", mlp_bias=True, mamba_conv_bias=False, attention_bias=True))
    assert bamba.parts["mlp"] == Mlp(d_ff=14_336, bias=True)
    assert attention(bamba).qkv_bias
    assert attention(bamba).out_bias
    falcon = read(config("falcon-h1-0.5b", mamba_proj_bias=True, projectors_bias=True))
    assert falcon.parts["mamba2"] == Mamba2(
        d_inner=1536, d_state=128, gated_norm=False, proj_bias=True
    )


def test_widths_of_a_scan_follow_from_the_model_where_no_key_says_them():
    for told in ("auto", None):
        assert read(config("falcon-h1-0.5b", mamba_d_head=told)) == read(config("falcon-h1-0.5b"))
    wide = read(config("falcon-h1-0.5b", mamba_d_ssm=None, mamba_d_head="auto", mamba_n_heads=32))
    assert wide.parts["mamba2"] == Mamba2(d_inner=2048, d_state=128, gated_norm=False)


def test_granite_turns_only_where_it_says_rope_and_may_have_no_scan():
    assert attention(read(config("granite-4.0-h-1b"))).rope_theta is None
    turned = read(
        config(
            "granite-4.0-h-1b", position_embedding_type="rope", layer_types=["attention"] * 40,
            logits_scaling=8,
        )
    )  # fmt: skip
    assert attention(turned).rope_theta == 10_000
    assert (list(turned.parts), turned.logits_scale) == (["mlp", "attention"], 0.125)
    listed = config("granite-4.0-h-1b")["layer_types"]
    renamed = [kind.replace("mamba", "linear_attention").replace("full_", "") for kind in listed]
    assert read(config("granite-4.0-h-1b", layer_types=renamed)) == read(config("granite-4.0-h-1b"))


def test_zamba_2_shares_blocks_in_turn_and_keeps_adapters_apart():
    found = read(config("zamba2-2.7b"))
    users = [layer.shared.copy for layer in found.layers if layer.shared]
    assert users == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert attention(found).d_in == 5120
    assert attention(found).rope_theta is None
    small = config("zamba2-2.7b", use_mem_rope=True, use_shared_attention_adapter=True)
    assert attention(read(small)).adapter_rank == 128
    assert attention(read(small)).rope_theta == 10_000


@pytest.mark.parametrize(
    ("name", "tied"),
    [
        ("llama-3.1-8b", False), ("mistral-7b-v0.1", False), ("qwen3-8b", False),
        ("gemma-3-1b", True), ("codestral-mamba-7b", False), ("falcon-mamba-7b", True),
        ("falcon-h1-7b", False), ("bamba-9b", False), ("nemotron-h-8b", False),
        ("granite-4.0-h-1b", False), ("zamba2-2.7b", True),
    ],
)  # fmt: skip
def test_a_head_is_tied_as_the_class_has_it_where_the_file_says_nothing(name: str, tied: bool):
    assert read(without(name, "tie_word_embeddings")).tie_embeddings is tied
    for told in (True, False):
        assert read(config(name, tie_word_embeddings=told)).tie_embeddings is told
