"""No wrong import: what is not understood is one sentence with file, key and value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fuzz import mutate
from models.published import NAMES, config, perturbed, read, without
from models.test_config_styles import GEMMA3_4B, PHI4_MINI, QWEN2

from ssmprof.errors import ConfigError
from ssmprof.models import cost
from ssmprof.models.config import reader
from ssmprof.models.recipe import Recipe, check_recipe

LLAMA = "llama-3.1-8b"
ROPE = {"rope_type": "default"}

WRONG: list[tuple[Any, str]] = [
    ({"model_type": "llama"}, "hidden_size: missing"),
    ({"model_type": ["llama"]}, "model_type: expected a string, got ['llama']"),
    ({"hidden_size": 8}, "model_type: missing"),
    ("[1, 2]", "expected an object"),
    ("[" * 100_000, "nested too deeply"),
    ('{"model_type": NaN}', "no JSON"),
    ('{"model_type": NaN, "x": Infinity}', "no JSON"),
    ("{", "no JSON"),
    (config(LLAMA, num_hidden_layers=-1), "num_hidden_layers: expected int >= 1, got -1"),
    (config(LLAMA, num_hidden_layers=10**9), "num_hidden_layers: expected int <= 10000"),
    (config(LLAMA, num_hidden_layers=6000), "layers"),
    (config(LLAMA, hidden_act="sillu"), "hidden_act: unknown 'sillu'; did you mean \"silu\""),
    (config(LLAMA, num_local_experts=8), "num_local_experts: 8: a mixture of experts"),
    (config(LLAMA, num_hiden_layers=8), "num_hiden_layers: 8 is not understood"),
    (
        without(LLAMA, "num_hidden_layers") | {"num_hiden_layers": 8},
        'num_hiden_layers: 8 is not understood; did you mean "num_hidden_layers"?',
    ),
    (config(LLAMA, head_dim="auto"), "head_dim: expected int | null, got 'auto'"),
    (config(LLAMA, num_attention_heads=8192), "num_attention_heads: 8192 heads do not fit 4096"),
    (config(LLAMA, num_key_value_heads=5), "kv_heads: 5 does not divide 32 heads"),
    (config(LLAMA, rope_parameters="default"), "rope_parameters: expected object | null"),
    (config(LLAMA, rope_theta=1e300), "rope_theta: expected float <= 1000000000000.0"),
    (config(LLAMA, rope_scaling={"rope_type": "dynamic", "factor": 2}), "rope_scaling.rope_type"),
    (config(LLAMA, rope_scaling={"rope_type": "llama3", "factor": 2}), "embeddings: missing"),
    (config(LLAMA, rope_theta=1), "rope_theta: expected float > 1.0, got 1"),
    (config(LLAMA, rope_scaling={"type": "linear"}), "rope_scaling.factor: missing"),
    (config(LLAMA, rope_scaling={"mrope_section": [2]}), "rope_scaling.mrope_section: [2]"),
    (config(LLAMA, rope_interleaved=True), "rope_interleaved: True"),
    (config(LLAMA, sliding_window=4096), "sliding_window: 4096: a sliding window"),
    (config(LLAMA, tie_word_embeddings="no"), "tie_word_embeddings: expected bool, got 'no'"),
    (config(LLAMA, layer_types=[]), "layer_types: empty"),
    (config(LLAMA, layer_types=["full_attention"]), "1 layers, but num_hidden_layers is 32"),
    (config(LLAMA, layer_types=["mamba"]), "layer_types: cannot build 'mamba'"),
    (config(LLAMA, layer_types=[3]), "layer_types[0]: expected str, got 3"),
    (config(LLAMA, layer_types=["sliding_attention"] * 32), "layer_types: cannot build 'sliding"),
    (config(LLAMA, vocab_size=10**30), "vocab_size: "),
    (QWEN2 | {"use_mrope": True}, "use_mrope: True"),
    (QWEN2 | {"use_sliding_window": True, "sliding_window": "4096"}, "sliding_window: expected"),
    (QWEN2 | {"layer_types": ["sliding_attention"] * 24}, "use_sliding_window: False, but"),
    (
        QWEN2 | {"layer_types": ["sliding_attention"] * 24, "use_sliding_window": True,
                 "sliding_window": None},
        "sliding_window: missing",
    ),
    (PHI4_MINI | {"lm_head_bias": True}, "lm_head_bias: True"),
    (PHI4_MINI | {"partial_rotary_factor": 0.5}, "short_factor: 48 factors, but 32 pairs turn"),
    (PHI4_MINI | {"partial_rotary_factor": 0.001}, "partial_rotary_factor: "),
    (config("gemma-3-1b", use_bidirectional_attention=True), "use_bidirectional_attention: True"),
    (config("gemma-3-1b", rope_parameters=ROPE), "rope_parameters: expected an object for each"),
    (config("gemma-3-1b", sliding_window=None), "sliding_window: missing"),
    (config("gemma-3-1b", sliding_window_pattern=0), "sliding_window_pattern: expected int >= 1"),
    (GEMMA3_4B | {"text_config": {"model_type": "gemma3_text"}}, "hidden_size: missing"),
    (config("codestral-mamba-7b", num_heads=64), "num_heads * head_dim: 4096, but"),
    (config("codestral-mamba-7b", rms_norm=False), "rms_norm: False"),
    (config("codestral-mamba-7b", time_step_limit=[1.0]), "time_step_limit: expected two"),
    (config("codestral-mamba-7b", hidden_act="gelu"), "hidden_act: 'gelu'"),
    (config("codestral-mamba-7b", conv_kernel=1), "conv"),
    (config("falcon-mamba-7b", time_step_rank="many"), "time_step_rank: expected a positive"),
    (config("falcon-mamba-7b", d_model=64), "d_model: 64, but hidden_size is 4096"),
    (config("falcon-h1-7b", projectors_bias=True), "projectors_bias: True, but mamba_proj_bias"),
    (config("falcon-h1-7b", ssm_multipliers=[1.0]), "ssm_multipliers: expected array of length"),
    (config("falcon-h1-7b", mamba_n_heads=7), "mamba_n_heads: 7 does not divide mamba_d_ssm"),
    (config("falcon-h1-7b", mamba_d_head=64), "mamba_d_head * mamba_n_heads: 1536, but"),
    (config("falcon-h1-7b", attn_layer_indices=[1]), "attn_layer_indices: [1] is not understood"),
    (config("bamba-9b", attn_layer_indices=3), "attn_layer_indices: expected array"),
    (config("bamba-9b", attn_layer_indices=[99]), "attn_layer_indices: 99 is none of 32 layers"),
    (config("bamba-9b", num_hidden_layers=10**9), "num_hidden_layers: expected int <= 10000"),
    (config("bamba-9b", attn_rotary_emb=128), "attn_rotary_emb: 128, but"),
    (config("granite-4.0-h-1b", position_embedding_type="alibi"), "position_embedding_type: 'al"),
    (config("granite-4.0-h-1b", normalization_function="layernorm"), "normalization_function"),
    (config("granite-4.0-h-tiny", num_experts_per_tok=0), "num_experts_per_tok: 0 of 64 experts"),
    (config("granite-4.0-h-tiny", num_experts_per_tok=65), "experts_per_token: 65 of 64 experts"),
    (config("nemotron-h-8b", layers_block_type=[]), "layers_block_type: empty"),
    (config("nemotron-h-8b", hybrid_override_pattern=""), "hybrid_override_pattern: empty"),
    (config("nemotron-h-8b", hybrid_override_pattern="MX"), "pattern: cannot build 'X'"),
    (config("nemotron-h-8b", num_hidden_layers=5), "52 layers, but num_hidden_layers is 5"),
    (
        config("nemotron-h-8b", hybrid_override_pattern="ME", num_hidden_layers=2),
        "n_routed_experts: missing",
    ),
    (config("nemotron-h-8b", attention_head_dim=64), "attention_head_dim: 64, but head_dim is"),
    (config("nemotron-h-8b", mamba_proj_bias=True), "mamba_proj_bias: True, but use_bias is"),
    (config("nemotron-3-nano-30b-a3b", n_routed_experts=0), "n_routed_experts: 0"),
    (config("zamba2-2.7b", layers_block_type=["g"] * 54), "layers_block_type: cannot build 'g'"),
    (config("zamba2-2.7b", hybrid_layer_ids=[6]), "hybrid_layer_ids: [6], but"),
    (config("zamba2-2.7b", use_long_context=True), "use_long_context: True"),
    (config("zamba2-2.7b", n_mamba_heads=7), "mamba_headdim: 64, but"),
    (config(LLAMA, model_type="olmo3"), '"olmo3" needs norms after each sub-layer'),
    (config(LLAMA, model_type="lama"), "no reader for 'lama'; did you mean \"llama\"?"),
    (config("deepseek-v3", model_type="mistrall"), "no reader for 'mistrall'"),
]  # fmt: skip


def written(folder: Path, values: Any) -> Path:
    file = folder / "config.json"
    file.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return file


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_a_file_that_cannot_be_read_names_itself_the_key_and_the_value(
    values: Any, message: str, tmp_path: Path
):
    with pytest.raises(ConfigError) as caught:
        reader.read(written(tmp_path, values))
    assert caught.value.what.startswith(f"{tmp_path}/config.json: ")
    assert message in caught.value.what
    assert len(caught.value.what.splitlines()) == 1


def test_no_family_is_suggested_that_could_not_read_the_file():
    with pytest.raises(ConfigError) as caught:
        read(config("deepseek-v3", model_type="mistrall"))
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "key",
    ["num_things", "n_wide", "cross_layer_share", "attention_sinks", "o_lora_rank", "d_extra",
     "soft_cap", "embedding_scale", "post_norm", "is_encoder_decoder"],
)  # fmt: skip
def test_a_key_that_speaks_of_shape_and_is_not_known_is_never_ignored(name: str, key: str):
    with pytest.raises(ConfigError, match=rf"config\.json: {key}: "):
        read(config(name, **{key: 3}))
    assert read(config(name, **{key: None})) == read(config(name))


# Keys that the published code of a family does not read, or reads to check another one.
INERT = {
    *("model_type", "pretraining_tp", "chunk_size", "mamba_chunk_size"),
    *(
        "use_sliding_window",
        "max_window_layers",
        "sliding_window",
        "rope_theta",
    ),  # where nothing slides or turns
    *("num_experts_per_tok", "intermediate_size"),  # of a Granite without experts
    *("norm_before_gate", "expand", "intermediate_size", "n_shared_experts"),
    *("time_step_rank", "mamba_expand", "mamba_norm_before_gate", "hidden_act"),
    "moe_shared_expert_overlap",
    *("architectures", "residual_in_fp32", "fused_add_norm", "attn_implementation"),
    "num_nextn_predict_layers",
}
# Keys of one file: not used, rounded away, overruled by another key, or a scale of weights.
INERT_OF = {
    "kimi-linear-48b-a3b": {"head_dim"},
    "lfm2-1.2b": {"block_ff_dim"},
    **{key: {"vocab_size"} for key in ("mamba-2.8b", "mamba2-2.7b", "mamba2attn-2.7b")},
    "minimax-text-01": {
        f"layernorm_{layer}_{factor}"
        for layer in ("full_attention", "linear_attention", "mlp")
        for factor in ("alpha", "beta")
    },
    **{key: {"full_attention_interval"} for key in ("qwen3.5-27b", "qwen3.5-9b")},
    "rwkv7-1.5b": {"hidden_ratio"},
}


@pytest.mark.parametrize("name", NAMES)
def test_every_other_value_of_a_key_is_another_model_or_an_error(name: str):
    values, inert = config(name), INERT | INERT_OF.get(name, set())
    before = _meaning(values)
    assert isinstance(before, tuple)
    for key, value in values.get("text_config", values).items():
        for other in perturbed(value) if key not in inert else ():
            assert _meaning(config(name, **{key: other})) != before, (key, other)


def _meaning(values: dict[str, Any]) -> tuple[Recipe, Any] | str:
    """What a configuration asks for (recipe and sources of weights), or why it cannot be read."""
    try:
        found = read(values)
    except ConfigError as error:
        return str(error)
    try:
        return found, reader.weight_names(values, "config.json")
    except ConfigError:
        return found, None


def _inputs() -> Iterator[tuple[int, bytes]]:
    for seed in range(400):
        rng = Random(f"config {seed}")
        yield seed, mutate.as_json(rng, config(rng.choice(NAMES)), by_bytes=0.2)


def _opened(file: Path) -> Recipe | str:
    try:
        return reader.read(file)
    except ConfigError as error:
        return error.what


def test_a_mutated_file_is_a_sound_recipe_or_one_error(tmp_path: Path):
    file, sound = tmp_path / "config.json", 0
    for seed, data in _inputs():
        file.write_bytes(data)
        found = _opened(file)
        if isinstance(found, str):
            assert found.startswith(f"{file}: "), seed
            continue
        sound += 1
        assert check_recipe(found) is None, seed
        assert cost.parameters(found) > 0, seed
    assert sound > 20, "mutations that all fail test one check only"
