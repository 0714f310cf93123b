"""A visit through workers: one outcome per contender and length, whatever happens to whom."""

from __future__ import annotations

import os

import fakes
import make
import pytest
from msgspec import structs

from ssmprof.records import Failure, Measurement, Sampling
from ssmprof.session.loop import measure_all

HANGS = ("hang", "nap")


def bare(outcome):
    """The outcome without what tells who served it."""
    return structs.replace(outcome, notes=(), beside=None, providers={})


def pids(outcomes):
    return [
        next(note.text for note in one.notes if note.kind == "host")
        for one in outcomes
        if isinstance(one, Measurement)
    ]


def kinds(outcome):
    return [note.kind for note in getattr(outcome, "notes", ()) if note.kind != "host"]


def visit_with(fault, **changes):
    impatient = structs.replace(make.QUICK, timeout_s=0.4)
    sampling = Sampling(pairs=4, length_s=0.1)
    budget = impatient if fault in HANGS else make.QUICK
    return make.visit(budget=budget, sampling=sampling, **changes)


def test_every_contender_gets_an_outcome_per_length_beside_the_other_in_one_process():
    visit = make.visit(contexts=(64, 128, 256))
    with fakes.client() as client:
        outcomes = list(client([visit]))
    assert [one.key for one in outcomes] == [job.key for job in visit.jobs()]
    assert [one.beside for one in outcomes] == ["mamba2", "attention"] * 3
    assert len(set(pids(outcomes))) == 1


def test_every_visit_has_a_process_of_its_own_and_jobs_go_on_beside_it():
    job = make.job("mamba2", 64)
    visits = [make.visit(round=number) for number in (7, 8)]
    with fakes.client() as client:
        first, *both, last = client([job, *visits, structs.replace(job, round=9)])
    assert first == fakes.formula(job)
    assert bare(last) == bare(fakes.formula(structs.replace(job, round=9)))
    assert len(set(pids(both))) == 2


def test_outcomes_come_length_by_length_so_that_each_is_kept_before_the_next():
    with fakes.client() as client:
        outcomes = client([make.visit(contexts=(64, 128))])
        assert [next(outcomes).point.context for _ in range(2)] == [64, 64]
        outcomes.close()


@pytest.mark.parametrize("fault", [name for name, why in fakes.EXPECTED.items() if why])
def test_a_contender_that_dies_takes_only_its_own_point_along(fault, tmp_path):
    visit = visit_with(fault, contexts=(64, 128, 256))
    dead = visit.lengths()[1][0]
    tag = f"tag-{os.getpid()}-visit-{fault}"
    with fakes.client({dead.key: fault}, tmp_path, environ={"TAG": tag}) as client:
        outcomes = list(client([visit]))
    assert [one.key for one in outcomes] == [job.key for job in visit.jobs()]
    failed = outcomes[2]
    assert isinstance(failed, Failure)
    assert failed.reason == fakes.EXPECTED[fault]
    others = [one for one in outcomes if one is not failed]
    expected = [fakes.formula(job) for job in visit.jobs() if job.key != dead.key]
    assert [bare(one) for one in others] == [bare(one) for one in expected]
    assert outcomes[3].beside is None
    assert [one.beside for one in outcomes[:2] + outcomes[4:]] == ["mamba2", "attention"] * 2
    assert fakes.gone(tag) == []


@pytest.mark.parametrize("fault", ["kill", "hang", "rubbish", "exit"])
def test_contenders_that_die_only_together_are_measured_apart_and_say_so(fault, tmp_path):
    visit = visit_with(fault, contexts=(64, 128))
    with fakes.client({"together 64": fault}, tmp_path) as client:
        outcomes = list(client([visit]))
    assert all(isinstance(one, Measurement) for one in outcomes)
    assert [one.beside for one in outcomes] == [None, None, "mamba2", "attention"]
    assert [kinds(one) for one in outcomes] == [["apart"], ["apart"], [], []]
    assert len(set(pids(outcomes))) == 3


def test_contenders_that_do_not_fit_beside_each_other_alternate_as_processes(tmp_path):
    visit = make.visit(contexts=(64, 128, 256))
    with fakes.client({"together 128": "does not fit"}, tmp_path) as client:
        outcomes = list(client([visit]))
    assert [one.beside for one in outcomes] == ["mamba2", "attention", None, None, None, None]
    text = outcomes[2].notes[-1].text
    assert text == "measured in a process without mamba2: 2.00 GiB asked"
    assert len(set(pids(outcomes))) == 5


