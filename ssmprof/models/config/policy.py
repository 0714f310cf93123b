"""What a key that no struct has may mean: nothing, a shape, a capability that is missing.

A key is ignored only where its name says that it changes no shape and no number of the model.
"""

from __future__ import annotations

import re

# How a model is trained, stored, sampled from or named, and how its code is run.
_HARMLESS = re.compile(
    r"^(_.*|architectures|auto_map|model_type|torch_dtype|dtype|.*_dtype|transformers_version"
    r"|use_cache|.*_token_ids?|.*token_index|.*_ids?|.*dropout.*|.*dropped.*|.*_pdrop|.*_coef"
    r"|.*_coefficient|initializer.*|.*_init|.*init_.*|time_step_(min|max|floor|scale|init.*)"
    r"|output_.*|return_dict.*|gradient.*|pretraining_tp|max_position_embeddings|n_positions"
    r"|max_window_layers|(mamba_)?chunk_size|chunk_size_feed_forward|residual_in_fp32|rescale.*"
    r"|use_.*kernels?|use_mambapy|use_falcon_mambapy|use_triton.*|use_flash.*|use_mem_eff_path"
    r"|use_associative_scan|fused?_.*|num_logits_to_keep|.*aux_loss.*|router_z.*|z_loss.*"
    r"|quantization_config|task_specific_params|id2label|label2id|num_labels|problem_type"
    r"|finetuning_task|.*_penalty|.*sampl.*|temperature|top_[kp]|min_length|max_length"
    r"|max_seq_len.*|max_sequence_length|seq_length|model_max_length|name_or_path"
    r"|sliding_window_size_hint|attn_implementation|cache_implementation|use_l2warp|attn_mode"
    r"|is_decoder|tokenizer_class|prefix|bad_words_ids|(begin_)?suppress_tokens|pruned_heads"
    r"|exponential_decay.*|num_return_sequences|num_beam.*|forced_.*|do_sample|early_stopping"
    r"|.*no_repeat_ngram.*|remove_invalid.*|use_bfloat16|torchscript|tf_.*|unsloth_.*"
    r"|transformers\.js_config|tie_encoder_decoder|.*_version|mamba_dt_(min|max|init_floor))$"
)
_SHAPES = re.compile(
    r"^(n|num|d)_|(^|_)(act|tied?|cap|mem|meta|model|cla|yoco)(_|$)"
    r"|size|dim|head|layer|rank|expert|window|bias|conv|state|norm|pattern|group|share|expand"
    r"|kernel|intermediate|mamba|ssm|attn|attention|rope|rotary|mlp|ffn|activation|gate|sink|moe"
    r"|block|multiplier|scal(e|ing)|soft_?cap|vocab|inner|linear|lora|latent|depth|width|embd"
    r"|embed|channels|router|encoder|position|softmax|parallel|alibi|adapter|recurrent|proj|delta"
)
# What keys and names of layers ask for, by the words in them; the first that fits.
_CAPABILITIES = (
    (r"expert|moe|router", "a mixture of experts"),
    (r"lora_rank|latent", "latent attention"),
    (r"chunked|chunk_attention", "attention in chunks"),
    (r"index|sparse|compress", "sparse attention"),
    (r"alibi", "positions by a bias of the scores"),
    (r"sliding|window", "a sliding window"),
    (r"mamba|ssm|state", "a state-space layer"),
    (r"linear_|delta|gla|retention|lightning", "linear attention"),
    (r"recurrent|lru|rnn", "a recurrent layer"),
    (r"conv", "a short convolution"),
    (r"mtp|nextn", "prediction of several tokens"),
    (r"encoder|cross_att", "an encoder"),
    (r"vision|image|audio|video", "another input than text"),
    (r"soft_?cap", "scores bounded by tanh"),
    (r"adapter|lora", "low-rank adapters"),
    (r"sink", "attention sinks"),
    (r"rope|rotary|position", "another rotary embedding"),
    (r"bias", "biases"),
)


def speaks_of_shape(key: str) -> bool:
    """Whether a key that nobody knows may change the model."""
    return not _HARMLESS.match(key) and _SHAPES.search(key.lower()) is not None


def capability(word: str) -> str | None:
    """What a key or the name of a layer asks for, None where the word says nothing."""
    low = word.lower()
    return next((told for pattern, told in _CAPABILITIES if re.search(pattern, low)), None)


# Families whose files are met often and cannot be read, and what each of them needs.
MISSING = {
    "afmoe": "norms after each sub-layer and a mixture of experts of its own kind",
    "arcee": "a feed-forward of squared rectifiers without a gate in a Llama",
    "bert": "an encoder",
    "bloom": "positions by a bias of the scores",
    "cohere": "attention and feed-forward side by side under a norm without bias",
    "cohere2": "attention and feed-forward side by side under a norm without bias",
    "deepseek_v4": "compressed sparse attention",
    "exaone4": "norms after each sub-layer instead of before",
    "falcon": "attention and feed-forward side by side under two norms",
    "gemma3n": "embeddings of each layer",
    "gemma4": "embeddings of each layer and keys shared between layers",
    "glm4": "norms inside and after each sub-layer",
    "gpt2": "learned positions",
    "gpt_neox": "attention and feed-forward side by side under two norms",
    "llama4": "attention in chunks",
    "mpt": "positions by a bias of the scores",
    "olmo2": "norms after each sub-layer instead of before",
    "olmo3": "norms after each sub-layer instead of before",
    "opt": "learned positions",
    "phi": "attention and feed-forward side by side under one norm",
    "rwkv": "the recurrence of RWKV-4",
    "t5": "an encoder",
    "whisper": "an encoder",
    "zamba": "a state-space layer of several heads of Mamba-1",
}
