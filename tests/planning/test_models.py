"""The model zoo and the readers of config.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssmprof.models import build
from ssmprof.costs import parameters
from ssmprof.errors import ConfigError
from ssmprof.planning import hf_config, models
from ssmprof.mixers.attention.shape import Attention
from ssmprof.spec import StateSpec

NEEDED = {
    "qwen2.5-0.5b", "llama-3.2-1b", "mamba-130m", "mamba-790m", "mamba2-130m", "mamba2-780m",
    "falcon-h1-0.5b",
}  # fmt: skip
# Sums published to four digits only.
ROUNDED = {
    "nemotron-h-8b",
    "waleffe-mamba2-hybrid-8b",
    "waleffe-mamba2-8b",
    "waleffe-transformer-8b",
}


def test_the_zoo_holds_the_models_the_scenarios_need():
    assert set(models.names()) >= NEEDED
    for kind in ("transformer", "ssm", "hybrid"):
        assert models.names(kind)


@pytest.mark.parametrize("name", models.names())
def test_every_preset_has_a_source_and_the_published_parameters(name: str):
    found = models.entry(name)
    assert found.source
    assert found.spec.name == name
    if found.params is not None:
        exact = 0 if name not in ROUNDED else 1e-3
        assert parameters(found.spec) == pytest.approx(found.params, rel=exact)


@pytest.mark.parametrize("name", models.names())
def test_every_preset_builds_at_full_size_without_memory(name: str):
    spec = models.preset(name)
    real = blocks.build(spec, "meta")
    assert sum(p.numel() for p in real.parameters()) == parameters(spec)


def test_an_unknown_preset_is_answered_with_the_nearest_known_one():
    with pytest.raises(
        ConfigError, match=r'unknown preset "mamba2-780"; did you mean "mamba2-780m"'
    ):
        models.preset("mamba2-780")


def test_letters_spell_a_pattern():
    assert models.from_letters("M-*m") == ("mamba2", "mlp", "attention", "mamba1")
    with pytest.raises(ConfigError, match='"x" is none of'):
        models.from_letters("Mx")


# The keys of published config.json files that carry sizes.
CONFIGS = {
    "qwen2.5-0.5b": {
        "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "intermediate_size": 4864,
        "vocab_size": 151936, "tie_word_embeddings": True, "rope_theta": 1000000.0,
        "hidden_act": "silu", "sliding_window": 32768, "use_sliding_window": False,
    },
    "llama-3.2-1b": {
        "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
        "intermediate_size": 8192, "vocab_size": 128256, "tie_word_embeddings": True,
        "rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3"},
    },
    "mamba-790m": {
        "model_type": "mamba", "hidden_size": 1536, "num_hidden_layers": 48, "state_size": 16,
        "conv_kernel": 4, "expand": 2, "time_step_rank": 96, "vocab_size": 50280,
    },
    "mamba2-780m": {
        "d_model": 1536, "d_intermediate": 0, "n_layer": 48, "vocab_size": 50277,
        "ssm_cfg": {"layer": "Mamba2"}, "attn_layer_idx": [], "pad_vocab_size_multiple": 16,
        "tie_embeddings": True,
    },
    "falcon-h1-0.5b": {
        "model_type": "falcon_h1", "hidden_size": 1024, "num_hidden_layers": 36,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64,
        "intermediate_size": 2048, "vocab_size": 32784, "tie_word_embeddings": False,
        "mamba_d_ssm": 1536, "mamba_n_heads": 24, "mamba_d_head": 64, "mamba_d_state": 128,
        "mamba_n_groups": 1, "mamba_d_conv": 4, "mamba_rms_norm": False,
        "rope_theta": 100000000000.0,
    },
    "bamba-9b": {
        "model_type": "bamba", "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
        "vocab_size": 128256, "tie_word_embeddings": False, "attn_layer_indices": [9, 18, 27],
        "mamba_n_heads": 128, "mamba_d_head": "auto", "mamba_d_state": 128, "mamba_n_groups": 1,
        "mamba_expand": 2, "mamba_d_conv": 4,
    },
    "nemotron-h-8b": {
        "model_type": "nemotron_h", "hidden_size": 4096, "num_attention_heads": 32,
        "num_key_value_heads": 8, "attention_head_dim": 128, "intermediate_size": 21504,
        "vocab_size": 131072, "tie_word_embeddings": False, "mamba_num_heads": 128,
        "mamba_head_dim": 64, "ssm_state_size": 128, "n_groups": 8, "conv_kernel": 4,
        "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
    },
    "granite-4.0-h-1b": {
        "model_type": "granitemoehybrid", "hidden_size": 1536, "num_attention_heads": 12,
        "num_key_value_heads": 4, "shared_intermediate_size": 4096, "vocab_size": 100352,
        "tie_word_embeddings": True, "num_local_experts": 0, "position_embedding_type": "nope",
        "layer_types": [
            "attention" if layer in (5, 15, 25, 35) else "mamba" for layer in range(40)
        ],
        "mamba_n_heads": 48, "mamba_d_head": 64, "mamba_d_state": 128, "mamba_n_groups": 1,
        "mamba_d_conv": 4, "mamba_expand": 2,
    },
}  # fmt: skip


NEMOTRON = {
    "model_type": "nemotron_h", "hidden_size": 512, "intermediate_size": 1024, "vocab_size": 1024,
    "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "mlp_hidden_act": "relu2",
    "mamba_num_heads": 16, "mamba_head_dim": 64, "ssm_state_size": 128, "n_groups": 8,
    "conv_kernel": 4, "layers_block_type": ["mamba", "mlp", "mamba", "attention"],
}  # fmt: skip
WINDOWED = CONFIGS["llama-3.2-1b"] | {"model_type": "qwen2", "use_sliding_window": True}


def written(folder: Path, values: object, name: str = "config.json") -> Path:
    file = folder / name
    file.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", CONFIGS)
def test_a_published_config_gives_the_sizes_of_its_preset(name: str, tmp_path: Path):
    read, known = hf_config.read(written(tmp_path, CONFIGS[name])), models.preset(name)
    assert read.name == tmp_path.name
    assert (read.pattern * read.depth, read.d_model) == (known.pattern * known.depth, known.d_model)
    assert (read.attention, read.state, read.mlp) == (known.attention, known.state, known.mlp)
    assert (read.vocab, read.tie_embeddings) == (known.vocab, known.tie_embeddings)


def test_mistral_has_a_window_and_a_folder_may_be_named(tmp_path: Path):
    values = CONFIGS["llama-3.2-1b"] | {"model_type": "mistral", "sliding_window": 4096}
    written(tmp_path, values)
    attention = hf_config.read(tmp_path).attention
    assert isinstance(attention, AttentionSpec)
    assert attention.window == 4096


def test_mamba_without_a_rank_gets_the_published_rule(tmp_path: Path):
    values = CONFIGS["mamba-790m"] | {"time_step_rank": "auto"}
    state = hf_config.read(written(tmp_path, values)).state
    assert isinstance(state, StateSpec)
    assert state.dt_rank == 96


@pytest.mark.parametrize("told", [None, "auto"])
def test_null_is_read_like_a_key_that_is_not_there(told: str | None, tmp_path: Path):
    mamba = CONFIGS["mamba-790m"]
    assert hf_config.read(written(tmp_path, mamba | {"time_step_rank": told})).state.dt_rank == 96
    falcon = CONFIGS["falcon-h1-0.5b"]
    plain = hf_config.read(written(tmp_path, falcon))
    assert hf_config.read(written(tmp_path, falcon | {"mamba_d_head": told})) == plain


def test_the_layers_of_a_hybrid_are_read_where_transformers_5_lists_them(tmp_path: Path):
    found = hf_config.read(written(tmp_path, NEMOTRON))
    assert found.pattern == ("mamba2", "mlp", "mamba2", "attention")
    assert found.depth == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "qwen3"}, 'no reader for "qwen3"; did you mean "qwen2"'),
        ({"model_type": "llama"}, "num_attention_heads: expected a positive integer, got None"),
        (CONFIGS["llama-3.2-1b"] | {"num_hidden_layers": -1}, "num_hidden_layers: expected"),
        (CONFIGS["llama-3.2-1b"] | {"hidden_act": "sillu"}, 'did you mean "silu"'),
        (CONFIGS["llama-3.2-1b"] | {"num_local_experts": 8}, "mixture of experts"),
        (CONFIGS["bamba-9b"] | {"attn_layer_indices": 3}, "attn_layer_indices: expected a list"),
        (CONFIGS["bamba-9b"] | {"attn_layer_indices": [99]}, "attn_layer_indices: 99 is none of"),
        (CONFIGS["llama-3.2-1b"] | {"head_dim": "auto"}, "head_dim: expected a positive integer"),
        (CONFIGS["llama-3.2-1b"] | {"num_attention_heads": 4096}, "num_attention_heads: 4096 h"),
        (CONFIGS["llama-3.2-1b"] | {"rope_parameters": "default"}, "rope_parameters: expected an"),
        (CONFIGS["llama-3.2-1b"] | {"rope_theta": 1e300}, "rope_theta: above"),
        (CONFIGS["llama-3.2-1b"] | {"tie_word_embeddings": "no"}, "tie_word_embeddings: expected"),
        (CONFIGS["llama-3.2-1b"] | {"layer_types": []}, "layer_types: empty"),
        (CONFIGS["llama-3.2-1b"] | {"layer_types": ["full_attention"]}, "but num_hidden_layers is"),
        (CONFIGS["llama-3.2-1b"] | {"layer_types": ["mamba"]}, "layer_types: cannot build 'mamba'"),
        (CONFIGS["llama-3.2-1b"] | {"vocab_size": 10**30}, "vocab"),
        (CONFIGS["llama-3.2-1b"] | {"num_hidden_layers": 10**9}, "depth"),
        (CONFIGS["bamba-9b"] | {"num_hidden_layers": 10**9}, "num_hidden_layers: 1000000000"),
        (WINDOWED | {"sliding_window": "4096"}, "sliding_window: expected a positive integer"),
        (NEMOTRON | {"layers_block_type": []}, "layers_block_type: empty"),
        (NEMOTRON | {"layers_block_type": ["moe"]}, "layers_block_type: cannot build 'moe'"),
        (NEMOTRON | {"num_hidden_layers": 5}, "4 layers, but num_hidden_layers is 5"),
        (NEMOTRON | {"layers_block_type": None}, "hybrid_override_pattern: empty"),
        (
            NEMOTRON | {"layers_block_type": None, "hybrid_override_pattern": "MX"},
            "pattern: layers",
        ),
        ({"ssm_cfg": [], "d_model": 64, "n_layer": 1}, "ssm_cfg: expected an object"),
        ({"ssm_cfg": {"layer": 3}, "d_model": 64, "n_layer": 1}, "ssm_cfg.layer: expected a str"),
        ({"model_type": ["llama"]}, "model_type: expected a string"),
        ("[1, 2]", "expected an object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"model_type": NaN}', "no JSON"),
        ("{", "no JSON"),
    ],
)
def test_a_config_that_cannot_be_read_names_the_file_and_the_key(
    values: object, message: str, tmp_path: Path
):
    file = written(tmp_path, values)
    with pytest.raises(ConfigError, match=r"config\.json") as caught:
        hf_config.read(file)
    assert message in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"nowhere/config\.json"):
        hf_config.read("nowhere/config.json")
