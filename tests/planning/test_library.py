"""Every shipped scenario explains itself, loads, and expands to jobs; comparisons are fair."""

import pytest

from ssmprof.models.cost import parameters
from ssmprof.models.recipe import kinds
from ssmprof.planning import expand, library
from ssmprof.planning.scenario import load, parse

SHIPPED = library.shipped()
EXPECTED = {
    "quickstart", "smoke", "crossover", "kernel-dominance", "decode", "hybrid-ratio",
    "parallel-heads", "edge", "edge-memory", "providers", "paper-57k",
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
