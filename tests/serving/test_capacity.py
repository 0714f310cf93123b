"""Known answers of both engines, and what holds of any recipe."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving.models import PUBLISHED, published, qwen3_5_4b, qwen3_5_35b_a3b

from ssmprof.errors import ConfigError
from ssmprof.mixers import registry
from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.mamba2.shape import Mamba2
from ssmprof.mixers.mlp.shape import Mlp
from ssmprof.mixers.part import Keys, State
from ssmprof.models.cost import held
from ssmprof.models.recipe import Layer, Recipe
from ssmprof.records import Point, Prefill
from ssmprof.serving.capacity import Asked, Capacity, capacities, pool_of
from ssmprof.serving.layout import Sharing, caches
from ssmprof.serving.rules import Sglang, Vllm, engine, engines

GIB = 2**30
CONTEXTS = (1_000, 8_000, 64_000)
NANO = "nemotron-3-nano-30b-a3b"


def asked(**how: object) -> Asked:
    return Asked(**({"pool_bytes": 40 * GIB, "longest_tokens": 262_144} | how))  # type: ignore[arg-type]


def found(recipe: Recipe, name: str = "vllm", **how: object) -> list[Capacity]:
    return capacities(recipe, engine(name), asked(**how), CONTEXTS)


@pytest.mark.parametrize(
    ("recipe", "prefill", "block"),
    [
        (qwen3_5_4b(), "triton", 528),
        (published("qwen3-next-80b-a3b"), "triton", 1056),
        (published("nemotron-h-8b"), "triton", 1040),
        (published(NANO), "triton", 2096),
        (published("qwen3.5-27b"), "triton", 784),  # as its log says in vLLM #36010
        (qwen3_5_4b(), "flashinfer", 576),
        (published("qwen3-next-80b-a3b"), "flashinfer", 1088),
    ],
)
def test_blocks_of_vllm(recipe: Recipe, prefill: str, block: int) -> None:
    first = found(recipe, gdn_prefill=prefill)[0]
    assert first.block_tokens == block
    assert first.page_bytes == block * first.kv_bytes_per_token / recipe.count("attention")


def test_no_chunk_where_states_are_not_cached() -> None:
    assert found(qwen3_5_4b(), gdn_prefill="flashinfer", prefix="none")[0].block_tokens == 528


@pytest.mark.parametrize(
    ("recipe", "how", "sequences", "waste"),
    [
        (published(NANO), {}, (370, 277, 85), (52, 37, 12)),
        (qwen3_5_35b_a3b(), {}, (283, 141, 29), (44, 25, 7)),
        (qwen3_5_35b_a3b(), {"gdn_prefill": "flashinfer"}, (192, 113, 28), None),
    ],
)
def test_sequences_of_vllm(
    recipe: Recipe, how: dict[str, str], sequences: tuple[int, ...], waste: tuple[int, ...] | None
) -> None:
    rows = found(recipe, **how)
    assert tuple(row.sequences for row in rows) == sequences
    if waste:
        assert tuple(round(100 * row.waste_share) for row in rows) == waste


@pytest.mark.parametrize(
    ("recipe", "sequences", "ratios"),
    [
        (published(NANO), (82, 82, 57), ("40", "5", "0.62")),
        (qwen3_5_35b_a3b(), (62, 62, 17), ("16", "2", "0.25")),
    ],
)
def test_sequences_of_sglang(
    recipe: Recipe, sequences: tuple[int, ...], ratios: tuple[str, ...]
) -> None:
    rows = found(recipe, "sglang")
    assert tuple(row.sequences for row in rows) == sequences
    assert tuple(f"{row.balanced_ratio:.2g}" for row in rows) == ratios


def test_the_balanced_ratio_of_sglang_wastes_nothing() -> None:
    """K = S tokens / L where r is r*, but for the slot that is rounded off."""
    recipe, rules = published(NANO), engine("sglang")
    for row in found(recipe, "sglang"):
        balanced = msgspec.structs.replace(rules, state_ratio=row.balanced_ratio)
        (again,) = capacities(recipe, balanced, asked(pool_bytes=2**42), (row.context_tokens,))
        assert row.copies
        assert again.slots is not None
        assert again.blocks is not None
        assert again.slots / row.copies == pytest.approx(
            again.blocks / row.context_tokens, rel=0.02
        )


def test_speculation_takes_slots_of_sglang() -> None:
    """K = (budget - s(1 + D)) / (s(1 + D/S)); tokens less s(K // S + 1)D."""
    row = found(published(NANO), "sglang", drafts=4)[0]
    state, budget = row.state_bytes_per_sequence, 40 * GIB * 0.9 / 1.9
    slots = math.floor((budget - state * 5) / (state * (1 + 4 / 5)))
    assert row.slots == slots
    left = 40 * GIB - state * (slots + 1) - state * (slots // 5 + 1) * 4
    assert row.blocks == left // row.kv_bytes_per_token


def test_speculation_widens_the_window_of_vllm_and_takes_blocks() -> None:
    plain, drafted = found(published(NANO))[0], found(published(NANO), drafts=3)[0]
    channels = 4096 + 2 * 8 * 128
    assert plain.conv_bytes_per_sequence == 23 * channels * 3 * 2
    assert drafted.conv_bytes_per_sequence == 23 * channels * 6 * 2
    assert (plain.copies, drafted.copies) == (2, 5)
    assert drafted.recurrent_bytes_per_sequence == plain.recurrent_bytes_per_sequence


def test_ranks_share_heads_and_copy_groups() -> None:
    recipe = published(NANO)  # 2 key/value heads, 64 heads in 8 groups
    one, four, sixteen = (found(recipe, tp=tp)[0] for tp in (1, 4, 16))
    assert four.kv_bytes_per_token == one.kv_bytes_per_token / 2  # one head is the least
    assert four.recurrent_bytes_per_sequence == one.recurrent_bytes_per_sequence / 4
    assert sixteen.conv_bytes_per_sequence == 23 * (4096 + 2 * 16 * 128) // 16 * 3 * 2
    with pytest.raises(ConfigError, match="3 ranks cannot share out"):
        found(recipe, tp=3)


def test_windows_cap_what_is_kept() -> None:
    """Gemma-3: 4 full layers, 22 of 512 tokens; groups of 4 make 1 + 6."""
    row = found(published("gemma-3-1b"))[2]
    assert row.groups == 7
    assert row.kv_bytes_per_token == 1024 * (4 * 64_000 + 22 * 512) / 64_000
    full, windowed = 4_000, 6 * (4_000 - (64_000 - 511) // 16)
    assert row.blocks is not None
    assert row.sequences == row.blocks // (full + windowed)


def test_nearly_equal_counts_make_the_larger_group() -> None:
    parts = {
        "a": Attention(heads=8, kv_heads=8, head_dim=64),
        "w": Attention(heads=8, kv_heads=8, head_dim=64, window=512),
    }

    def recipe(full: int, windowed: int) -> Recipe:
        layers = [Layer(parts=("a",))] * full + [Layer(parts=("w",))] * windowed
        return Recipe(name="x", d_model=512, parts=parts, layers=tuple(layers))

    assert [found(recipe(12, n))[0].groups for n in (12, 13, 17, 18, 25)] == [2, 2, 2, 3, 4]


def test_latents_are_on_every_rank_in_blocks_of_128() -> None:
    row = found(published("deepseek-v3"))[0]
    assert (row.block_tokens, row.kv_bytes_per_token) == (128, 61 * (512 + 64) * 2)
    assert found(published("deepseek-v3"), tp=8)[0].kv_bytes_per_token == row.kv_bytes_per_token


def test_a_model_without_keys_or_without_states() -> None:
    state, keys = found(published("mamba2-2.7b"))[0], found(published("llama-3.1-8b"))[0]
    assert (state.block_tokens, state.kv_bytes_per_token, state.balanced_ratio) == (None, 0, None)
    assert (keys.block_tokens, keys.state_bytes_per_sequence, keys.copies) == (16, 0, None)
    only = Recipe(
        name="mlp", d_model=8, parts={"mlp": Mlp(d_ff=8)}, layers=(Layer(parts=("mlp",)),)
    )
    with pytest.raises(ConfigError, match="keeps nothing between tokens"):
        found(only)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_model_has_a_layout_that_agrees_with_its_caches(name: str) -> None:
    recipe = published(name)
    for tokens in (100, 5_000):
        point = Point(block="x", block_digest="", workload=Prefill(context=tokens))
        kept = [one for _, part in recipe.used() for one in part.kept()]
        by_owner = dict.fromkeys(("kv", "ssm_state", "conv_state"), 0)
        for tensor in held(recipe, point):
            by_owner[tensor.owner] += tensor.elements
        keys = sum(
            one.heads * one.width * (one.prefix + min(tokens, one.window or tokens))
            for one in kept
            if isinstance(one, Keys)
        )
        states = [one for one in kept if isinstance(one, State)]
        windows = [one.channels + one.groups * one.group_channels for one in states]
        assert keys == by_owner["kv"]
        assert sum(one.recurrent for one in states) == by_owner["ssm_state"]
        # A window has the present token, too, unless it is a shift by one.
        least = sum(w * one.columns for w, one in zip(windows, states, strict=True))
        assert least <= by_owner["conv_state"] <= least + sum(windows)
    for one in engines():
        assert all(row.sequences >= 0 for row in capacities(recipe, one, asked(), CONTEXTS))


def test_every_kind_that_keeps_something_has_a_layout() -> None:
    for name, kind in registry.parts().items():
        assert kind.memory == "none" or kind.kept is not registry.Part.kept, name


@given(
    heads=st.sampled_from([8, 16, 64]), kv_heads=st.sampled_from([1, 2, 8]),
    d_state=st.sampled_from([16, 64, 128]), attention=st.integers(1, 6), states=st.integers(1, 12),
    pool=st.integers(2**30, 2**36), context=st.integers(1, 200_000),
    prefix=st.sampled_from(["none", "align"]), drafts=st.integers(0, 3),
)  # fmt: skip
def test_nothing_is_kept_twice_and_more_memory_never_hurts(
    heads: int, kv_heads: int, d_state: int, attention: int, states: int, pool: int, context: int,
    prefix: str, drafts: int,
) -> None:  # fmt: skip
    recipe = Recipe(
        name="x",
        d_model=1024,
        parts={
            "a": Attention(heads=8, kv_heads=kv_heads, head_dim=64),
            "m": Mamba2(d_inner=heads * 64, d_state=d_state),
        },
        layers=(Layer(parts=("a",)),) * attention + (Layer(parts=("m",)),) * states,
    )
    for one in engines():
        how = asked(pool_bytes=pool, prefix=prefix, drafts=drafts)
        (row,) = capacities(recipe, one, how, (context,))
        used = row.state_bytes_per_sequence + row.kv_bytes_per_token * context
        assert row.sequences * used <= pool * (1 + 1e-12)
        assert 0 <= row.waste_share <= 1
        assert row.sequences <= row.separate_sequences
        (longer,) = capacities(recipe, one, how, (context + 1,))
        assert longer.sequences <= row.sequences
        (larger,) = capacities(recipe, one, asked(pool_bytes=2 * pool, prefix=prefix,
                                                  drafts=drafts), (context,))  # fmt: skip
        assert larger.sequences >= row.sequences
        if isinstance(one, Vllm):
            assert row.page_bytes is not None
            assert row.block_tokens is not None
            assert row.page_bytes * recipe.count("m") >= row.state_bytes_per_sequence
            assert row.block_tokens % one.block_tokens == 0


def test_memory_smaller_than_the_weights() -> None:
    recipe = published("nemotron-h-8b")
    with pytest.raises(ConfigError, match="cannot hold its weights"):
        pool_of(recipe, 8 * GIB, 1, "bfloat16")
    whole = 40 * GIB - pool_of(recipe, 40 * GIB, 1, "bfloat16")
    assert 16.1e9 < whole < 16.3e9
    assert 40 * GIB - pool_of(recipe, 40 * GIB, 4, "bfloat16") == math.ceil(whole / 4)


def test_engines_are_known_by_name_and_version() -> None:
    assert isinstance(engine("vllm@0.33.0"), Vllm)
    assert isinstance(engine("sglang"), Sglang)
    with pytest.raises(ConfigError, match=r'unknown version "0\.1" of vllm; known: 0\.33\.0'):
        engine("vllm@0.1")
    with pytest.raises(ConfigError, match='did you mean "sglang"'):
        engine("sglng")


def test_bytes_in_the_dtypes_asked_for() -> None:
    recipe = published(NANO)
    plain = caches(recipe, Sharing())
    small = caches(recipe, Sharing(cache_dtype="float8", state_dtype="bfloat16"))
    assert small.recurrent_bytes * 2 == plain.recurrent_bytes
    assert small.kv_bytes(10) * 2 == plain.kv_bytes(10)
    assert small.conv_bytes == plain.conv_bytes  # engines keep windows in the model's dtype
    assert 2 * plain.conv_bytes == caches(recipe, Sharing(cache_dtype="float32")).conv_bytes
