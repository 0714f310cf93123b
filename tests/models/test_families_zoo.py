"""Families that are only counted: siblings to the digit, and one error for a bad file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from models.published import config, read, without

from ssmprof.errors import ConfigError
from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.hymba.shape import Hymba
from ssmprof.mixers.moe.shape import Moe
from ssmprof.models.cost import active_parameters, parameters
from ssmprof.models.recipe import kinds

SMALL: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "small_models.json").read_text("utf-8")
)
SIZES = {
    "hidden_size": 64, "vocab_size": 100, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 96,
}  # fmt: skip
# xLSTM has keys of its own for heads and feed-forward.
OWN = {"xlstm": ("num_attention_heads", "num_key_value_heads", "intermediate_size")}


def small(model: dict[str, Any]) -> dict[str, Any]:
    sizes = {key: SIZES[key] for key in SIZES if key not in OWN.get(model["model_type"], ())}
    return {"model_type": model["model_type"], **sizes, **model["keys"]}


@pytest.mark.parametrize("model", SMALL, ids=lambda model: model["model_type"])
def test_a_small_sibling_has_the_parameters_transformers_5_24_gives_it(model: dict[str, Any]):
    assert parameters(read(small(model))) == model["parameters"]


# Published, rounded: what stands on a model's page, and how many layers of which kind.
ROUNDED = {
    "gla-1.3b": (1.37e9, {"gla": 24, "mlp": 24}),
    "retnet-1.3b": (1.35e9, {"retnet": 24, "mlp": 24}),
    "gated-deltanet-1.3b": (1.57e9, {"gated_delta": 24, "mlp": 24}),
    "mamba-2.8b": (2.77e9, {"mamba1": 64}),
    "mamba2-2.7b": (2.70e9, {"mamba2": 64}),
    "mamba2attn-2.7b": (2.70e9, {"mamba2": 58, "attention": 6}),
    "mamba3-1.5b": (1.5e9, {"mamba3": 24, "mlp": 24}),
    "hymba-1.5b": (1.52e9, {"hymba": 32, "mlp": 32}),
    "phi-4-mini-flash": (3.85e9, {"mamba1": 9, "attention": 16, "gmu": 7, "mlp": 32}),
    "plamo-2-1b": (1.29e9, {"plamo2": 8, "attention": 8, "mlp": 16}),
}


@pytest.mark.parametrize("model", ROUNDED)
def test_models_without_a_published_count_have_their_published_size(model: str):
    wanted, layers = ROUNDED[model]
    recipe = read(config(model))
    assert parameters(recipe) == pytest.approx(wanted, rel=0.005)
    assert kinds(recipe) == layers


# Published: "37B activated", "13B active", "3B activated", "3.6B active", "12B active", "45.9B".
ACTIVE = {
    "deepseek-v3": 37e9, "mixtral-8x7b": 12.9e9, "qwen3-next-80b-a3b": 3.5e9,
    "gpt-oss-20b": 3.6e9, "jamba-1.5-mini": 12e9, "minimax-text-01": 45.9e9,
    "kimi-linear-48b-a3b": 3e9,
}  # fmt: skip


@pytest.mark.parametrize("model", ACTIVE)
def test_experts_that_are_not_asked_are_not_active(model: str):
    recipe = read(config(model))
    table = (recipe.vocab or 0) * recipe.d_model  # looked up, which pages do not count
    assert active_parameters(recipe) - table == pytest.approx(ACTIVE[model], rel=0.05)


def test_a_layer_is_a_mixer_and_a_feed_forward_whatever_they_keep():
    for model, layers in (("rwkv7-1.5b", 24), ("phi-4-mini-flash", 32), ("hymba-1.5b", 32)):
        assert read(config(model)).layer_count == layers


def test_hymba_is_a_hybrid_and_rwkv_is_none():
    assert read(config("hymba-1.5b")).architecture == "hybrid"
    assert read(config("rwkv7-1.5b")).architecture == "ssm"
    assert read(config("deepseek-v3")).architecture == "transformer"


def test_windows_sinks_and_biases_of_gpt_oss():
    recipe = read(config("gpt-oss-20b"))
    sliding, full, moe = (recipe.parts[name] for name in ("sliding", "attention", "moe"))
    assert isinstance(sliding, Attention)
    assert isinstance(full, Attention)
    assert isinstance(moe, Moe)
    assert (sliding.window, full.window) == (128, None)
    assert sliding.sinks
    assert sliding.qkv_bias
    assert sliding.rope_scaling is not None
    assert not sliding.rope_scaling.truncate
    assert (moe.bias, moe.router_bias, moe.clamp) == (True, True, 7.0)


def test_which_layers_of_hymba_have_keys_of_their_own():
    recipe = read(config("hymba-1.5b"))
    names = [layer.parts[0] for layer in recipe.layers[::2]]
    assert [layer for layer, name in enumerate(names) if name == "global"] == [0, 15, 31]
    assert names[16:19] == ["hymba", "hymba_reuse", "hymba_reuse"]
    own, shared = recipe.parts["hymba"], recipe.parts["hymba_reuse"]
    assert isinstance(own, Hymba)
    assert isinstance(shared, Hymba)
    assert (own.attention.kv_from, shared.attention.kv_from) == ("own", "shared")
    assert (own.attention.window, own.attention.prefix, recipe.meta_tokens) == (1024, 128, 128)


def test_the_second_half_of_phi_4_mini_flash_reads_the_first():
    names = [layer.parts[0] for layer in read(config("phi-4-mini-flash")).layers[::2]]
    assert names[:16] == ["mamba1", "sliding"] * 8
    assert names[16:18] == ["mamba1", "attention"]
    assert names[18:] == ["gmu", "cross"] * 7
    listed = [512 if layer % 2 and layer < 16 else None for layer in range(32)]
    assert read(config("phi-4-mini-flash", sliding_window=listed)) == read(
        config("phi-4-mini-flash")
    )


def test_the_stream_itself_is_normed_in_minimax_and_results_in_olmo():
    norms = {layer.norm for layer in read(config("minimax-text-01")).layers}
    assert norms == {"stream"}
    olmo = [layer.norm for layer in read(config("olmo-hybrid-7b")).layers]
    assert olmo[:8] == ["before"] * 6 + ["after"] * 2
    assert read(config("minimax-text-01", postnorm=False)).layers[0].norm == "before"


def test_both_names_of_minimax_and_both_styles_of_kimi_are_one_model():
    kinds_ = ["full_attention" if layer % 8 == 7 else "linear_attention" for layer in range(80)]
    fifth = without("minimax-text-01", "attn_type_list", "rotary_dim") | {
        "model_type": "minimax", "layer_types": kinds_, "partial_rotary_factor": 0.5,
    }  # fmt: skip
    assert read(fifth) == read(config("minimax-text-01"))
    names = ("linear_attn_config", "num_experts", "num_experts_per_token", "num_shared_experts")
    full = {3, 7, 11, 15, 19, 23, 26}
    types = ["full_attention" if layer in full else "linear_attention" for layer in range(27)]
    kimi = without("kimi-linear-48b-a3b", *names) | {
        "layer_types": types, "num_local_experts": 256, "num_experts_per_tok": 8,
        "n_shared_experts": 1, "linear_head_dim": 128, "linear_num_heads": 32,
    }  # fmt: skip
    assert read(kimi) == read(config("kimi-linear-48b-a3b"))


def test_an_olmo_hybrid_without_a_base_has_no_positions():
    def base(**changes: Any) -> float | None:
        part = read(config("olmo-hybrid-7b", **changes)).parts["attention"]
        assert isinstance(part, Attention)
        return part.rope_theta

    assert base() == 1e4
    assert base(rope_theta=None) is None
    assert base(rope_parameters={"rope_type": "default", "rope_theta": None}) is None


def test_images_placed_by_three_positions_are_read_as_text():
    told = {"rope_theta": 1e7, "mrope_section": [11, 11, 10], "mrope_interleaved": True,
            "partial_rotary_factor": 0.25}  # fmt: skip
    assert read(config("qwen3.5-9b", rope_parameters=told)) == read(config("qwen3.5-9b"))


def test_a_mamba3_of_several_inputs_and_attention_in_files_of_flash_linear_attention():
    cfg = {"layer": "Mamba3", "is_mimo": True, "mimo_rank": 4}
    more = parameters(read(config("mamba3-1.5b", ssm_cfg=cfg)))
    assert more > parameters(read(config("mamba3-1.5b")))
    recipe = read(config("gla-1.3b", attn={"layers": [5, 11], "num_heads": 32}))
    assert kinds(recipe) == {"gla": 22, "mlp": 24, "attention": 2}


HALF = config("phi-4-mini-flash")["mb_per_layer"]
BAD: list[tuple[dict[str, Any], str]] = [
    (config("mixtral-8x7b", num_experts=4), "num_local_experts: 8, but num_experts is 4"),
    (config("mixtral-8x7b", num_experts_per_tok=9), "experts_per_token: 9 of 8 experts"),
    (config("gpt-oss-20b", layer_types=[]), "layer_types: empty"),
    (config("gpt-oss-20b", num_hidden_layers=8), "24 layers, but num_hidden_layers is 8"),
    (config("gpt-oss-20b", sliding_window=None), "sliding_window: missing"),
    (config("gpt-oss-20b", swiglu_alpha=1.0), "swiglu_alpha: 1.0: a gated activation"),
    (config("jamba-1.5-mini", attn_layer_offset=8), "attn_layer_offset: 8, beyond a period of 8"),
    (config("jamba-1.5-mini", layers_block_type=["mamba"] * 32), "layers_block_type: ["),
    (config("jamba-1.5-mini", mamba_dt_rank="some"), "mamba_dt_rank: expected a positive"),
    (config("deepseek-v3", n_group=7), "groups: 7 does not divide 256 experts"),
    (config("deepseek-v3", scoring_func="softmax"), "scoring_func: 'softmax'"),
    (config("deepseek-v3", num_key_value_heads=8), "num_key_value_heads: 8, but heads is 128"),
    (config("deepseek-v3", qk_head_dim=128), "qk_head_dim: 128, but qk_nope_head_dim"),
    (config("qwen3-next-80b-a3b", mlp_only_layers=[48]), "mlp_only_layers: 48 of 48 layers"),
    (config("qwen3-next-80b-a3b", linear_num_key_heads=5), "key_heads: 5 does not divide 32"),
    (config("qwen3.5-9b", layer_types=["mamba"] * 32), "layer_types: cannot build 'mamba'"),
    (config("qwen3.5-9b", attn_output_gate=False), "attn_output_gate: False"),
    (
        config(
            "kimi-linear-48b-a3b", linear_attn_config={"kda_layers": [1], "full_attn_layers": []}
        ),
        "linear_attn_config.kda_layers: 1 layers named, but each of 27",
    ),
    (
        config("kimi-linear-48b-a3b", linear_attn_config={"head_dims": 1}),
        "linear_attn_config.head_",
    ),
    (config("kimi-linear-48b-a3b", mla_use_nope=False), "mla_use_nope: False"),
    (config("minimax-text-01", attn_type_list=[]), "attn_type_list: empty"),
    (config("minimax-text-01", attn_type_list=[0, 2]), "attn_type_list[1]: invalid enum value 2"),
    (config("minimax-text-01", shared_intermediate_size=64), "shared_intermediate_size: 64"),
    (config("olmo-hybrid-7b", layer_types=["linear_attention"]), "1 layers, but num_hidden_lay"),
    (config("recurrentgemma-2b", block_types=[]), "block_types: empty"),
    (config("recurrentgemma-2b", block_types=["mamba"]), "block_types: cannot build 'mamba'"),
    (config("recurrentgemma-2b", lru_width=2561), "heads: 10 does not divide the width 2561"),
    (config("xlstm-7b", num_blocks=31), "num_hidden_layers: 32, but num_blocks is 31"),
    (config("xlstm-7b", weight_mode="other"), "weight_mode: expected"),
    (config("xlstm-7b", use_bias=True), "use_bias: True"),
    (config("lfm2-1.2b", full_attn_idxs=[16]), "full_attn_idxs: layer 16 of 16"),
    (config("lfm2-1.2b", conv_dim=1024), "conv_dim: 1024, but hidden_size is 2048"),
    (config("rwkv7-1.5b", head_dim=60), "head_dim: 60 does not divide hidden_size = 2048"),
    (config("rwkv7-1.5b", value_dim=[2048]), "value_dim: 1 layers, but num_hidden_layers is 24"),
    (config("rwkv7-1.5b", attn={"layers": [1]}), "attn: {'layers': [1]}: an RWKV-7 with attention"),
    (config("gla-1.3b", expand_k=0.3), "expand_k: 0.3 of 2048 features do not make 4 heads"),
    (config("gla-1.3b", feature_map="relu"), "feature_map: 'relu'"),
    (config("gla-1.3b", attn={"layers": [24], "num_heads": 4}), "attn.layers: layer 24 of 24"),
    (config("gla-1.3b", attn={"layers": [1]}), "attn.num_heads: missing"),
    (config("gated-deltanet-1.3b", num_v_heads=7), "key_heads: 6 does not divide 7 heads"),
    (config("mamba2-2.7b", ssm_cfg={"layer": "Mamba9"}), "ssm_cfg.layer: 'Mamba9' is none of"),
    (config("mamba2-2.7b", ssm_cfg={"layer": "Mamba2", "d_ssm": 64}), "ssm_cfg.d_ssm: 64, but"),
    (config("mamba2-2.7b", ssm_cfg={"layer": "Mamba2", "heads": 4}), "ssm_cfg.heads: 4"),
    (config("mamba2attn-2.7b", attn_layer_idx=[64]), "attn_layer_idx: layer 64 of 64"),
    (config("mamba2attn-2.7b", attn_cfg={}), "attn_cfg.num_heads: missing"),
    (config("mamba2attn-2.7b", attn_cfg={"num_heads": 30}), "attn_cfg.causal: False"),
    (
        config("mamba3-1.5b", ssm_cfg={"layer": "Mamba3", "rope_fraction": 0.7}),
        "rope_fraction: 0.7",
    ),
    (config("hymba-1.5b", kv_reuse_group=[[1, 3]]), "kv_reuse_group: [1, 3]: not layers in a row"),
    (config("hymba-1.5b", global_attn_idx=[32]), "global_attn_idx: layer 32 of 32"),
    (config("hymba-1.5b", num_experts=2), "num_experts: 2: a mixture of experts in a Hymba"),
    (config("hymba-1.5b", v_head_dim=64), "v_head_dim: 64, but"),
    (config("phi-4-mini-flash", mb_per_layer=HALF + 1), "mb_per_layer: 3: layers 16 and 17"),
    (config("phi-4-mini-flash", num_key_value_heads=5), "num_key_value_heads: odd"),
    (config("phi-4-mini-flash", sliding_window=[512]), "sliding_window: 1 layers, but"),
    (config("plamo-2-1b", mamba_step=1), "mamba_step: 1, but a step has"),
    (config("plamo-2-1b", full_attention_idx=[2]), "full_attention_idx: layer 2 is no attention"),
]


@pytest.mark.parametrize(("values", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_a_file_that_is_wrong_names_its_key(values: dict[str, Any], message: str):
    with pytest.raises(ConfigError) as caught:
        read(values)
    assert message in caught.value.what
    assert caught.value.what.startswith("config.json: ")
