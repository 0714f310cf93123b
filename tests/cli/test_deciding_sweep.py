"""`ssmprof sweep` with the strategy that decides: real launchers, journal and command line."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import fakes
import pytest
from virtual import SCENARIO, Sweep

from ssmprof.cli.asking import asked
from ssmprof.records import Measurement
from ssmprof.store import folder

DECIDE = (
    SCENARIO.replace('contexts = "64-1K+64"', 'contexts = "64-1K*4"\nstrategy = "decide"')
    + '[[blocks]]\npreset = "mamba2-370m"\n'
)


def told(run: Path) -> list[tuple[object, ...]]:
    return [
        (one.key, one.times_s, one.beside, one.mode)
        for one in folder.load(run).outcomes
        if isinstance(one, Measurement)
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, str]:
    sweep = Sweep(tmp_path_factory.mktemp("whole"), scenario=DECIDE)
    _, said = sweep.start().communicate(timeout=120)
    return sweep, said


def test_it_goes_from_a_pilot_over_visits_to_one_round_of_the_grid(whole: tuple[Sweep, str]):
    sweep, said = whole
    assert "6 points on" in said
    assert "6 to measure, then until it is decided" in said
    outcomes = folder.load(sweep.run).outcomes
    rounds = [one.round for one in outcomes]
    assert rounds[:6] == [1] * 6
    visits = rounds[: rounds.index(0)]
    assert visits == sorted(visits)
    assert visits[-1] >= 3
    assert rounds[len(visits) :] == [0] * 6
    assert sweep.leaves_nothing()


@pytest.mark.parametrize("lines", [3, 9, 40])
def test_kill_9_in_the_middle_loses_nothing_and_the_resumed_sweep_is_the_same(
    tmp_path: Path, whole: tuple[Sweep, str], lines: int
):
    sweep = Sweep(tmp_path, nap_s=0.02, scenario=DECIDE)
    process = sweep.start()
    sweep.wait_for(lines)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    kept = told(sweep.run)
    assert len(kept) >= lines
    sweep.environ[fakes.NAP] = "0"
    sweep.start("--resume", "run").communicate(timeout=120)
    found = told(sweep.run)
    assert sorted(found) == sorted(told(whole[0].run))
    assert set(kept) <= set(found)


def test_a_run_over_a_grid_goes_on_until_decided(tmp_path: Path):
    sweep = Sweep(tmp_path, scenario=DECIDE.replace('strategy = "decide"', ""))
    sweep.start().communicate(timeout=120)
    before = told(sweep.run)
    assert {one[2] for one in before} == {None}
    _, said = sweep.start("--resume", "run", "--until-decided").communicate(timeout=120)
    after = told(sweep.run)
    assert after[: len(before)] == before
    assert len(after) > len(before)
    assert all(one[2] for one in after[len(before) :]), "visits"
    assert "then until it is decided" in said
    _, said = sweep.start("--resume", "run", "--until-decided").communicate(timeout=120)
    assert told(sweep.run) == after
    assert "0 to measure" in said


def test_until_decided_needs_a_run(tmp_path: Path):
    sweep = Sweep(tmp_path, scenario=DECIDE)
    process = sweep.start("asked.toml", "-o", "run", "--until-decided")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "--until-decided goes with --resume RUN" in said


def test_a_budget_too_small_for_a_pilot_says_so(tmp_path: Path):
    tight = DECIDE.replace("rounds = 2", "rounds = 2\nsweep_s = 1e-3")  # before the first outcome
    sweep = Sweep(tmp_path, scenario=tight)
    _, said = sweep.start().communicate(timeout=60)
    assert "time budget used up: it is too small for the pilot" in said
    assert "of 3 lengths are missing" in said
    assert "ssmprof sweep --resume run" in said


@pytest.mark.parametrize(
    ("rounds", "strategy"), [(None, "decide"), (3, "grid")], ids=["models", "rounds"]
)
def test_models_are_decided_between_unless_a_number_of_processes_is_asked_for(
    rounds: int | None, strategy: str
):
    found = asked(("mamba2-130m", "mamba2-370m"), rounds=rounds)
    assert found.sweep.strategy == strategy
    assert found.sweep.contexts[0] == 512
    assert found.sweep.contexts[-1] == 32_768
