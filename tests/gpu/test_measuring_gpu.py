"""Decisions and visits on a GPU: `pytest -m gpu -s tests/gpu/test_measuring_gpu.py` prints them.

The ratio asked for is that of a dense reference on one H200: at 4,096 tokens of prefill the
transformer of `crossover` takes exp(-0.065) of Mamba-2's time, in two visits.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec import structs

from ssmprof.measure.timing.pairs import log_ratio
from ssmprof.measure.workers.client import Client
from ssmprof.measure.workers.decisions import Decided
from ssmprof.planning import scenario
from ssmprof.planning.deciding import questions
from ssmprof.records import (
    WORKLOADS,
    Failure,
    Measurement,
    Outcome,
    Point,
    Sampling,
    Visit,
    providers_at,
    spans_text,
)
from ssmprof.scalars import digest

pytestmark = pytest.mark.gpu

CROSSOVER = scenario.load(Path(__file__).parents[2] / "scenarios" / "crossover.toml")
PAIR = tuple(block for block in CROSSOVER.blocks if block.name in ("transformer", "mamba2"))
# What the whole decision of `crossover` may take once its kernels are compiled.
DECISION_S = 20.0


def visit(*contexts, phase="prefill", execution="graph", round=0, sampling=None, blocks=PAIR):
    return Visit(
        subjects=blocks,
        points=tuple(
            tuple(
                Point(
                    block=block.name,
                    block_digest=digest(block),
                    workload=WORKLOADS[phase](context=context),
                    execution=execution,
                )
                for block in blocks
            )
            for context in contexts
        ),
        round=round,
        budget=CROSSOVER.budget,
        sampling=sampling or Sampling(pairs=10),
    )


TWINS = (PAIR[1], structs.replace(PAIR[1], name="twin"))
VISITS = {
    "five lengths": visit(3968, 4096, 4224, 4480, 5120),
    "again": visit(4096, 5120, round=1),
    "decode": visit(2048, 16_384, phase="decode", round=3),
    "eager": visit(4096, execution="eager", round=4),
    "sustained": visit(4096, round=5, sampling=Sampling(mode="sustained")),
    "energy": visit(4096, round=6, sampling=Sampling(mode="sustained", windows=2, energy=True)),
    "twins": visit(4096, round=7, blocks=TWINS),
    "decided": visit(896, 4096, 24_832, round=9),
    "no room": visit(4096, 2**24, round=8),
}


class Found(NamedTuple):
    """What one client decided (twice, the first time compiling) and measured; seconds each."""

    decisions: tuple[Decided, Decided]
    decision_s: tuple[float, float]
    outcomes: dict[str, list[Outcome]]
    visit_s: dict[str, float]
    device: str


def decide(client: Client) -> tuple[Decided, float]:
    begin = time.monotonic()
    return client.decide(questions(CROSSOVER)), time.monotonic() - begin


@pytest.fixture(scope="module")
def found() -> Found:
    outcomes, seconds = {}, {}
    with Client("cuda") as client:
        first, first_s = decide(client)
    with Client("cuda") as client:
        list(client([visit(512, round=10)]))  # the launcher starts, and is not what is timed
        second, second_s = decide(client)
        for name, asked in VISITS.items():
            begin = time.monotonic()
            outcomes[name] = list(client([asked]))
            seconds[name] = time.monotonic() - begin
        (machine,) = client.environments.values()
    print(f"\ndecided in {first_s:.1f} s compiling, then in {second_s:.1f} s")
    print("visits:", {name: f"{taken:.1f} s" for name, taken in seconds.items()})
    return Found((first, second), (first_s, second_s), outcomes, seconds, machine.device)


def ratios(outcomes):
    """Context -> log(transformer / mamba2), of outcomes in the order of a visit."""
    found = {}
    for one, other in zip(outcomes[::2], outcomes[1::2], strict=True):
        assert isinstance(one, Measurement), one
        assert isinstance(other, Measurement), other
        ratio = log_ratio(one.times_s, other.times_s)
        found[one.point.context] = ratio
        names = f"{one.point.block} {one.time_s * 1e3:.3f} ms, {other.point.block}"
        print(
            f"{one.point.phase} {one.point.context} {one.mode}: {ratio.mean:+.4f} ± "
            f"{ratio.error:.4f} ({ratio.pairs} pairs; {names} {other.time_s * 1e3:.3f} ms)"
        )
    return found


def test_a_visit_knows_the_ratio_of_two_blocks_from_ten_pairs(found):
    outcomes = found.outcomes["five lengths"]
    ratio = ratios(outcomes)
    assert ratio[4096].mean == pytest.approx(-0.065, abs=0.02)
    assert all(one.error <= 0.005 for one in ratio.values())
    assert ratio[5120].mean > ratio[4480].mean > ratio[4096].mean
    assert [one.beside for one in outcomes] == ["mamba2", "transformer"] * 5
    assert {one.timer for one in outcomes} == {"cuda-graph"}


def test_two_visits_agree(found):
    first, second = ratios(found.outcomes["five lengths"]), ratios(found.outcomes["again"])
    for context, ratio in second.items():
        assert first[context].mean == pytest.approx(ratio.mean, abs=0.015)


def test_decode_and_eager_calls_are_measured_in_turn(found):
    decode = ratios(found.outcomes["decode"])
    assert decode[2048].mean < decode[16_384].mean
    ratios(found.outcomes["eager"])
    assert {one.timer for one in found.outcomes["eager"]} == {"wall-clock"}


def test_sustained_windows_last_and_carry_their_clocks(found):
    ratios(found.outcomes["sustained"])
    for one in found.outcomes["sustained"]:
        assert one.mode == "sustained"
        assert one.timer == "cuda-graph"
        assert len(one.times_s) == len(one.sm_clocks_hz) == 5
        assert one.calls_per_sample * one.times_s[-1] >= 0.5
        print(one.point.block, [round(hertz / 1e6) for hertz in one.sm_clocks_hz], "MHz")


def test_joules_of_a_pair_come_from_windows_in_turn(found):
    for one in found.outcomes["energy"]:
        assert isinstance(one, Measurement), one
        assert one.energy is not None, one.notes
        print(one.point.block, f"{one.energy.energy_j:.3f} J at {one.energy.mean_power_w:.0f} W")
        assert len(one.energy.windows_j) == 2


def test_one_block_under_two_names_differs_by_less_than_a_hundredth(found):
    (ratio,) = ratios(found.outcomes["twins"]).values()
    assert abs(ratio.mean) < max(0.01, 4 * ratio.error)


def test_a_length_without_room_fails_for_those_that_lack_it_and_the_rest_stands(found):
    outcomes = found.outcomes["no room"]
    assert all(isinstance(one, Measurement) for one in outcomes[:2])
    for one in outcomes[2:]:
        assert isinstance(one, Failure), one
        print(one.point.block, one.reason, one.detail[:100])
        assert one.reason == "out-of-memory"


def test_providers_are_decided_in_time(found):
    first, second = found.decisions
    tried = [trial for one in second.decisions for trial in one.trials if trial.pairs]
    print(f"\n{len(tried)} trials on the block")
    for one in second.decisions:
        doubt = f", processes disagree at {one.disagreed}" if one.disagreed else ""
        print(f"{one.block} {one.conditions.phase} {one.op}: {spans_text(one.spans)}{doubt}")
        for trial in one.trials:
            if trial.log_ratio is not None:
                ratio = f"{math.exp(trial.log_ratio):.4f} ± {trial.error:.4f}"
                print(f"  {trial.context} #{trial.process} {trial.provider}: {ratio}")
    before = {(one.block, one.conditions, one.op): one.providers for one in first.decisions}
    for one in second.decisions:
        providers = before.get((one.block, one.conditions, one.op))
        if providers != one.providers:
            print("the first time:", one.block, one.conditions.phase, one.op, providers)
    assert (first.problems, second.problems) == ((), ())
    assert found.decision_s[1] <= DECISION_S


def test_decided_providers_are_obeyed_at_every_length(found):
    for one in found.outcomes["decided"]:
        assert isinstance(one, Measurement), one
        wanted = providers_at(found.decisions[1].decisions, one.point, found.device)
        assert wanted
        assert wanted.items() <= one.providers.items(), one.notes


def test_no_length_of_a_young_process_is_timed_by_faster_graphs_than_the_others():
    """Three short steps of one block differ by what they read: 1 % of a call of 30 kernels."""
    with Client("cuda") as client:
        found = list(client([visit(576, 640, 704, phase="decode")]))
    for block in PAIR:
        times = [
            one.time_s
            for one in found
            if isinstance(one, Measurement) and one.point.block == block.name
        ]
        print(block.name, [f"{time * 1e6:.1f} us" for time in times])
        assert len(times) == 3
        assert max(times) <= 1.03 * min(times)
