"""Tiny configurations of every family whose mixers run here, and variants with options flipped.

As `transformers` takes them: its class writes the config.json that our reader reads.
"""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]

INFINITY = float("inf")
_DENSE: Config = {
    "vocab_size": 97, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 256,
    "rms_norm_eps": 1e-3, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
_STATE: Config = {
    "vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 3, "layer_norm_epsilon": 1e-3,
    "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
_SCAN: Config = {
    "mamba_n_heads": 6, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 12,
    "mamba_d_conv": 4, "mamba_expand": 2, "mamba_chunk_size": 8,
}  # fmt: skip
_LLAMA3: Config = {
    "rope_type": "llama3", "rope_theta": 5e4, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
_YARN: Config = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
_FACTORS = [1.0, 1.5, 2.0, 3.0]
_LONG: Config = {
    "rope_type": "longrope", "rope_theta": 1e4, "short_factor": _FACTORS[:2],
    "long_factor": _FACTORS[2:], "partial_rotary_factor": 0.5,
}  # fmt: skip
_NEMOTRON: Config = {
    "vocab_size": 97, "hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 10, "ssm_state_size": 12, "mamba_num_heads": 6,
    "mamba_head_dim": 16, "n_groups": 2, "conv_kernel": 4, "chunk_size": 8,
    "layer_norm_epsilon": 1e-3, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
    "layers_block_type": ["linear_attention", "mlp", "full_attention", "mlp", "linear_attention"],
}  # fmt: skip
_ZAMBA2: Config = {
    "vocab_size": 97, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 6,
    "num_attention_heads": 6, "num_key_value_heads": 6, "n_mamba_heads": 6, "mamba_ngroups": 2,
    "mamba_d_state": 12, "mamba_d_conv": 4, "mamba_expand": 2, "chunk_size": 8, "adapter_rank": 5,
    "rms_norm_eps": 1e-3, "max_position_embeddings": 256,
    "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
    "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid", "hybrid", "mamba"],
    "num_mem_blocks": 2,
}  # fmt: skip
_DELTAS: Config = _DENSE | {
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 12,
    "linear_value_head_dim": 20, "linear_conv_kernel_dim": 4,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}  # fmt: skip
_EXPERTS: Config = {
    "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 32,
}  # fmt: skip
_KIMI: Config = _DENSE | {
    "linear_num_heads": 4, "linear_head_dim": 12, "moe_intermediate_size": 16, "num_experts": 6,
    "num_local_experts": 6, "num_experts_per_tok": 2, "num_key_value_heads": 6, "kv_lora_rank": 20,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 6, "v_head_dim": 10, "n_group": 1, "topk_group": 1,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "mlp_layer_types": ["sparse", "dense", "sparse"],
}  # fmt: skip
_MINIMAX: Config = _DENSE | {
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8,
}  # fmt: skip
_HYBRID = _DENSE | _SCAN
_GRANITE = _HYBRID | {
    "num_local_experts": 0, "shared_intermediate_size": 80, "num_hidden_layers": 4,
    "layer_types": ["mamba", "attention", "mamba", "mamba"], "embedding_multiplier": 3.0,
    "logits_scaling": 4.0, "residual_multiplier": 0.22, "attention_multiplier": 0.07,
}  # fmt: skip

# family -> variant -> keys; the first is what published models have.
MODELS: dict[str, dict[str, Config]] = {
    "llama": {
        "scaled": _DENSE | {"rope_parameters": _LLAMA3, "tie_word_embeddings": True},
        "biased": _DENSE | {
            "attention_bias": True, "mlp_bias": True, "num_key_value_heads": 6, "head_dim": 12,
            "hidden_act": "gelu_pytorch_tanh",
        },
        "yarn": _DENSE | {"head_dim": 16, "rope_parameters": _YARN},
        "yarn-whole": _DENSE | {"head_dim": 16, "rope_parameters": _YARN | {
            "truncate": False, "attention_factor": 1.3}},
        "linear": _DENSE | {"rope_parameters": {
            "rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}},
    },
    "mistral": {
        "window": _DENSE | {"sliding_window": 7},
        "whole": _DENSE | {
            "sliding_window": None, "head_dim": 12, "num_key_value_heads": 6,
            "tie_word_embeddings": True,
        },
    },
    "qwen2": {
        "plain": _DENSE | {"tie_word_embeddings": True},
        "window": _DENSE | {
            "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1,
            "num_key_value_heads": 6,
        },
    },
    "qwen3": {
        "plain": _DENSE | {"head_dim": 16, "tie_word_embeddings": True},
        "window": _DENSE | {
            "head_dim": 8, "attention_bias": True, "num_key_value_heads": 6,
            "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2,
        },
    },
    "phi3": {
        "plain": _DENSE,
        "long": _DENSE | {
            "rope_parameters": _LONG, "original_max_position_embeddings": 128,
            "num_key_value_heads": 6, "tie_word_embeddings": True, "sliding_window": 9,
        },
        "long-factors": _DENSE | {
            "rope_parameters": _LONG, "original_max_position_embeddings": 16,
        },
    },
    "gemma3_text": {
        "plain": _DENSE | {
            "head_dim": 12, "sliding_window": 6, "query_pre_attn_scalar": 20,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        "scaled": _DENSE | {
            "head_dim": 16, "num_key_value_heads": 6, "attention_bias": True,
            "final_logit_softcapping": 2.0, "sliding_window": 40, "query_pre_attn_scalar": 16,
            "tie_word_embeddings": False, "layer_types": [
                "sliding_attention", "full_attention", "full_attention"],
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
                "full_attention": {"rope_type": "linear", "rope_theta": 5e5, "factor": 8.0},
            },
        },
    },
    "mamba": {
        "plain": _STATE | {"state_size": 12},
        "biased": _STATE | {
            "state_size": 16, "expand": 3, "conv_kernel": 3, "use_bias": True,
            "use_conv_bias": False, "time_step_rank": 7, "tie_word_embeddings": False,
        },
    },
    "falcon_mamba": {
        "plain": _STATE | {
            "state_size": 12, "mixer_rms_eps": 1e-2, "tie_word_embeddings": False},
        "biased": _STATE | {
            "state_size": 16, "conv_kernel": 3, "use_bias": True, "use_conv_bias": False,
        },
    },
    "mamba2": {
        "plain": _STATE | {
            "num_heads": 6, "head_dim": 16, "state_size": 12, "n_groups": 1, "chunk_size": 8},
        "biased": _STATE | {
            "num_heads": 6, "head_dim": 24, "expand": 3, "state_size": 12, "n_groups": 3,
            "chunk_size": 8, "use_bias": True, "use_conv_bias": False, "conv_kernel": 3,
            "tie_word_embeddings": True, "time_step_limit": (0.1, 0.6),
        },
    },
    "falcon_h1": {
        "multiplied": _HYBRID | {
            "mamba_d_ssm": 96, "lm_head_multiplier": 0.3, "embedding_multiplier": 5.6,
            "key_multiplier": 0.4, "attention_in_multiplier": 0.9, "ssm_in_multiplier": 1.25,
            "attention_out_multiplier": 0.7, "ssm_out_multiplier": 0.35,
            "mlp_multipliers": [0.9, 0.3], "ssm_multipliers": [0.35, 0.25, 0.35, 0.5, 0.35],
            "time_step_limit": (0.0, INFINITY),
        },
        "normed": _HYBRID | {
            "mamba_d_ssm": None, "mamba_rms_norm": True, "mamba_norm_before_gate": False,
            "mamba_n_groups": 2, "num_key_value_heads": 6, "head_dim": 12, "attention_bias": True,
            "mlp_bias": True, "mamba_conv_bias": False, "key_multiplier": 0.5,
            "tie_word_embeddings": True, "mlp_multipliers": [0.9, 0.3],
        },
        "normed-first": _HYBRID | {
            "mamba_d_ssm": 96, "mamba_rms_norm": True, "mamba_norm_before_gate": True,
            "mamba_n_groups": 3, "mamba_proj_bias": True, "projectors_bias": True,
            "ssm_multipliers": [0.35, 0.25, 0.35, 0.5, 0.35], "ssm_in_multiplier": 1.25,
            "ssm_out_multiplier": 0.35, "time_step_limit": (0.1, 0.6),
        },
    },
    "bamba": {
        "plain": _HYBRID | {"attn_layer_indices": [1]},
        "biased": _HYBRID | {
            "attn_layer_indices": [0, 2], "attention_bias": True, "mlp_bias": True,
            "mamba_n_groups": 3, "mamba_conv_bias": False, "mamba_proj_bias": True,
            "num_key_value_heads": 6, "head_dim": 12, "tie_word_embeddings": True,
        },
    },
    "nemotron_h": {
        "plain": _NEMOTRON,
        "biased": _NEMOTRON | {
            "use_bias": True, "use_conv_bias": False, "mlp_bias": True, "n_groups": 3,
            "num_key_value_heads": 6, "head_dim": 8, "conv_kernel": 3, "time_step_min": 0.2,
            "mlp_hidden_act": "gelu",
        },
    },
    "granitemoehybrid": {
        "plain": _GRANITE,
        "biased": _GRANITE | {
            "position_embedding_type": "rope", "attention_bias": True, "mamba_n_groups": 2,
            "mamba_conv_bias": False, "mamba_proj_bias": True, "num_key_value_heads": 6,
            "tie_word_embeddings": True, "time_step_limit": (0.1, 0.6),
        },
    },
    "zamba2": {
        "plain": _ZAMBA2 | {"use_mem_rope": True},
        "adapted": _ZAMBA2 | {
            "use_shared_attention_adapter": True, "num_mem_blocks": 1, "rms_norm_eps": 1e-5,
            "mamba_d_conv": 3, "mamba_ngroups": 1,
            "time_step_min": 0.2,
        },
    },
    "qwen3_5_text": {
        "plain": _DELTAS | {"head_dim": 16},
        "grouped": _DELTAS | {
            "head_dim": 8, "linear_num_key_heads": 1, "linear_conv_kernel_dim": 3,
            "attention_bias": True, "tie_word_embeddings": True,
        },
    },
    "qwen3_next": {
        "plain": _DELTAS | {"head_dim": 16, "num_experts": 0},
        "experts": _DELTAS | _EXPERTS | {"head_dim": 16, "mlp_only_layers": [1]},
        "grouped": _DELTAS | {
            "head_dim": 8, "linear_num_key_heads": 4, "linear_conv_kernel_dim": 3,
            "mlp_only_layers": [0, 1, 2], "num_key_value_heads": 6, "tie_word_embeddings": True,
        },
    },
    "olmo_hybrid": {
        "plain": _DELTAS | {"linear_num_key_heads": 4},
        "positive": _DELTAS | {
            "linear_num_key_heads": 4, "linear_allow_neg_eigval": False, "attention_bias": True,
            "linear_conv_kernel_dim": 3, "num_key_value_heads": 6,
        },
    },
    "qwen3_5_moe_text": {"experts": _DELTAS | _EXPERTS | {"head_dim": 16}},
    "kimi_linear": {
        "plain": _KIMI,
        "narrow": _KIMI | {
            "linear_conv_kernel_dim": 3, "q_lora_rank": 18, "n_group": 3, "topk_group": 2,
            "num_shared_experts": 2,
        },
    },
    "minimax": {
        "plain": _MINIMAX,
        "scaled": _MINIMAX | {
            "rms_norm_eps": 1e-6, "full_attn_alpha_factor": 1.5, "linear_attn_beta_factor": 0.7,
            "mlp_alpha_factor": 0.8, "num_key_value_heads": 6, "tie_word_embeddings": True,
        },
    },
}  # fmt: skip
