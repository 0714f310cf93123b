"""Every shipped scenario explains itself, loads, and expands to jobs; comparisons are fair."""

import pytest
from msgspec.structs import replace

from ssmprof.models.cost import active_parameters, parameters
from ssmprof.models.recipe import kinds
from ssmprof.planning import expand, library
from ssmprof.planning.scenario import load, parse

SHIPPED = library.shipped()
EXPECTED = {
    "quickstart", "smoke", "crossover", "kernel-dominance", "decode", "hybrid-ratio",
    "parallel-heads", "edge", "edge-memory", "providers", "paper-57k", "zoo", "experts",
    "whole-models", "serving",
}  # fmt: skip


def test_the_promised_scenarios_are_shipped():
    assert set(SHIPPED) == EXPECTED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_scenario_explains_itself_and_expands(name: str):
    assert SHIPPED[name].read_text().startswith("# ")
    scenario = load(SHIPPED[name])
    assert scenario.name == name
    assert scenario.question.endswith("?")
    for device in ("cuda", "cpu"):
        jobs = expand.expand(scenario, device=device)
        assert len({job.key for job in jobs}) == len(jobs) > 0


def test_lengths_are_not_all_multiples_of_64():
    flattering = {
        name
        for name in SHIPPED
        if all(context % 64 == 0 for context in load(SHIPPED[name]).sweep.contexts)
    }
    assert flattering == {"smoke", "edge-memory", "paper-57k"}  # speed is not what they compare


@pytest.mark.parametrize("name", ["crossover", "quickstart"])
def test_contenders_have_equal_width_and_nearly_equal_size(name: str):
    blocks = load(SHIPPED[name]).blocks
    assert len({block.d_model for block in blocks}) == 1
    sizes = [parameters(block) for block in blocks]
    assert max(sizes) <= min(sizes) * 1.03
    assert {name for block in blocks for name in kinds(block)} == {
        "attention", "mamba1", "mamba2", "mlp"
    }  # fmt: skip


def test_the_quickstart_decides_between_four_contenders_over_five_octaves():
    scenario = load(SHIPPED["quickstart"])
    assert len(scenario.blocks) >= 4
    assert scenario.sweep.contexts[-1] >= 32 * scenario.sweep.contexts[0]
    assert scenario.sweep.strategy == "decide"


@pytest.mark.parametrize("name", SHIPPED)
def test_who_wins_where_is_decided_where_that_is_the_question(name: str):
    decides = {"crossover", "decode", "quickstart"}
    assert (load(SHIPPED[name]).sweep.strategy == "decide") == (name in decides)


def test_the_starter_is_a_scenario_and_names_every_key():
    text = library.starter()
    scenario = parse(text, "starter.toml")
    assert [block.name for block in scenario.blocks] == ["mamba2-130m@4", "transformer"]
    for table in (scenario.sweep, scenario.budget, scenario.passes):
        for key in table.__struct_fields__:
            assert f"{key} = " in text or f"[sweep.{key}]" in text, key


def test_the_zoo_holds_every_system_at_one_size_and_each_recurrence_on_plain_torch():
    blocks = {block.name: block for block in load(SHIPPED["zoo"]).blocks}
    systems = {
        "transformer", "mla", "mamba1", "mamba2", "mamba3", "rwkv7", "gla", "retnet", "lightning",
        "delta", "gated-delta", "kda", "lstm", "gru",
    }  # fmt: skip
    plain = systems - {"transformer", "mla", "lstm", "gru"}
    assert set(blocks) == systems | {f"{name}-plain" for name in plain}
    sizes = [parameters(block) for block in blocks.values()]
    assert max(sizes) <= min(sizes) * 1.005
    for name in plain:
        alike = replace(blocks[f"{name}-plain"], name=name, providers={})
        assert alike == blocks[name]
        assert set(blocks[f"{name}-plain"].providers.values()) <= {"reference", "torch"}


def test_experts_are_as_active_as_the_dense_blocks_beside_them():
    blocks = {block.name: block for block in load(SHIPPED["experts"]).blocks}
    for name in ("transformer", "mamba2"):
        dense, sparse = (active_parameters(blocks[f"{name}{end}"]) for end in ("", "-experts"))
        assert sparse == pytest.approx(dense, rel=0.01)
    assert parameters(blocks["mamba2-experts"]) > 3 * parameters(blocks["mamba2"])
