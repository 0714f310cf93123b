"""The sweep's own logic, on virtual devices: what is asked, kept, skipped and refined."""

from __future__ import annotations

import os
import signal

import make
import pytest
from msgspec import structs

from ssmprof.errors import StoreError
from ssmprof.planning.expand import expand
from ssmprof.planning.refine import refine
from ssmprof.records import Failure
from ssmprof.session.loop import measure_all
from ssmprof.spec import Refine
from ssmprof.store.journal import Journal

ONE_ROUND = structs.replace(make.QUICK, rounds=1)


class MemoryJournal:
    """A journal without a disk."""

    def __init__(self, outcomes=()):
        self.outcomes = list(outcomes)

    @property
    def done(self):
        return {outcome.key for outcome in self.outcomes}

    def append(self, outcome):
        self.outcomes.append(outcome)


def no_refinement(scenario, outcomes):
    return ()


def swept(scenario, measure, journal=None, **changes):
    journal = journal or MemoryJournal()
    values = {"refine": no_refinement, "expand": make.jobs} | changes
    end = measure_all(scenario, journal, measure, values.pop("refine"), **values)
    return end, journal


LAWS = {"attention": (1.0, 2.0), "mamba2": (8000.0, 1.0)}


def test_every_job_is_measured_once_and_kept_in_order():
    scenario = make.scenario()
    end, journal = swept(scenario, make.power_law(**LAWS))
    assert end == "done"
    assert [outcome.key for outcome in journal.outcomes] == [job.key for job in make.jobs(scenario)]


def test_a_resumed_sweep_measures_only_what_is_missing_and_equals_an_uninterrupted_one():
    scenario = make.scenario()
    _, whole = swept(scenario, make.power_law(noise=0.01, **LAWS))
    asked = []

    def measure(jobs):
        asked.extend(jobs)
        yield from make.power_law(noise=0.01, **LAWS)(jobs)

    _, resumed = swept(scenario, measure, MemoryJournal(whole.outcomes[:7]))
    assert len(asked) == len(whole.outcomes) - 7
    assert resumed.outcomes == whole.outcomes


def test_a_finished_sweep_measures_nothing_again():
    scenario = make.scenario()
    _, whole = swept(scenario, make.power_law(**LAWS))

    def measure(jobs):
        raise AssertionError("asked again")

    assert swept(scenario, measure, whole)[0] == "done"


def test_out_of_memory_is_a_result_and_the_sweep_goes_on():
    scenario = make.scenario(contexts=(512, 1024, 2048), budget=ONE_ROUND)
    measure = make.dies_above(1024, make.power_law(**LAWS), only="attention")
    _, journal = swept(scenario, measure)
    failures = [outcome for outcome in journal.outcomes if isinstance(outcome, Failure)]
    assert len(journal.outcomes) == 6
    assert [(f.point.block, f.point.context) for f in failures] == [("attention", 2048)]


@pytest.mark.parametrize("crossing", [700.0, 3000.0, 8000.0, 33_333.0])
def test_refinement_brackets_a_crossover_that_algebra_knows(crossing):
    scenario = make.scenario(
        contexts=(512, 4096, 32_768, 131_072),
        refine=Refine(tolerance=0.05, max_extra=16),
        budget=structs.replace(ONE_ROUND, rounds=2),
    )
    measure = make.power_law(attention=(1.0, 2.0), mamba2=(crossing, 1.0))
    end, journal = swept(scenario, measure, refine=refine, expand=expand)
    assert end == "done"
    wins = {}
    for outcome in journal.outcomes:
        wins.setdefault(outcome.point.context, {})[outcome.point.block] = outcome.time_s
    below = max(c for c, times in wins.items() if times["attention"] < times["mamba2"])
    above = min(c for c, times in wins.items() if times["mamba2"] <= times["attention"])
    assert below < crossing <= above
    assert above <= below * 1.05
    assert len(wins) <= 20


def test_the_time_budget_ends_a_sweep_between_points():
    now = 0.0

    def measure(jobs):
        nonlocal now
        for outcome in make.power_law(**LAWS)(jobs):
            now += 1.0
            yield outcome

    scenario = make.scenario(budget=structs.replace(make.QUICK, sweep_s=4.5))
    end, journal = swept(scenario, measure, clock=lambda: now)
    assert end == "out-of-time"
    assert len(journal.outcomes) == 5


ENDS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", ENDS)
def test_the_first_request_to_end_saves_the_point_in_flight_and_stops(number):
    def measure(jobs):
        for turn, outcome in enumerate(make.power_law(**LAWS)(jobs)):
            if turn == 2:
                os.kill(os.getpid(), number)
            yield outcome

    before = [signal.getsignal(each) for each in ENDS]
    end, journal = swept(make.scenario(), measure)
    assert end == "interrupted"
    assert len(journal.outcomes) == 3
    assert [signal.getsignal(each) for each in ENDS] == before


def test_a_point_that_failed_in_passing_is_measured_again_by_a_resume_and_not_before(tmp_path):
    scenario = make.scenario(budget=ONE_ROUND)
    first = make.jobs(scenario)[0]
    asked = []

    def measure(jobs):
        for job in jobs:
            asked.append(job.key)
            lost = job.key == first.key and asked.count(first.key) == 1
            yield (
                make.failure(point=job.point, reason="crash", transient=True)
                if lost
                else next(make.power_law(**LAWS)([job]))
            )

    def again(scenario, outcomes):
        return make.jobs(scenario)

    with Journal(tmp_path / "j") as journal:
        assert swept(scenario, measure, journal, refine=again)[0] == "done"
        assert len(asked) == len(set(asked)) == 8
        assert journal.outcomes[0].reason == "crash"
    with Journal(tmp_path / "j") as journal:
        assert swept(scenario, measure, journal)[0] == "done"
        assert asked[8:] == [first.key]
        assert all(not isinstance(outcome, Failure) for outcome in journal.outcomes)


@pytest.mark.parametrize("second", ENDS)
def test_the_second_request_to_end_stops_at_once(second):
    def measure(jobs):
        for number, outcome in enumerate(make.power_law(**LAWS)(jobs)):
            if number == 2:
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), second)
            yield outcome

    journal = MemoryJournal()
    with pytest.raises(KeyboardInterrupt):
        swept(make.scenario(), measure, journal)
    assert len(journal.outcomes) == 2


def test_measuring_ends_when_an_outcome_cannot_be_kept():
    closed = []

    def measure(jobs):
        try:
            yield from make.power_law(**LAWS)(jobs)
        finally:
            closed.append(True)

    class Full(MemoryJournal):
        def append(self, outcome):
            if len(self.outcomes) == 3:
                raise StoreError("outcomes.jsonl: cannot be written")
            super().append(outcome)

    journal = Full()
    with pytest.raises(StoreError):
        swept(make.scenario(), measure, journal)
    assert len(journal.outcomes) == 3
    assert closed


def test_outcomes_are_kept_before_anybody_is_told():
    journal = MemoryJournal()

    def told(outcome):
        assert journal.outcomes[-1] is outcome

    swept(make.scenario(), make.power_law(**LAWS), journal, on_outcome=told)
