"""Every published tensor goes into one parameter of ours, whole, once, and scaled as it acts."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from models.published import NAMES, config, read
from torch import Tensor

from ssmprof.errors import ConfigError
from ssmprof.models import cost
from ssmprof.models.build import build
from ssmprof.models.build.load import assembled
from ssmprof.models.config.names import Piece, Source, spellings
from ssmprof.models.config.reader import known, weight_names

FOLDER = Path(__file__).parents[1] / "data" / "weight_names"
FAMILIES = tuple(sorted(file.stem for file in FOLDER.glob("*.json")))
NAMED = [
    name
    for name in NAMES
    if (family := known().get(config(name).get("model_type"))) is not None and family.names
]
CANNOT_RUN = {"gemma2"}  # bounded scores


@cache
def small(family: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Keys of a small model of a family, and random tensors under its names."""
    told = json.loads((FOLDER / f"{family}.json").read_text("utf-8"))
    random = torch.Generator().manual_seed(5)
    tensors = {
        name: torch.rand(shape, generator=random, dtype=torch.float64)
        for name, shape in told["tensors"].items()
    }
    return told["config"], tensors


def ours(family: str) -> dict[str, Tensor]:
    values, tensors = small(family)
    named = weight_names(values, "config.json")
    return {name: assembled(source, tensors) for name, source in named.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_of_every_tensor_is_used_once(family: str):
    values, tensors = small(family)
    used = {name: torch.zeros(len(tensor), dtype=torch.int64) for name, tensor in tensors.items()}
    for source in weight_names(values, "config.json").values():
        for piece in source.pieces:
            start, end = piece.rows or (0, len(tensors[piece.name]))
            used[piece.name][start:end] += 1
    assert {name for name, times in used.items() if not torch.all(times == 1)} == set()


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in CANNOT_RUN])
def test_names_and_shapes_are_those_of_the_modules(family: str):
    real = build(read(small(family)[0]), "meta", "float32")
    found = {name: tuple(tensor.shape) for name, tensor in ours(family).items()}
    wanted = {name: tuple(p.shape) for name, p in real.named_parameters()}
    # What experts are chosen by beside their scores is a buffer.
    wanted |= {name: tuple(b.shape) for name, b in real.named_buffers() if name in found}
    assert found == wanted


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_have_as_many_elements_as_the_recipe_counts(family: str):
    recipe = read(small(family)[0])
    counted = [t for name, t in ours(family).items() if not name.endswith("selection_bias")]
    assert sum(tensor.numel() for tensor in counted) == cost.parameters(recipe)


@pytest.mark.parametrize("name", NAMED)
def test_published_models_say_all_their_names(name: str):
    named = weight_names(config(name), "config.json")
    assert {"embedding.weight", "norm.weight"} <= set(named)
    steps = {key.split(".")[2] for key in named if key.startswith("stack.layers.")}
    assert len(steps) == len(read(config(name)).layers)


def test_queries_keys_and_values_stand_below_each_other_and_gates_before_values():
    tensors = small("llama")[1]
    found, base = ours("llama"), "model.layers.1.self_attn"
    for kind in ("weight", "bias"):
        rows = [tensors[f"{base}.{name}_proj.{kind}"] for name in "qkv"]
        assert torch.equal(found[f"stack.layers.2.parts.0.qkv_proj.{kind}"], torch.cat(rows))
        rows = [tensors[f"model.layers.1.mlp.{name}_proj.{kind}"] for name in ("gate", "up")]
        assert torch.equal(found[f"stack.layers.3.parts.0.up.{kind}"], torch.cat(rows))
    norms = ("input_layernorm", "post_attention_layernorm")
    for step, norm in enumerate(norms):
        wanted = tensors[f"model.layers.0.{norm}.weight"]
        assert torch.equal(found[f"stack.layers.{step}.norm.weight"], wanted)
    assert "head.weight" in found
    assert "head.weight" not in ours("qwen2")


def test_a_scan_gets_its_decays_and_its_convolution_in_our_form():
    for family, base in (
        ("mamba", "backbone.layers.1.mixer"),
        ("mamba2", "backbone.layers.1.mixer"),
    ):
        tensors, found = small(family)[1], ours(family)
        wanted = -tensors[f"{base}.A_log"].float().exp()
        assert torch.equal(found["stack.layers.1.parts.0.A"], wanted)
        conv = found["stack.layers.1.parts.0.conv.weight"]
        assert torch.equal(conv, tensors[f"{base}.conv1d.weight"][:, 0])
    bias = small("mamba")[1]["backbone.layers.0.mixer.dt_proj.bias"]
    assert torch.equal(ours("mamba")["stack.layers.0.parts.0.dt_bias"], bias)


def test_turned_features_of_a_head_stand_half_a_head_apart():
    tensors, found = small("phi3")[1], ours("phi3")
    theirs = tensors["model.layers.0.self_attn.qkv_proj.weight"]
    mine = found["stack.layers.0.parts.0.qkv_proj.weight"]
    order = [0, 1, 4, 5, 2, 3, 6, 7]  # heads of 8, of which 4 turn: pairs (0, 2) and (1, 3)
    for head in range(6):
        assert torch.equal(mine[8 * head : 8 * head + 8], theirs[[8 * head + at for at in order]])
    assert torch.equal(mine[48:], theirs[48:])


