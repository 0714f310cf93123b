"""Zones: certain ends, every contradiction inside, nothing smoothed away."""

from __future__ import annotations

from ssmprof.analysis.compare.zone import Change, Standing, Stretch, changes, open_lobes, stretches

A, B, C = "attention", "mamba2", "hybrid"
BOTH = frozenset((A, B))


def standing(context: int, word: str, present: str = "AB") -> Standing:
    """`a` is certain for A, `?` not certain, `=` equal, `<` and `>` lean to A and to B."""
    here = frozenset({"A": A, "B": B, "C": C}[one] for one in present)
    sure = {"a": A, "b": B, "c": C}
    if word in sure:
        winners = frozenset((sure[word],))
        return Standing(context, winners, False, here, winners)
    leaning = {"<": frozenset((A,)), ">": frozenset((B,))}.get(word, BOTH)
    return Standing(context, BOTH, word == "=", here, leaning)


def along(words: str, step: float = 1.1) -> list[Standing]:
    """Standings from 1,000 tokens on, one per letter."""
    return [standing(round(1000 * step**index), one) for index, one in enumerate(words)]


def at(index: int, step: float = 1.1) -> int:
    return round(1000 * step**index)


def zones(words: str, step: float = 1.1) -> list[tuple[int | None, int]]:
    return [(one.low, one.high) for one in changes(along(words, step))[1]]


def only(words: str, step: float = 1.1) -> Change:
    (found,) = changes(along(words, step))[1]
    return found


def test_a_clean_zone_runs_from_the_last_certain_length_to_the_first():
    one = only("aaabbb")
    assert (one.before, one.after) == ({A}, {B})
    assert (one.low, one.high, one.jags, one.gone) == (at(2), at(3), (), False)


def test_lengths_without_a_certain_winner_widen_it():
    assert zones("aa???bb") == [(at(1), at(5))]
    assert zones("aa===bb") == [(at(1), at(5))]


def test_a_single_winner_has_no_zone():
    assert zones("aa??aa") == []
    assert zones("??????") == []
    assert zones("==aa==") == []


def test_a_jagged_zone_holds_every_contradiction():
    one = only("aaabaabbb")
    assert (one.low, one.high) == (at(2), at(6))
    assert one.jags == (at(3), at(4), at(5))


def test_returns_beyond_half_an_octave_are_crossings_of_their_own():
    assert zones("aabbaabb", step=2.0) == [(2000, 4000), (8000, 16000), (32000, 64000)]


def test_a_narrow_lobe_is_two_crossings_where_nothing_follows():
    assert zones("aaabaaa") == [(at(2), at(3)), (at(3), at(4))]


def test_an_end_that_nobody_certainly_wins_is_none():
    every = frozenset((A, B, C))
    three = [
        Standing(1000, frozenset((A, C)), False, every),
        Standing(1100, frozenset((A, B)), False, every),
        standing(1200, "b", "ABC"),
        standing(1300, "b", "ABC"),
    ]
    assert [(one.low, one.high) for one in changes([*three[:1], *three[2:]])[1]] == [(1000, 1200)]
    found = stretches([three[0], standing(1100, "a", "ABC"), *three[2:]])
    assert [one.names for one in found] == [{A}, {B}]
    open_end = [*three[:2], Standing(1150, frozenset((B, C)), False, every), *three[2:]]
    (one,) = changes(open_end)[1]
    assert (one.before, one.after, one.low, one.high) == ({A}, {B}, None, 1200)


def test_an_end_is_certain_only_where_nobody_else_may_win():
    every = frozenset((A, B, C))
    three = [
        standing(1000, "a", "ABC"),
        Standing(1100, frozenset((A, C)), False, every),
        Standing(1200, frozenset((B, C)), False, every),
        standing(1300, "b", "ABC"),
    ]
    (one,) = changes(three)[1]
    assert (one.low, one.high) == (1000, 1300)


def test_a_hint_of_the_other_winner_near_a_zone_widens_it():
    assert zones("aa>aabbb") == [(at(1), at(5))]
    assert zones("aabb<bb") == [(at(1), at(5))]
    assert zones("aa<aab>b") == [(at(4), at(5))]  # these point the right way
    assert zones("aa?aabbb") == [(at(4), at(5))]  # and this one nowhere


def test_a_hint_far_from_a_zone_does_not():
    words = "aa>" + "a" * 6 + "bb"
    assert zones(words) == [(at(8), at(9))]
    stretch = changes(along(words))[0][0]
    assert [[one.context for one in lobe] for lobe in open_lobes(stretch, stretch.lengths)] == [
        [at(2)]
    ]


def test_an_open_lobe_holds_all_of_its_run():
    stretch = Stretch(frozenset((A,)), along("aa?>?a<aa"))
    (lobe,) = open_lobes(stretch, stretch.lengths)
    assert [one.context for one in lobe] == [at(2), at(3), at(4)]


def test_who_does_not_fit_hands_over_by_capacity():
    found = [standing(1000, "a"), standing(2000, "a"), standing(4000, "b", "B")]
    (one,) = changes(found)[1]
    assert (one.low, one.high, one.gone) == (2000, 4000, True)


def test_a_crossing_before_the_capacity_is_a_zone():
    found = [standing(1000, "a"), standing(2000, "b"), standing(4000, "b", "B")]
    (one,) = changes(found)[1]
    assert (one.low, one.high, one.gone) == (1000, 2000, False)


def test_stretches_keep_a_set_for_as_long_as_it_may_win():
    found = stretches(along("?a??b?"))
    assert [(sorted(one.names), one.first, one.last) for one in found] == [
        ([A], at(0), at(3)),
        ([B], at(4), at(5)),
    ]
