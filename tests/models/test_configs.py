"""Every published configuration gives its parameters to the digit and its caches to the byte."""

from __future__ import annotations

import pytest
from models.published import NAMES, config, facts, read

from ssmprof.models import cost
from ssmprof.models.recipe import Recipe, kinds
from ssmprof.records import Point, Prefill
from ssmprof.scalars import stored_bytes

TOKENS = 65_536
LAYERS = {
    "bamba-9b": {"mamba2": 29, "mlp": 32, "attention": 3},
    "codestral-mamba-7b": {"mamba2": 64},
    "falcon-h1-0.5b": {"attention": 36, "mamba2": 36, "mlp": 36},
    "falcon-h1-1.5b": {"attention": 24, "mamba2": 24, "mlp": 24},
    "falcon-h1-7b": {"attention": 44, "mamba2": 44, "mlp": 44},
    "falcon-mamba-7b": {"mamba1": 64},
    "gemma-3-1b": {"attention": 26, "mlp": 26},
    "granite-4.0-h-1b": {"mamba2": 36, "mlp": 40, "attention": 4},
    "granite-4.0-h-350m": {"mamba2": 28, "mlp": 32, "attention": 4},
    "granite-4.0-h-tiny": {"mamba2": 36, "moe": 40, "attention": 4},
    "llama-3.1-8b": {"attention": 32, "mlp": 32},
    "mistral-7b-v0.1": {"attention": 32, "mlp": 32},
    "mistral-7b-v0.3": {"attention": 32, "mlp": 32},
    "nemotron-3-nano-30b-a3b": {"mamba2": 23, "moe": 23, "attention": 6},
    "nemotron-h-8b": {"mamba2": 24, "mlp": 24, "attention": 4},
    "nemotron-nano-9b-v2": {"mamba2": 27, "mlp": 25, "attention": 4},
    "qwen3-8b": {"attention": 36, "mlp": 36},
    "zamba2-2.7b": {"mamba2": 54, "attention": 9, "mlp": 9},
}


def cache_bytes(recipe: Recipe) -> dict[str, int]:
    """Bytes of one sequence by owner: keys, values and windows in bf16, states as they are kept."""
    at = Point(block=recipe.name, block_digest="", workload=Prefill(context=TOKENS))
    found = {"kv": 0, "conv_state": 0, "ssm_state": 0}
    for tensor in cost.held(recipe, at):
        found[tensor.owner] += stored_bytes(tensor.elements, tensor.dtype or "bfloat16")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_published_configuration_gives_its_parameters_to_the_digit(name: str):
    told = facts(name)
    wanted = told["params_transformers_5_24"] or told["params_published_exact"]
    if wanted is not None:
        assert cost.parameters(read(told["config"])) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_a_published_configuration_gives_its_cache_to_the_byte(name: str):
    told = facts(name)
    found = cache_bytes(read(told["config"]))
    for key, owner, tokens in (
        ("kv_bytes_per_token_bf16_at_65536", "kv", TOKENS),
        ("state_bytes_fp32", "ssm_state", 1),
        ("conv_bytes_bf16", "conv_state", 1),
    ):
        if key in told:
            assert found[owner] == told[key] * tokens, key


@pytest.mark.parametrize("name", [name for name in NAMES if name in LAYERS])
def test_a_published_configuration_has_its_layers(name: str):
    recipe = read(config(name))
    assert kinds(recipe) == LAYERS[name]
    assert recipe.name == "model"
    assert recipe.vocab == config(name)["vocab_size"]


def test_all_42_files_are_there():
    assert len(NAMES) == 42
