"""The table of the cast says of each system what its run says, or why there is none.

Promises: every system of the list has a row; a run of `zoo` fills its rows by itself, plain forms
too; zones are those of `ssmprof crossover --pairs`; reasons come from the code.
"""

from __future__ import annotations

import csv
import io
from functools import cache
from typing import Any

import make
import pytest
from click.testing import CliRunner
from made import cast, runs, why
from made.runs import Told
from made.systems import CAST, System
from msgspec import structs

from ssmprof.cli import cli
from ssmprof.models import zoo
from ssmprof.planning import library, scenario
from ssmprof.records import Calibration, Outcome
from ssmprof.spec import Budget

MACHINE = make.environment(device="NVIDIA H200", calibration=Calibration(repeat_noise=0.004))
# Attention takes L², a recurrence this many tokens times L: they cross at so many tokens.
CROSSINGS = {"mamba1": 5000, "mamba2": 2500, "gla": 10_000, "mamba3": 100}
NEVER = 10**6
EVERY = """
GQA; MHA; sliding-window; MLA; MoE; Mamba-1; Mamba-2; Mamba-3; RWKV-7; GLA; RetNet; delta net; KDA;
lightning attention; gated delta net; RG-LRU; mLSTM; short convolution; LSTM; GRU;
gated memory unit;
differential attention; Mamba-2-Hybrid; Nemotron-H; Jamba; Falcon-H1; Zamba2; Hymba; Bamba;
Granite-4-H; Qwen3-Next; Kimi-Linear; LFM2; RecurrentGemma; MiniMax-01
"""


@cache
def zoo_run() -> Told:
    """A made run of the scenario: its own contenders, lengths and phases, on a virtual H200."""
    asked = scenario.load(library.shipped()["zoo"])
    asked = structs.replace(asked, budget=Budget(rounds=3, min_samples=3, min_time_s=0.0))
    laws: dict[str, Any] = {
        one.name: (float(CROSSINGS.get(one.name, NEVER)), 1.0) for one in asked.blocks
    }
    laws["transformer"] = (1.0, 2.0)
    run = make.measured(
        asked,
        make.power_law(noise=0.001, between=0.001, **laws),
        environments={MACHINE.fingerprint: MACHINE},
    )
    outcomes = (structs.replace(one, environment=MACHINE.fingerprint) for one in run.outcomes)
    path = runs.REPORTS / "2026-12-01-zoo-h200"
    return runs.told(path, structs.replace(run, outcomes=tuple(outcomes)))


def system(name: str) -> System:
    return next(one for one in CAST if one.name == name)


def row(page: str, name: str) -> list[str]:
    (found,) = [line for line in page.splitlines() if line.startswith(f"| {name} |")]
    return found.strip("| ").split(" | ")


def test_every_system_has_a_row_and_can_be_asked_for() -> None:
    page = cast.page()
    for word in " ".join(EVERY.split()).split("; "):
        assert any(word in one.name for one in CAST), word
    for one in CAST:
        assert f"| {one.name}" in page
        assert one.asked(), one.name
        assert one.part or one.presets or one.own, one.name


def test_a_run_of_the_zoo_fills_its_rows() -> None:
    page = cast.page([zoo_run()])
    assert "`ssmprof sweep zoo`" not in page
    for one in zoo_run().run.scenario.blocks:
        assert f", NVIDIA H200, `{one.name}` |" in page
    assert row(page, "Mamba-1")[3:] == ["transformer → mamba1: 3,000-8K (B)"] * 2
    assert row(page, "Mamba-2")[3] == "transformer → mamba2: 2K-3,000 (B)"
    assert row(page, "GLA")[3] == "transformer → gla: 8K-24,000 (B)"
    assert row(page, "Mamba-3")[3] == "mamba3 throughout (512-128K) (B)"
    assert row(page, "Mamba-3, plain torch")[4] == "transformer throughout (512-128K) (B)"
    assert row(page, "grouped-query transformer (GQA)")[3] == "what the others are held against"


def test_readme_gets_the_run_in_one_line() -> None:
    first, missing = cast.short([zoo_run()]).splitlines()
    assert first.startswith(
        "- H200, [zoo](reports/2026-12-01-zoo-h200), prefill: nowhere (MLA, RWKV-7, "
    )
    assert ", Mamba-1 3,000-8K, Mamba-2 2K-3,000, Mamba-3 throughout" in first
    assert "plain" not in first
    assert "Hymba (counted and refused)" in missing
    assert "RWKV-7" not in missing


