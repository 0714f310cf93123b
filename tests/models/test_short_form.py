"""The short form of a model: fewer layers, the same ops and shapes, about the same shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from make import block
from msgspec.structs import replace

from ssmprof.errors import ConfigError
from ssmprof.measure.timing.op_times import signature
from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.moe.shape import Moe
from ssmprof.models.build.model import Model
from ssmprof.models.cost import breakdown
from ssmprof.models.notation import write_layers
from ssmprof.models.recipe import Recipe, check_recipe
from ssmprof.models.short_form import FEWEST, WHOLE, Shortened, short_form, worded
from ssmprof.models.zoo import names, preset
from ssmprof.planning import scenario
from ssmprof.records import Decode, Point, Prefill

SCENARIOS = Path(__file__).parents[2] / "scenarios"
META = torch.device("meta")
COUNTED = ("hymba-1.5b", "mamba2attn-2.7b")  # nobody can call them yet


def blocks(name: str) -> Iterator[Recipe]:
    """The blocks of a scenario."""
    for one in scenario.load(SCENARIOS / f"{name}.toml").blocks:
        assert isinstance(one, Recipe)
        yield one


RATIOS = {one.name: one for one in blocks("hybrid-ratio")}
DEEP = {name: preset(name) for name in names() if len(preset(name).layers) > WHOLE} | RATIOS


def few_experts(recipe: Recipe) -> Recipe:
    """A router of few experts does what one of many does, sooner."""
    parts = {
        name: replace(part, experts=max(part.experts_per_token, 4) * part.groups)
        if isinstance(part, Moe)
        else part
        for name, part in recipe.parts.items()
    }
    return replace(recipe, parts=parts)


def calls(recipe: Recipe) -> set[object]:
    """Every op with the shapes it is called with, of a prompt and of a step."""
    model = Model(recipe, META, torch.bfloat16, logits="none" if recipe.vocab is None else "last")
    seen: set[object] = set()
    with model.ops.observed(lambda op, args, kwargs: seen.add(signature(op.op, args, kwargs))):
        model.prefill(given(recipe, 1, 8), model.new_cache(1, 8))
        model.step(given(recipe, 1), model.new_cache(1, 8))
    return seen


def given(recipe: Recipe, *shape: int) -> torch.Tensor:
    """Token ids, or hidden states of layers alone."""
    if recipe.vocab is None:
        return torch.zeros((*shape, recipe.d_model), dtype=torch.bfloat16, device=META)
    return torch.zeros(shape, dtype=torch.long, device=META)


@pytest.mark.parametrize("name", DEEP)
def test_every_op_and_shape_of_a_model_is_one_of_its_short_form(name: str) -> None:
    whole = few_experts(DEEP[name])
    short, found = short_form(whole)
    assert found is not None
    if name in COUNTED:
        with pytest.raises(ConfigError, match="only counted"):
            calls(whole)
        return
    assert calls(short) == calls(whole)


@pytest.mark.parametrize("name", DEEP)
def test_layers_stay_in_their_order_with_the_neighbours_they_have(name: str) -> None:
    whole = DEEP[name]
    short, found = short_form(whole)
    assert found is not None
    assert check_recipe(short) is None
    assert short.layers[:2] == whole.layers[:2]
    assert short.layers[-1] == whole.layers[-1]
    assert set(pairwise(short.layers)) == set(pairwise(whole.layers))
    behind = iter(whole.layers)
    assert all(layer in behind for layer in short.layers)
    assert FEWEST <= len(short.layers) < len(whole.layers) / 2
    assert found.layers / found.whole == pytest.approx(len(short.layers) / len(whole.layers))


@pytest.mark.parametrize("name", DEEP)
def test_kinds_of_layers_keep_about_their_share(name: str) -> None:
    whole = DEEP[name]
    short, _ = short_form(whole)
    before, after = Counter(whole.layers), Counter(short.layers)
    for layer, count in before.items():
        factor = (after[layer] / len(short.layers)) / (count / len(whole.layers))
        assert factor > 0.6
        assert factor < 2 or after[layer] == 1 == count


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("waleffe-transformer-8b", "(attention mlp)*4", "4 of 32 layers"),
        ("waleffe-mamba2-8b", "mamba2*8", "8 of 56 layers"),
        ("falcon-h1-7b", "([attention mamba2] mlp)*4", "4 of 44 layers"),
        (
            "jamba-1.5-mini",
            "(mamba1 mlp mamba1 moe)*2 attention mlp mamba1 moe mamba1 mlp mamba1 moe",
            "8 of 32 layers",
        ),
        ("kimi-linear-48b-a3b", "kda mlp (kda moe)*3 mla moe", "5 of 27 layers"),
        ("rwkv7-1.5b", "first (ffn rwkv7)*4 ffn", "5 of 24 layers"),
        ("attention-7", "(mamba2 mlp)*14 attention mlp", "15 of 60 layers"),
        ("attention-50", "(mamba2 mlp attention mlp)*2", "4 of 60 layers"),
    ],
)
def test_what_is_left_of_a_model(name: str, line: str, said: str) -> None:
    short, found = short_form(DEEP[name])
    assert found is not None
    assert (write_layers(short.layers), worded(found)) == (line, said)


def test_blocks_of_shared_weights_and_their_adapters_stay_in_both_copies() -> None:
    short, found = short_form(preset("zamba2-2.7b"))
    assert found == Shortened(layers=14, whole=54)
    copies = [layer.shared.copy for layer in short.layers if layer.shared is not None]
    assert copies == [0, 1, 0]
    assert {part.adapter_rank for _, part in short.used() if part.adapter_rank} == {128}


def test_layers_that_read_an_earlier_one_find_one_of_the_same_kind() -> None:
    """Keys that were turned, or that were not: the first to be dropped would leave the others."""
    shapes = {"heads": 4, "kv_heads": 2, "head_dim": 16}
    whole = block(
        "reader",
        layers="(turned mlp reader mlp)*8 (plain mlp reader mlp)*8",
        turned=Attention(**shapes),
        plain=Attention(rope_theta=None, **shapes),
        reader=Attention(kv_from="shared", **shapes),
    )
    short, _ = short_form(whole)
    assert write_layers(short.layers) == "(turned mlp)*2 reader (mlp plain)*2 mlp reader mlp"
    assert calls(short) == calls(whole)


@pytest.mark.parametrize(
    "name", ["crossover", "decode", "serving", "experts", "zoo", "quickstart", "kernel-dominance"]
)
def test_blocks_of_few_layers_stay_as_they_are(name: str) -> None:
    for one in blocks(name):
        assert short_form(one) == (one, None)


def test_a_stack_in_which_nothing_recurs_stays_whole() -> None:
    parts = {
        f"part{index}": Attention(heads=1, kv_heads=1, head_dim=index) for index in range(1, 23)
    }
    whole = block("all different", layers=" ".join(parts), **parts)
    assert short_form(whole) == (whole, None)


@pytest.mark.parametrize("name", ["waleffe-transformer-8b", "qwen2.5-0.5b", "mamba-790m"])
@pytest.mark.parametrize(("phase", "bound"), [(Prefill, "flops"), (Decode, "read_bytes")])
def test_the_head_and_each_layer_keep_their_shares_of_the_work(name: str, phase, bound) -> None:
    point = Point(block=name, block_digest="", workload=phase(context=4096), logits="all")
    shares = []
    for recipe in (preset(name), short_form(preset(name))[0]):
        parts = breakdown(recipe, point)
        assert {"embedding", "final.norm", "head"} < set(parts)
        work = {scope: getattr(cost, bound) for scope, cost in parts.items()}
        shares.append({scope: one / sum(work.values()) for scope, one in work.items()})
    assert shares[1] == pytest.approx(shares[0], abs=0.005)


def test_a_vocabulary_shrinks_as_the_layers_do_and_what_a_block_forces_stays() -> None:
    whole = replace(preset("waleffe-transformer-8b"), providers={"swiglu": "torch"})
    short, _ = short_form(whole)
    assert (whole.vocab, short.vocab) == (256_000, 32_000)
    assert short.providers == whole.providers
    assert replace(short, layers=whole.layers, vocab=whole.vocab) == whole
