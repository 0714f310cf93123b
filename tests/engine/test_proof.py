"""The command that holds the simulator against the loop, end to end on a CPU with tiny blocks."""

from __future__ import annotations

import json
from pathlib import Path

import make
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from ssmprof.cli import cli
from ssmprof.devices import detect
from ssmprof.engine import proof
from ssmprof.harmless import slug
from ssmprof.planning import scenario
from ssmprof.planning.strategies import surface
from ssmprof.records import Outcome, Run
from ssmprof.serving.simulator import Server, simulate
from ssmprof.serving.steps import of_run
from ssmprof.store import folder

TEXT = """
question = "Which is faster to serve?"
[sweep]
contexts = [16, 32, 64, 128, 256]
batch = [1, 2, 4, 8]
phase = ["decode", "prefill"]
chunk = 64
strategy = "surface"
dtype = "float32"
execution = ["eager"]

[[blocks]]
name = "transformer"
layers = "attention mlp"
d_model = 32
attention = { heads = 4, kv_heads = 2, head_dim = 8 }
mlp = { d_ff = 64 }

[[blocks]]
name = "mamba2"
layers = "mamba2"
d_model = 32
mamba2 = { d_inner = 64, d_state = 8, headdim = 16 }
"""
ASKED = scenario.parse(TEXT, "serving.toml")


def planted() -> Run:
    """A surface of milliseconds, as the strategy asks for its points on a CPU."""
    outcomes: list[Outcome] = []
    while asked := surface.next_step(ASKED, outcomes, device="cpu").asked:
        for job in (job for one in asked for job in one.jobs()):
            point = job.point
            time_s = 1e-3 + 1e-5 * point.batch * point.tokens + 1e-6 * point.context
            one = make.measurement(point.block)
            outcomes.append(replace(one, point=point, round=job.round, times_s=(time_s,) * 5))
    return make.run(*outcomes, asked=ASKED)


def test_the_command_serves_simulates_and_keeps_every_quantity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder.write(tmp_path / "run", planted())
    words = (
        "serving validate run --device cpu --slots 2,3 --count 12 --longest 40 --answer 6 --json"
    )
    done = CliRunner().invoke(cli, words.split(), standalone_mode=False)
    assert done.exception is None, done.exception
    opened = detect("cpu")
    written = json.loads(Path(f"reports/serving-{slug(opened.name)}/serving.json").read_text())
    assert written["device"] == opened.name
    assert len(written["quantities"]) == 2 * 2 * 2 * 2
    for one in written["quantities"]:
        assert set(one) == {"name", "value", "bar", "unit", "how", "reason"}
        assert one["value"] >= 0
        assert one["bar"] == 0.1
        assert (one["reason"] is None) == (one["value"] <= one["bar"])
        assert one["reason"] is None or "step times 5% longer make it" in one["reason"]
    assert json.loads(done.stdout)["quantities"] == written["quantities"]


def test_what_was_not_served_keeps_its_place(tmp_path: Path) -> None:
    setting = proof.Setting(slots=(8, 64))
    blocks = [proof.Contender(recipe=block) for block in ASKED.blocks]  # type: ignore[arg-type]
    found = [quantity for one in blocks for quantity in proof.missing(one, setting)]
    assert len(found) == len({one.name for one in found}) == 2 * 2 * 2
    assert all(one.value is None and one.reason for one in found)


def test_half_of_the_slots_are_used_as_simulated() -> None:
    one = of_run(planted(), ["mamba2"], None, True)[0]
    setting = proof.Setting(requests=200, chunk_tokens=64, grid_tokens=8, longest=64,
                            output_tokens=16)  # fmt: skip
    server = Server(one, None, 4, 64, 8)
    requests = proof.at_load(proof.made(setting, 200), server, 4)
    told = simulate(requests, server)
    stays = sum(told.ttft_s) + sum(
        between * (request.output_tokens - 1)
        for request, between in zip(requests, told.tpot_s, strict=True)
    )
    assert stays / told.ends_s == pytest.approx(0.5 * 4, rel=0.1)


def test_all_times_of_a_slower_surface_are_longer() -> None:
    one = of_run(planted(), ["mamba2"], None, True)[0]
    twice = one.slower(2.0)
    assert twice.decode(3, 100) == pytest.approx(2 * one.decode(3, 100))
    assert twice.chunk(64, 64) == pytest.approx(2 * one.chunk(64, 64))
    assert (twice.chunk_tokens, twice.hold) == (one.chunk_tokens, one.hold)


def test_a_run_without_chunks_is_refused(tmp_path: Path) -> None:
    folder.write(tmp_path / "run", make.run(make.measurement()))
    words = ["serving", "validate", str(tmp_path / "run")]
    failed = CliRunner().invoke(cli, words, standalone_mode=False).exception
    assert "measured no chunks of prompts" in str(failed)
