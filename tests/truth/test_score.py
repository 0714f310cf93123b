"""The table of truth on virtual devices: right answers pass, wrong ones are counted."""

from __future__ import annotations

from functools import cache

import planted
import pytest
from deciding import Virtual, answer_of, scenario, swept
from msgspec.structs import replace

from ssmprof.store import folder as store
from truth import score
from truth.items import Item, every
from truth.score import Shot


@cache
def _swept(strategy: str, at: float, seed: int):
    asked = scenario(planted.A, planted.B, strategy=strategy, phase=("prefill",))
    _, journal = swept(asked, Virtual(planted.pair(planted.smooth(at, 0.4)), seed=seed))
    timed = [replace(one, wall_s=0.1, measuring_s=0.05) for one in journal.outcomes]
    return answer_of(journal), timed


def shot(at: float, reference: float) -> Shot:
    answer, outcomes = _swept("decide", at, 1)
    dense, more = _swept("dense", reference, 2)
    return Shot(answer, dense, outcomes, more)


def test_a_right_answer_is_no_miss_and_narrow():
    found = shot(5000, 5000)
    assert not found.misses
    assert not found.is_wide
    assert not found.is_open


def test_an_answer_elsewhere_is_a_miss():
    assert shot(5000, 7000).misses


def test_an_answer_without_the_reference_s_crossing_is_a_miss():
    dense, more = _swept("dense", 5000, 2)
    never = scenario(planted.A, planted.B, phase=("prefill",))
    _, journal = swept(never, Virtual(planted.pair(lambda x: 0.3 + 0.0 * x)))
    assert Shot(answer_of(journal), dense, journal.outcomes, more).misses


def test_quantities_count_what_shots_say():
    found = {one.name: one for one in score.of_answers([shot(5000, 5000), shot(5000, 7000)])}
    assert found["answers whose zone misses the reference's"].value == 1
    assert found["answers whose zone misses the reference's"].bar == 0
    assert found["zones wider than 1.04 where the reference's is not"].bar == pytest.approx(0.2)


def test_the_fewest_samples_of_a_reference_cost_no_more_than_all():
    _, more = _swept("dense", 5000, 2)
    whole = score.spent_s(more)
    assert whole / 2 < score.fewest_s(more) < whole


def test_items_are_named_once_and_nothing_is_done_in_an_empty_folder(tmp_path):
    for device in ("cpu", "cuda"):
        items = list(every(device))
        assert len({one.name for one in items}) == len(items)
        assert all(one.done(tmp_path) is None for one in items)
        assert score.quantities(tmp_path, items) == []


def test_an_item_is_done_once_it_was_measured_whole(tmp_path):
    def measure(folder):
        with store.create(folder, scenario(planted.A)):
            pass

    item = Item("one", measure)
    item.run(tmp_path)
    assert set(item.done(tmp_path) or {}) == {"wall_s"}