def test_a_run_without_an_examination_gives_no_zone() -> None:
    run = zoo_run().run
    bare = structs.replace(MACHINE, calibration=None)
    outcomes = (structs.replace(one, environment=bare.fingerprint) for one in run.outcomes)
    unknown = structs.replace(run, environments={bare.fingerprint: bare}, outcomes=tuple(outcomes))
    (plain, *_) = cast.seen(system("GLA"), [runs.told(zoo_run().path, unknown)])
    assert cast.zone(plain, "prefill") == "no verdict (D)"


def test_zones_are_those_that_crossover_prints() -> None:
    for told in runs.committed():
        output = CliRunner().invoke(cli, ["crossover", str(told.path), "--pairs", "--csv"]).stdout
        pairs = list(csv.DictReader(io.StringIO(output)))
        for one in (one for system in CAST for one in cast.seen(system, [told])):
            for phase in cast.PHASES:
                text = cast.zone(one, phase)
                if "→" not in text:
                    continue
                assert one.base is not None
                label = one.answer(phase).conditions  # type: ignore[union-attr]
                mine = [
                    f"{pair['crossing']}: {pair['zone']}"
                    for pair in pairs
                    if {pair["before"], pair["after"]} == {one.base.name, one.recipe.name}
                    and (pair["device"], pair["phase"]) == (one.device, phase)
                    and (pair["batch"], pair["execution"]) == (str(label.batch), label.execution)
                ]
                assert mine
                assert text.startswith("; ".join(mine))


def test_a_transformer_of_the_size_is_found_by_active_parameters() -> None:
    asked = scenario.load(library.shipped()["experts"])
    known = {one.name: one for one in asked.blocks}
    bases = {name: cast.base_of(one, asked) for name, one in known.items()}  # type: ignore[arg-type]
    assert {name: one and one.name for name, one in bases.items()} == {
        "transformer": "transformer",
        "transformer-experts": "transformer",
        "mamba2": "transformer",
        "mamba2-experts": "transformer-experts",
    }
    whole = scenario.load(library.shipped()["whole-models"])
    named = {one.name: cast.base_of(one, whole) for one in whole.blocks}  # type: ignore[arg-type]
    assert named["falcon-h1-7b"] == zoo.preset("qwen2.5-7b")
    assert named["jamba-1.5-mini"] is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Hymba", "counted and refused: Hymba: cannot be run yet, only counted and planned"),
        ("MLA", "not measured yet: `ssmprof sweep zoo`"),
        ("MoE", "not measured yet: `ssmprof sweep experts`"),
        ("mLSTM", "not measured yet, and in no scenario: `ssmprof sweep xlstm-7b`"),
        ("Jamba", "not measured yet: `ssmprof sweep whole-models`"),
    ],
)
def test_why_there_is_no_row_comes_from_the_code(name: str, reason: str) -> None:
    assert why.absent(system(name), []).text == reason


def test_what_no_device_holds_says_so() -> None:
    told = why.absent(system("MiniMax-01"), [zoo_run()]).text
    assert "weights of `minimax-text-01` alone are 850 GiB" in told
    assert "has 80.0 GiB" in told
    assert "in no scenario" in why.absent(system("MiniMax-01"), []).text


def test_a_contender_that_was_never_measured_says_why() -> None:
    def hurt(one: Outcome) -> Outcome:
        fails = one.point.block == "mla" or (one.point.block == "gla" and one.point.context > 8192)
        if not fails:
            return one
        return make.failure(point=one.point, round=one.round, environment=MACHINE.fingerprint)

    run = zoo_run().run
    broken = structs.replace(run, outcomes=tuple(hurt(one) for one in run.outcomes))
    told = runs.told(zoo_run().path, broken)
    page = cast.page([told])
    assert row(page, "MLA")[3:] == ["out-of-memory"] * 2
    assert row(page, "GLA")[3] == (
        "transformer throughout (512-128K), out-of-memory from 24,000 on (B)"
    )
    assert "MLA out-of-memory" in cast.short([told])
