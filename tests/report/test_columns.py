"""Columns give back what was put in, and a page holds its run in them."""

from __future__ import annotations

import gzip
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from report import pages
from ssmprof.records import encode
from ssmprof.report.columns import from_columns, to_columns
from ssmprof.report.embed import compact, decoded, encoded

SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xy", max_size=1), inner),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES), max_size=8))
def test_objects_of_any_kind_come_back(rows: list[dict[str, Any]]) -> None:
    through_json = json.loads(json.dumps(to_columns(rows)))
    assert from_columns(through_json) == rows


def test_repeated_objects_are_words() -> None:
    rows = [{"providers": {"scan": "ssmprof"}, "n": turn} for turn in range(9)]
    column = to_columns(rows)["of"]["providers"]
    assert column == {"words": [{"scan": "ssmprof"}], "of": [0] * 9}


def test_a_page_holds_the_run_in_columns_that_pack_better_than_rows() -> None:
    slim = compact(pages.rich((512, 2048, 8192)))
    data = encoded(slim)
    assert len(gzip.compress(data)) < 0.8 * len(gzip.compress(encode(slim)))
    again = decoded(data)
    assert [one.key for one in again.outcomes] == [one.key for one in slim.outcomes]
    assert again.environments == slim.environments
    for one, other in zip(again.measurements(), slim.measurements(), strict=True):
        assert one.time_s == pytest.approx(other.time_s, rel=1e-4)
        assert one.providers == other.providers
        assert one.attribution is not None
        assert other.attribution is not None
        assert [k.scope for k in one.attribution.kernels] == [
            k.scope for k in other.attribution.kernels
        ]


def test_a_page_of_an_earlier_version_holds_rows_and_is_read_too() -> None:
    slim = compact(pages.rich((512,)))
    earlier = msgspec.json.decode(encode(slim))
    for one in earlier["outcomes"]:  # format 1: no workload, and no number of a format
        one["point"] |= one["point"].pop("workload")
    assert decoded(json.dumps(earlier).encode()).outcomes == slim.outcomes


@pytest.mark.parametrize(
    "broken",
    [
        {"n": 2, "of": {"a": [1]}},
        {"n": 1},
        {"lengths": [3], "of": [1]},
        {"words": ["a"], "of": [4]},
        {"n": 10**15, "of": {}},
        {"n": 10**15, "of": {"round": [0]}},
        {"lengths": [10**15], "of": [1]},
        {"words": [[0.0] * 10_000], "of": [0] * 10_000},
    ],
)
def test_columns_that_do_not_fit_together_are_refused(broken: dict[str, Any]) -> None:
    plain = msgspec.json.decode(encode(pages.rich((512,), phase=("prefill",))))
    plain["outcomes"] = broken
    with pytest.raises(ValueError, match="do not fit"):
        decoded(json.dumps(plain).encode())
