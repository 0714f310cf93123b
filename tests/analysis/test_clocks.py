"""Seconds against cycles: flagged where the clock decides, and only there."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import make
import pytest
from msgspec import structs

from ssmprof.analysis import Analysis, analyze
from ssmprof.analysis.compare.answer import Answer, ClockCheck
from ssmprof.analysis.compare.clocks import cycles, sm_hz
from ssmprof.analysis.compare.conditions import by_conditions
from ssmprof.analysis.decide.changes import compare
from ssmprof.analysis.decide.decision import decide
from ssmprof.records import Calibration, Clocks, Measurement, Outcome, Run, Spread
from ssmprof.report.verdict import Verdict
from ssmprof.report.verdicts import verdicts_of
from ssmprof.spec import Budget

CONTEXTS = tuple(512 * 2**step for step in range(7))
FIVE = Budget(rounds=5, min_samples=3, min_time_s=0.0)
FULL = 1.98e9
MACHINE = make.environment(calibration=Calibration(repeat_noise=0.004))

ClockOf = Callable[[Measurement], float | None]


def at(hertz: float | None, **missing: str) -> Clocks:
    if hertz is None:
        return Clocks(missing=missing)
    return Clocks(sm_clock_hz=Spread(min=hertz, median=hertz, max=hertz, readings=9))


def sweep(clock_of: ClockOf, contexts=CONTEXTS, noise=0.004, seed=0, **laws) -> Run:
    """A run on a device whose clock during a point is told by `clock_of`; times are as the laws."""
    asked = make.scenario(*laws, contexts=contexts, budget=FIVE)
    run = make.measured(
        asked, make.power_law(noise=0.003, between=noise, seed=seed, **laws),
        environments={MACHINE.fingerprint: MACHINE},
    )  # fmt: skip
    outcomes: list[Outcome] = []
    for one in run.measurements():
        clocks = at(clock_of(one), sm_clock_hz="NotSupported: clock")
        outcomes.append(structs.replace(one, clocks=clocks, environment=MACHINE.fingerprint))
    return structs.replace(run, outcomes=tuple(outcomes))


def by_block(**hertz: float | None) -> ClockOf:
    return lambda one: hertz[one.point.block]


def answer(analysis: Analysis) -> Answer:
    (found,) = analysis.latencies
    return found


def only(analysis: Analysis) -> ClockCheck:
    (pair,) = answer(analysis).pairs
    assert pair.clocks is not None
    return pair.clocks


def said(run: Run, analysis: Analysis) -> Verdict:
    return verdicts_of(run, analysis)[answer(analysis).key]


def kinds(analysis: Analysis) -> list[str]:
    return [limit.kind for limit in answer(analysis).limits]


def test_a_winner_by_its_clock_alone_is_flagged_with_both_figures():
    # 10 % faster in seconds on a clock 25 % higher: 12 % slower in cycles.
    run = sweep(
        by_block(attention=FULL, mamba2=FULL * 0.75), attention=(1.0, 1.0), mamba2=(1.1, 1.0)
    )
    analysis = analyze(run)
    found = only(analysis)
    assert found.verdict == "depends-on-clocks"
    assert found.contexts == CONTEXTS
    assert re.search(r"attention is 1\.(09|10|11)x faster in seconds", found.text)
    assert "mamba2 is 1.2" in found.text
    assert "attention 1,980 and mamba2 1,485" in found.text
    assert said(run, analysis).sentence.endswith(" This depends on clocks.")
    assert answer(analysis).grade == "C"
    (limit,) = (one for one in answer(analysis).limits if one.kind == "depends-on-clocks")
    assert limit.text == "SM cycles say otherwise than seconds for attention against mamba2."
    assert "lock the clocks" in (limit.fix or "")


def test_the_ratio_carries_its_figure_in_cycles():
    run = sweep(
        by_block(attention=FULL, mamba2=FULL * 0.75), attention=(1.0, 1.0), mamba2=(1.1, 1.0)
    )
    (pair,) = answer(analyze(run)).pairs
    assert pair.points
    for one in pair.points:
        assert one.depends_on_clocks
        assert one.cycles == pytest.approx(one.ratio / 0.75, rel=1e-6)


@pytest.mark.parametrize("factor", [1.0, 0.75])
@pytest.mark.parametrize(
    "laws",
    [
        {"attention": (1.0, 2.0), "mamba2": (8000.0, 1.0)},
        {"attention": (1.0, 1.0), "mamba2": (1.0, 1.0)},
        {"attention": (1.0, 1.0), "mamba2": (1.1, 1.0)},
    ],
)
def test_equal_clocks_decide_nothing(laws, factor: float):
    run = sweep(by_block(attention=FULL * factor, mamba2=FULL * factor), **laws)
    analysis = analyze(run)
    assert only(analysis).verdict == "agree"
    assert only(analysis).text == ""
    assert "clocks" not in said(run, analysis).text
    assert not [kind for kind in kinds(analysis) if "clocks" in kind]
    assert answer(analysis).grade == "A"
    (pair,) = answer(analysis).pairs
    assert not any(one.depends_on_clocks for one in pair.points)


def test_clocks_that_differ_without_deciding_are_not_flagged():
    run = sweep(
        by_block(attention=FULL, mamba2=FULL * 0.8), attention=(2.0, 1.0), mamba2=(1.0, 1.0)
    )
    analysis = analyze(run)
    assert only(analysis).verdict == "agree"
    assert answer(analysis).grade == "A"


def test_readings_that_scatter_do_not_flag_equal_clocks():
    flags = 0
    for seed in range(30):
        draw = random.Random(seed)
        run = sweep(
            lambda one, draw=draw: FULL * (1 + draw.gauss(0, 0.005)),
            seed=seed, noise=0.01, attention=(1.0, 2.0), mamba2=(8000.0, 1.0),
        )  # fmt: skip
        flags += only(analyze(run)).verdict == "depends-on-clocks"
    assert flags <= 1


def test_a_switch_that_moves_with_the_clock_is_flagged_with_both_places():
    # In cycles mamba2 costs 0.85 of what it does in seconds: 8,000 tokens become 6,800.
    contexts = (4096, 6400, 6600, 7000, 7200, 7800, 8200, 9000, 16384)
    run = sweep(
        by_block(attention=FULL, mamba2=FULL * 0.85), contexts=contexts, noise=0.001,
        attention=(1.0, 2.0), mamba2=(8000.0, 1.0),
    )  # fmt: skip
    analysis = analyze(run)
    found = only(analysis)
    assert found.verdict == "depends-on-clocks"
    assert "depends on clocks" in said(run, analysis).sentence
    assert {7000, 7200, 7800} & set(found.contexts) or "overtakes" in found.text


def test_without_clocks_nothing_is_claimed_and_the_reason_is_told():
    run = sweep(by_block(attention=FULL, mamba2=None), attention=(1.0, 1.0), mamba2=(1.1, 1.0))
    analysis = analyze(run)
    found = only(analysis)
    assert (found.verdict, found.text) == ("unknown", "NotSupported: clock")
    assert found.cycles == {}
    (pair,) = answer(analysis).pairs
    assert all(one.cycles is None for one in pair.points)
    assert "clocks" not in said(run, analysis).text
    assert answer(analysis).grade == "B"
    assert kinds(analysis) == ["clocks-unknown"]


def test_a_clock_that_is_missing_at_some_lengths_is_no_agreement():
    def partly(one: Measurement) -> float | None:
        return None if one.point.context == CONTEXTS[-1] else FULL

    laws = {"attention": (1.0, 1.0), "mamba2": (1.1, 1.0)}
    assert only(analyze(sweep(partly, **laws))).verdict == "unknown"

    def late(one: Measurement) -> float | None:
        return None if one.point.context == CONTEXTS[-1] and one.round == 4 else FULL

    assert only(analyze(sweep(late, **laws))).verdict == "unknown"


def test_a_difference_that_is_seen_stands_though_other_lengths_are_unknown():
    def partly(one: Measurement) -> float | None:
        if one.point.context == CONTEXTS[-1]:
            return None
        return FULL if one.point.block == "attention" else FULL * 0.75

    found = only(analyze(sweep(partly, attention=(1.0, 1.0), mamba2=(1.1, 1.0))))
    assert found.verdict == "depends-on-clocks"
    assert CONTEXTS[-1] not in found.contexts


def test_records_of_older_runs_say_that_no_clock_was_recorded():
    laws = {"attention": (1.0, 1.0), "mamba2": (1.1, 1.0)}
    run = make.measured(make.scenario(*laws), make.power_law(**laws))
    assert only(analyze(run)).text == "no clock was recorded beside the samples"


def test_published_numbers_get_no_warning_for_clocks_nobody_published():
    laws = {"attention": (1.0, 1.0), "mamba2": (1.1, 1.0)}
    run = make.measured(make.scenario(*laws), make.power_law(**laws), origin="published")
    assert not [kind for kind in kinds(analyze(run)) if "clocks" in kind]


def test_cycles_are_seconds_times_the_clock_of_the_samples():
    known, unknown = make.measurement(clocks=at(2e9), time_s=1e-3), make.measurement()
    assert cycles(known) == (2e6,) * 3
    assert cycles(unknown) is None
    assert (sm_hz(known), sm_hz(unknown)) == (2e9, None)


# Two runs


def both(clock: float, factor: float = 1.0) -> Run:
    laws = {"attention": (1.0 * factor, 1.0)}
    return sweep(by_block(attention=clock), seed=int(clock + factor), **laws)


def test_a_run_on_a_lower_clock_is_not_called_slower():
    found = compare(both(FULL), both(FULL * 0.8, factor=1.25))
    assert found.count("slower") == 0
    for change in found.changes:
        assert change.verdict == "ambiguous"
        assert change.cycles_ratio == pytest.approx(1.0, rel=0.02)
        assert "depends on clocks: 1.2" in change.note
        assert "(slower)" in change.note
        assert "(unchanged)" in change.note


def test_a_run_that_hides_its_loss_behind_a_higher_clock_is_not_called_unchanged():
    found = compare(both(FULL * 0.8, factor=1.0), both(FULL, factor=1.0))
    assert found.count("ambiguous") == len(CONTEXTS)
    assert all("(unchanged)" in change.note for change in found.changes)


def test_a_run_slower_at_the_same_clock_is_slower():
    found = compare(both(FULL), both(FULL, factor=1.25))
    assert found.count("slower") == len(CONTEXTS)
    assert all(change.note is None for change in found.changes)


def test_runs_without_clocks_are_compared_in_seconds():
    bare = structs.replace(
        both(FULL), outcomes=tuple(structs.replace(o, clocks=Clocks()) for o in both(FULL).outcomes)
    )
    found = compare(bare, both(FULL * 0.8, factor=1.25))
    assert found.count("slower") == len(CONTEXTS)
    assert all(change.cycles_ratio is None for change in found.changes)


# A decision


@pytest.mark.parametrize(("share", "noted"), [(0.75, True), (1.0, False)])
def test_a_choice_that_the_clock_made_says_so(share: float, noted: bool):
    run = sweep(
        by_block(attention=FULL, mamba2=FULL * share), attention=(1.0, 1.0), mamba2=(1.1, 1.0)
    )
    (conditions,) = by_conditions(run.outcomes, run.environments)
    found = decide(run, conditions, {2048: 0.5, 8192: 0.5})
    assert found.choice == "attention"
    assert (found.note is not None) == noted
    if found.note:
        assert found.note.startswith("depends on clocks: attention takes 0.9")