def test_norms_of_gemma_multiply_by_one_more_and_scores_have_their_scale():
    tensors, found = small("gemma3_text")[1], ours("gemma3_text")
    base, scale = "model.layers.0", (16 / 24) ** 0.5
    for mine, theirs in (
        ("stack.layers.0.norm.weight", f"{base}.input_layernorm.weight"),
        ("stack.layers.0.after.weight", f"{base}.post_attention_layernorm.weight"),
        ("stack.layers.1.norm.weight", f"{base}.pre_feedforward_layernorm.weight"),
        ("stack.layers.1.after.weight", f"{base}.post_feedforward_layernorm.weight"),
        ("stack.layers.0.parts.0.k_norm", f"{base}.self_attn.k_norm.weight"),
    ):
        torch.testing.assert_close(found[mine], 1 + tensors[theirs], rtol=1e-6, atol=0)
    wanted = (1 + tensors[f"{base}.self_attn.q_norm.weight"]) * scale
    torch.testing.assert_close(found["stack.layers.0.parts.0.q_norm"], wanted, rtol=1e-6, atol=0)
    tensors, found = small("gemma2")[1], ours("gemma2")
    q = tensors[f"{base}.self_attn.q_proj.weight"]
    mine = found["stack.layers.0.parts.0.qkv_proj.weight"][: len(q)]
    torch.testing.assert_close(mine, q * scale, rtol=1e-6, atol=0)


def test_multipliers_of_falcon_h1_are_in_its_weights():
    tensors, found = small("falcon_h1")[1], ours("falcon_h1")
    base = "model.layers.0"
    q, k, v = (tensors[f"{base}.self_attn.{name}_proj.weight"] for name in "qkv")
    gate, up = (tensors[f"{base}.feed_forward.{name}_proj.weight"] for name in ("gate", "up"))
    sizes = (64, 64, 8, 8, 8)  # gate, x, B, C, step size
    scales = torch.tensor([0.5, 2.0, 3.0, 4.0, 5.0]).repeat_interleave(torch.tensor(sizes))
    for mine, wanted in (
        ("0.parts.0.qkv_proj", torch.cat([2 * q, 2 * 0.5 * k, 2 * v])),
        ("0.parts.0.out_proj", 0.25 * tensors[f"{base}.self_attn.o_proj.weight"]),
        ("0.parts.1.in_proj", 1.5 * scales[:, None] * tensors[f"{base}.mamba.in_proj.weight"]),
        ("0.parts.1.out_proj", 0.75 * tensors[f"{base}.mamba.out_proj.weight"]),
        ("1.parts.0.up", torch.cat([0.5 * gate, up])),
        ("1.parts.0.down", 4 * tensors[f"{base}.feed_forward.down_proj.weight"]),
    ):
        torch.testing.assert_close(
            found[f"stack.layers.{mine}.weight"], wanted, rtol=1e-6, atol=0, check_dtype=False
        )


def test_multipliers_of_granite_are_in_its_weights():
    tensors, found = small("granitemoehybrid")[1], ours("granitemoehybrid")
    base = "model.layers.1.self_attn"
    q = tensors[f"{base}.q_proj.weight"]
    mine = found["stack.layers.2.parts.0.qkv_proj.weight"][: len(q)]
    torch.testing.assert_close(mine, q * 0.25 * 8**0.5, rtol=1e-6, atol=0)
    for mine, theirs in (
        ("2.parts.0.out_proj", f"{base}.o_proj"),
        ("0.parts.0.out_proj", "model.layers.0.mamba.out_proj"),
        ("3.parts.0.down", "model.layers.1.shared_mlp.output_linear"),
    ):
        wanted = tensors[f"{theirs}.weight"] * 0.5
        torch.testing.assert_close(found[f"stack.layers.{mine}.weight"], wanted, rtol=1e-6, atol=0)


def test_shared_blocks_are_named_once_and_adapters_per_user():
    named = weight_names(small("zamba2")[0], "config.json")
    blocks = {name.split(".")[3] for name in named if name.startswith("stack.shared.copies.")}
    assert blocks == {"0_attention", "0_mlp", "1_attention", "1_mlp"}
    users = {name.split(".")[2] for name in named if ".adapters." in name}
    assert users == {"1", "2", "4"}
    third = named["stack.layers.4.shared.adapters.attention.0.up.weight"].pieces[0]
    assert third.name == (
        "model.layers.1.shared_transformer.self_attn.linear_q_adapter_list.2.1.weight"
    )
    assert third.scale == 2**0.5


def test_a_tensor_is_found_under_other_prefixes_and_missed_by_name():
    tensor = torch.ones(2)
    source = Source((Piece("backbone.norm_f.weight"),))
    assert torch.equal(assembled(source, {"model.norm_f.weight": tensor}), tensor)
    assert "language_model.model.norm.weight" in spellings("model.norm.weight")
    with pytest.raises(ConfigError, match=r"backbone\.norm_f\.weight: no tensor of this name"):
        assembled(source, {})
