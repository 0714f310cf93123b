"""What stayed noisy is measured once more, beside what it is compared with."""

from __future__ import annotations

import make

from ssmprof.planning.again import noisy_again
from ssmprof.records import Note


def test_a_noisy_point_and_its_rivals_get_one_round_more() -> None:
    asked = make.scenario("attention", "mamba2", contexts=(512, 1024))
    jobs = make.jobs(asked)
    noisy = (Note(kind="noisy", text="not within 1 %"),)
    outcomes = [
        make.measurement(
            point=job.point,
            round=job.round,
            notes=noisy if (job.point.block, job.point.context) == ("mamba2", 512) else (),
        )
        for job in jobs
    ]
    again = noisy_again(asked, outcomes)
    assert [(job.point.block, job.point.context) for job in again] == [
        ("attention", 512),
        ("mamba2", 512),
    ]
    assert {job.round for job in again} == {asked.budget.rounds}
    assert not {job.key for job in again} & {job.key for job in jobs}
    assert not any(job.passes.parts for job in again)


def test_nothing_noisy_is_nothing_to_do() -> None:
    asked = make.scenario("attention", contexts=(512,))
    outcomes = [make.measurement(point=job.point, round=job.round) for job in make.jobs(asked)]
    assert noisy_again(asked, outcomes) == []
    assert noisy_again(asked, []) == []
