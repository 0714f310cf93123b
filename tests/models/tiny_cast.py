"""Tiny configurations of families with experts, latent attention or another recurrence."""

from __future__ import annotations

from models.tiny_models import Config

_ENDS: Config = {
    "vocab_size": 97, "hidden_size": 48, "pad_token_id": None, "bos_token_id": None,
    "eos_token_id": None,
}  # fmt: skip
_DENSE: Config = _ENDS | {
    "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-3,
}  # fmt: skip
_SENT: Config = {"num_local_experts": 4, "num_experts_per_tok": 2}
_DEEPSEEK: Config = _DENSE | {
    "n_routed_experts": 8, "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2,
    "moe_intermediate_size": 16, "first_k_dense_replace": 1, "q_lora_rank": 20, "kv_lora_rank": 16,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 10, "num_key_value_heads": 6,
}  # fmt: skip
_JAMBA: Config = _DENSE | {
    "num_hidden_layers": 4, "num_experts": 4, "num_experts_per_tok": 2, "attn_layer_period": 4,
    "attn_layer_offset": 2, "expert_layer_period": 2, "expert_layer_offset": 1, "mamba_d_state": 8,
    "mamba_d_conv": 4, "mamba_dt_rank": 5, "use_mamba_kernels": False,
}  # fmt: skip
_GRANITE: Config = _DENSE | _SENT | {
    "mamba_n_heads": 6, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 12,
    "mamba_d_conv": 4, "mamba_expand": 2, "mamba_chunk_size": 8, "shared_intermediate_size": 40,
    "layer_types": ["mamba", "attention", "mamba"], "embedding_multiplier": 3.0,
    "logits_scaling": 4.0, "residual_multiplier": 0.22, "attention_multiplier": 0.07,
}  # fmt: skip
_NEMOTRON: Config = _ENDS | {
    "intermediate_size": 80, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10,
    "ssm_state_size": 12, "mamba_num_heads": 6, "mamba_head_dim": 16, "n_groups": 2,
    "conv_kernel": 4, "chunk_size": 8, "layer_norm_epsilon": 1e-3, "n_routed_experts": 8,
    "num_experts_per_tok": 3, "moe_intermediate_size": 16, "n_group": 1, "topk_group": 1,
    "moe_shared_expert_intermediate_size": 24, "routed_scaling_factor": 2.5,
    "layers_block_type": ["linear_attention", "moe", "full_attention", "moe"],
}  # fmt: skip
_LFM2: Config = {key: value for key, value in _DENSE.items() if key != "rms_norm_eps"} | {
    "layer_types": ["conv", "full_attention", "conv"], "block_auto_adjust_ff_dim": False,
    "norm_eps": 1e-3,
}  # fmt: skip
_GRIFFIN: Config = _ENDS | {
    "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 1, "attention_window_size": 40, "lru_width": 48, "rms_norm_eps": 1e-3,
}  # fmt: skip
# Their cache has keys of a multiple of 64 features in all heads.
_XLSTM: Config = _ENDS | {
    "hidden_size": 128, "num_hidden_layers": 2, "num_heads": 4, "ffn_round_up_to_multiple_of": 8,
    "chunk_size": 16, "norm_eps": 1e-3,
}  # fmt: skip

# family -> variant -> keys; the first is what published models have.
CAST: dict[str, dict[str, Config]] = {
    "mixtral": {
        "plain": _DENSE | _SENT,
        "window": _DENSE | _SENT | {
            "sliding_window": 7, "num_experts_per_tok": 3, "tie_word_embeddings": True},
    },
    "gpt_oss": {
        "yarn": _DENSE | _SENT | {
            "head_dim": 8, "sliding_window": 6, "num_hidden_layers": 4, "rope_parameters": {
                "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "beta_fast": 32.0,
                "beta_slow": 1.0, "original_max_position_embeddings": 32, "truncate": False}},
        "plain": _DENSE | _SENT | {
            "head_dim": 16, "sliding_window": 40, "num_key_value_heads": 6,
            "num_experts_per_tok": 1, "rope_parameters": {
                "rope_type": "default", "rope_theta": 1e4}},
    },
    "deepseek_v3": {
        "plain": _DEEPSEEK,
        "yarn": _DEEPSEEK | {
            "q_lora_rank": None, "attention_bias": True, "norm_topk_prob": False,
            "rope_interleave": False, "rope_parameters": {
                "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "mscale": 0.7,
                "mscale_all_dim": 1.0, "original_max_position_embeddings": 32}},
    },
    "jamba": {
        "plain": _JAMBA,
        "biased": _JAMBA | {
            "mamba_conv_bias": False, "mamba_proj_bias": True, "tie_word_embeddings": True},
    },
    "granitemoehybrid": {
        "experts": _GRANITE,
        "experts-turned": _GRANITE | {
            "position_embedding_type": "rope", "num_experts_per_tok": 3,
            "tie_word_embeddings": True},
    },
    "nemotron_h": {
        "experts": _NEMOTRON,
        "experts-latent": _NEMOTRON | {"moe_latent_size": 20, "n_group": 4, "topk_group": 2},
    },
    "lfm2": {
        "plain": _LFM2,
        "biased": _LFM2 | {"conv_bias": True, "conv_L_cache": 4, "num_key_value_heads": 6},
    },
    "recurrent_gemma": {
        "plain": _GRIFFIN,
        "window": _GRIFFIN | {
            "attention_window_size": 7, "conv1d_width": 3, "num_attention_heads": 4},
    },
    "xlstm": {
        "plain": _XLSTM,
        "capped": _XLSTM | {
            "gate_soft_cap": 3.0, "output_logit_soft_cap": 2.0, "qk_dim_factor": 1.0},
    },
}  # fmt: skip
