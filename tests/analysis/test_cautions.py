"""Rules of thumb stand with their sources, and only where they bear on the comparison."""

from __future__ import annotations

import make
import pytest

from ssmprof.analysis.decide.cautions import RULES, cautions
from ssmprof.analysis.decide.ledger import ledger


def test_every_rule_is_a_claim_of_the_ledger_with_a_source():
    claims = {claim.id: claim for claim in ledger()}
    assert all(claims[name].source for name in RULES.values())


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (("attention", "mamba2"), 6),
        (("hybrid", "mamba2"), 6),
        (("mamba1", "mamba2"), 0),
        (("attention", "hybrid"), 0),
    ],
)
def test_they_are_told_where_a_pure_state_stands_beside_attention(
    names: tuple[str, ...], count: int
):
    found = cautions(make.block(name) for name in names)
    assert len(found) == count
    assert all(one.when and one.statement and one.source for one in found)