def test_a_shorter_length_is_tried_together_again_after_one_that_did_not_fit(tmp_path):
    visit = make.visit(contexts=(128, 64, 256))
    with fakes.client({"together 128": "does not fit"}, tmp_path) as client:
        outcomes = list(client([visit]))
    assert [one.beside for one in outcomes] == [None, None, "mamba2", "attention", None, None]


def test_contenders_too_large_for_the_board_together_are_not_tried_together():
    with fakes.client(predict=lambda job: 600, room=lambda: 1000) as client:
        outcomes = list(client([make.visit(contexts=(64,))]))
    assert [kinds(one) for one in outcomes] == [["apart"], ["apart"]]
    assert "together they need" in outcomes[0].notes[-1].text


def test_a_curve_that_ran_out_of_memory_twice_is_skipped_and_the_other_goes_on(tmp_path):
    visit = make.visit(contexts=(64, 128, 256))
    faults = {jobs[0].key: "out-of-memory" for jobs in visit.lengths()}
    with fakes.client(faults, tmp_path) as client:
        outcomes = list(client([visit]))
    assert [one.reason for one in outcomes[::2]] == ["out-of-memory", "out-of-memory", "skipped"]
    assert all(isinstance(one, Measurement) for one in outcomes[1::2])


def test_a_meter_that_kills_the_worker_costs_the_joules_and_not_the_times(tmp_path):
    visit = make.visit(
        contexts=(64,), sampling=Sampling(mode="sustained", windows=1, window_s=0.1, energy=True)
    )
    with fakes.client({"energy": "segfault"}, tmp_path) as client:
        outcomes = list(client([visit]))
    assert [kinds(one) for one in outcomes] == [["broken-pass"]] * 2
    assert [one.mode for one in outcomes] == ["sustained"] * 2


def test_a_visit_may_hold_several_phases_and_batches():
    prefill, decode = make.visit(contexts=(64,)), make.visit(contexts=(64,), phase="decode")
    many = make.visit(contexts=(64,), batch=4)
    visit = structs.replace(prefill, points=prefill.points + decode.points + many.points)
    with fakes.client() as client:
        outcomes = list(client([visit]))
    assert [(one.point.phase, one.point.batch) for one in outcomes[::2]] == [
        ("prefill", 1), ("decode", 1), ("prefill", 4)
    ]  # fmt: skip
    assert len(set(pids(outcomes))) == 1


def test_a_worker_that_does_not_start_fails_every_point(tmp_path):
    with fakes.client({"start": "exit"}, tmp_path) as client:
        outcomes = list(client([make.visit(contexts=(64,))]))
    assert [one.reason for one in outcomes] == ["crash", "crash"]


def test_a_visit_asks_only_for_lengths_that_are_not_done():
    visit = make.visit(contexts=(64, 128))
    keys = [job.key for job in visit.jobs()]
    assert visit.remaining(keys) is None
    assert visit.remaining(keys[:3]).points == visit.points[1:]
    assert visit.remaining([]) == visit


@pytest.mark.parametrize(
    "broken", [{"points": ((make.point("mamba2", 64),) * 2,)}, {"subjects": (make.block(),) * 2}]
)
def test_a_visit_needs_one_point_of_each_of_its_contenders(broken):
    with pytest.raises(ValueError, match="of a visit need"):
        structs.replace(make.visit(), **broken)


def test_a_sweep_keeps_each_outcome_of_a_visit_and_repeats_none(tmp_path):
    from ssmprof.store import folder

    visit = make.visit(contexts=(64, 128))
    asked = make.scenario(contexts=(64,))
    told = []

    def run(opened, client):
        return measure_all(
            asked,
            opened.journal,
            client,
            lambda *_: (),
            expand=lambda _: [visit],
            on_outcome=told.append,
        )

    with folder.create(tmp_path / "run", asked) as opened, fakes.client() as client:
        opened.add_environment(make.ENVIRONMENT)
        assert run(opened, client) == "done"
    with folder.resume(tmp_path / "run") as opened, fakes.client() as client:
        assert run(opened, client) == "done"
    loaded = folder.load(tmp_path / "run")
    assert [one.key for one in told] == [job.key for job in visit.jobs()]
    assert [(one.key, one.beside) for one in loaded.outcomes] == [
        (one.key, one.beside) for one in told
    ]
