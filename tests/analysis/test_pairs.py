"""Which pairs are compared: all of few contenders, of many those that may decide.

Promises: their number grows with the contenders, not with their square; nobody who may be best goes
uncompared; what is answered about a clear field is the same; shared contenders are no independent
evidence on noise.
"""

from __future__ import annotations

from itertools import combinations

import make
import pytest
from msgspec.structs import replace
from scale.synthetic import Shape, outcomes, scenario

from ssmprof import limits
from ssmprof.analysis import analyze
from ssmprof.analysis.compare import pairs
from ssmprof.analysis.compare.curve import Contender, contenders
from ssmprof.records import Run
from ssmprof.report import rows


def planted(count: int) -> dict[str, Contender]:
    """One is best up to 4K, another above; two others come near, the rest is far behind."""
    laws = {"short": (1.0, 1.3), "long": (4.0, 1.0), "near": (1.08, 1.3), "close": (4.2, 1.0)}
    laws |= {f"far{number}": (20.0 + number, 1.3) for number in range(count - len(laws))}
    found = [
        make.measurement(name, context, time_s=1e-6 * scale * (context / 512) ** power)
        for name, (scale, power) in laws.items()
        for context in (512, 2048, 8192, 65_536)
    ]
    return contenders(found)


def synthetic(count: int) -> Run:
    asked = scenario(Shape(contexts=8, contenders=count, rounds=4, executions=("graph",)))
    return replace(make.run(*outcomes(asked)), scenario=asked)


def test_few_contenders_are_compared_pair_by_pair() -> None:
    known = planted(limits.EVERY_PAIR)
    assert pairs.deciding(known) == list(combinations(known, 2))
    assert pairs.compared(known).keys() == set(combinations(known, 2))


def test_of_many_those_pairs_are_compared_that_may_decide() -> None:
    known = planted(limits.EVERY_PAIR + 1)
    chosen = set(pairs.deciding(known))
    for name in known:
        assert name == "short" or ("short", name) in chosen
    assert ("near", "close") in chosen
    assert not any(a.startswith("far") and b.startswith("far") for a, b in chosen)
    assert ("near", "far0") not in chosen
    more = len(pairs.deciding(planted(100)))
    assert more - len(chosen) == 2 * (100 - limits.EVERY_PAIR - 1)


def test_a_clear_field_has_the_same_answer_from_the_pairs_that_decide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = synthetic(limits.EVERY_PAIR + 4)
    some = analyze(run, ("answers",)).latencies
    monkeypatch.setattr(limits, "EVERY_PAIR", len(run.scenario.blocks))
    every = analyze(run, ("answers",)).latencies
    for one, other in zip(some, every, strict=True):
        assert len(one.pairs) < len(other.pairs) / 2
        assert [at.winners for at in one.standings] == [at.winners for at in other.standings]
        assert [(a.before, a.after) for a in one.crossings] == [
            (a.before, a.after) for a in other.crossings
        ]
        assert all(pair.clocks is not None for pair in one.pairs)


def test_the_table_of_pairs_says_that_it_has_not_all() -> None:
    few, many = (analyze(synthetic(count), ("answers",)).latencies for count in (3, 26))
    assert rows.pairs(few).caption == "Pairs by themselves"
    assert "of more than 24 contenders" in rows.pairs(many).caption


@pytest.mark.parametrize(
    ("keys", "independent"),
    [
        (list(combinations("abcde", 2)), 4.0),  # k contenders: k - 1
        ([("a", "b"), ("c", "d")], 2.0),
        ([("a", name) for name in "bcdefghijk"], 10 / (1 + 9 / 4)),  # at most 4, however many
    ],
    ids=["complete", "apart", "star"],
)
def test_pairs_that_share_a_contender_are_not_independent(
    keys: list[pairs.Key], independent: float
) -> None:
    names = sorted({name for key in keys for name in key})
    found = [
        make.measurement(name, 512, time_s=1e-3 * (1 + 0.001 * ((index * 7 + number * 3) % 5)),
                         round=number)
        for index, name in enumerate(names)
        for number in range(3)
    ]  # fmt: skip
    facet = pairs._Facet(pairs.compared(contenders(found), keys), turns=False)
    assert facet.weight * len(keys) == pytest.approx(independent)
