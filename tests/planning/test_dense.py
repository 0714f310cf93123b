"""The dense reference: every length around a change of winner, three times, and nothing else."""

from __future__ import annotations

from itertools import pairwise

import planted
import pytest
from deciding import MemoryJournal, Virtual, answer_of, scenario, swept

from ssmprof.planning.strategies import dense, expected
from ssmprof.records import Job


def test_lengths_of_the_first_look_hold_the_ends_and_eight_per_octave():
    found = dense.coarse(512, 131072)
    assert (found[0], found[-1]) == (512, 131072)
    assert 8 * 8 <= len(found) <= 8 * 8 + 3
    assert all(other <= 1.2 * one for one, other in pairwise(found))


def test_fine_lengths_lie_64_tokens_or_1_percent_apart():
    found = dense.fine(1000, 20_000)
    assert all(at % 64 == 0 for at in found)
    assert all(
        other - one == 64 or 0.005 <= other / one - 1 <= 0.015 for one, other in pairwise(found)
    )
    assert (found[0], found[-1] > 19_800) == (1024, True)


@pytest.mark.parametrize(
    ("curve", "low", "high"), [(planted.smooth(5000, 0.4), 3600, 7000), (planted.h200, 3100, 6200)]
)
def test_three_visits_of_every_length_half_an_octave_around_a_change(curve, low, high):
    device = Virtual(planted.pair(curve))
    _, journal = swept(scenario(planted.A, planted.B, strategy="dense", phase=("prefill",)), device)
    assert len(device.visits) == 4
    looks: dict[int, set[int]] = {}
    for one in journal.outcomes:
        looks.setdefault(one.point.context, set()).add(one.round)
    wanted = dense.fine(low, high)
    assert len(wanted) > 30
    assert all(len(looks[at]) >= 3 for at in wanted)
    assert all(len(found) == 1 for at, found in looks.items() if at < low / 1.5 or at > high * 1.5)
    [crossing] = answer_of(journal).crossings
    assert crossing.kind == "zone"


def test_a_reference_without_a_crossing_is_one_look():
    device = Virtual(planted.pair(lambda x: 0.3 + 0.0 * x))
    _, journal = swept(scenario(planted.A, planted.B, strategy="dense", phase=("prefill",)), device)
    assert len(device.visits) == 1
    assert not answer_of(journal).crossings


def test_an_ended_reference_goes_on_where_it_stopped():
    asked = scenario(planted.A, planted.B, strategy="dense", phase=("prefill",))
    _, whole = swept(asked, Virtual(planted.pair(planted.smooth(5000, 0.4))))
    cut = MemoryJournal(whole.outcomes[: len(whole.outcomes) // 2])
    _, rest = swept(asked, Virtual(planted.pair(planted.smooth(5000, 0.4))), cut)
    seen: dict[int, set[int]] = {}
    for one in rest.outcomes:
        seen.setdefault(one.point.context, set()).add(one.round)
    assert all(len(seen[at]) >= 3 for at in dense.fine(3600, 7000))
    keys = [one.key for one in rest.outcomes]
    assert len(set(keys)) == len(keys)


def test_a_plan_names_the_first_look():
    asked = scenario(planted.A, planted.B, strategy="dense", phase=("prefill",))
    jobs = expected(asked)
    assert all(isinstance(one, Job) for one in jobs)
    assert {one.point.context for one in jobs} == set(dense.coarse(512, 32768))
