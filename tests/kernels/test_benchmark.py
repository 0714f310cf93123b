"""The arithmetic of the kernel benchmark: medians, intervals, bars."""

from __future__ import annotations

import math
import pathlib
import sys

import pytest
from benchmarks import verdicts

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHAPES = pathlib.Path(verdicts.__file__).with_name("shapes.toml")


def row(provider, ms, length=512, batch=1, op="ssd_scan", mode="graph", share=0.5):
    return {
        "op": op, "shape": "130m", "length": length, "batch": batch, "mode": mode, "width": 1536,
        "provider": provider, "ms": ms, "share_bandwidth": share, "share_matrix": 0.1,
        "share_exponentials": 0.1, "share_launch": 0.1,
    }  # fmt: skip


def test_the_interval_holds_the_median_with_95_percent():
    # 30 samples: the 10th and 21st order statistic (binomial, 95.7 %).
    median, low, high = verdicts.median_interval([float(i) for i in range(1, 31)])
    assert (median, low, high) == (15.5, 10.0, 21.0)


def test_a_few_samples_give_their_whole_range():
    assert verdicts.median_interval([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)


def test_the_geometric_mean_of_nothing_is_not_a_number():
    assert verdicts.geometric_mean([1.0, 4.0]) == pytest.approx(2.0)
    assert math.isnan(verdicts.geometric_mean([]))


def test_a_ratio_is_peer_over_own_and_the_fastest_backend_of_a_peer_counts():
    rows = [row("ssmprof", 1.0), row("sdpa-cudnn", 3.0), row("sdpa-flash", 2.0)]
    assert verdicts.ratios(rows, "ssd_scan", "sdpa", "graph", {}) == [2.0]


def test_a_missing_time_on_either_side_is_no_ratio():
    rows = [
        row("ssmprof", None),
        row("fla", 3.0),
        row("ssmprof", 1.0, 1024),
        row("fla", None, 1024),
    ]
    assert verdicts.ratios(rows, "ssd_scan", "fla", "graph", {}) == []


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ({"min_length": 512}, True),
        ({"min_length": 513}, False),
        ({"max_batch": 1}, True),
        ({"min_width": 4096}, False),
        ({"not_multiple_of": 2048}, True),
        ({"not_multiple_of": 256}, False),
    ],
)
def test_a_bar_keeps_its_part_of_the_grid(where, kept):
    assert verdicts.kept(row("x", 1.0), where) is kept


def test_one_cell_below_its_own_bar_breaks_the_floor():
    table = {"bar": [{"op": "ssd_scan", "peer": "fla", "floor": 1.2, "aim": 2.0, "cell": 0.9}]}
    rows = [row("ssmprof", 1.0), row("fla", 3.0), row("ssmprof", 1.0, 1024), row("fla", 0.8, 1024)]
    (line,) = verdicts.judge(rows, table)
    assert line["reached"] == pytest.approx(math.sqrt(3.0 * 0.8))
    assert line["worst"] == 0.8
    assert not line["floor_met"]


def test_a_share_bar_reads_our_rows_of_that_ceiling():
    table = {
        "share": [
            {"op": "ssd_scan", "ceiling": "any", "where": {}, "floor": 0.4, "aim": 0.6},
            {"op": "ssd_scan", "ceiling": "bandwidth", "where": {"min_length": 9999}},
        ]
    }
    (line,) = verdicts.judge([row("ssmprof", 1.0), row("fla", 9.0, share=0.9)], table)
    assert line["reached"] == pytest.approx(0.5)
    assert line["floor_met"]
    assert not line["aim_met"]


def test_every_bar_of_the_table_names_an_operation_and_a_known_condition():
    table = tomllib.loads(SHAPES.read_text("utf-8"))
    for bar in (*table["bar"], *table["share"]):
        assert bar["op"] in table
        verdicts.kept(row("x", 1.0), bar.get("where", {}))


def test_a_form_that_waits_is_judged_apart_and_both_are_marked():
    rows = [
        row("ssmprof", 1.0) | {"early": True}, row("ssmprof-alone", 2.0) | {"early": False},
        row("peer", 3.0) | {"early": False},
    ]  # fmt: skip
    bar = {"op": "ssd_scan", "peer": "peer", "floor": 1.0, "aim": 2.0}
    one, other = verdicts.judge(rows, {"bar": [bar, bar | {"own": "ssmprof-alone"}]})
    assert (one["own"], one["early"], one["reached"]) == ("ssmprof", True, pytest.approx(3.0))
    assert (other["own"], other["early"]) == ("ssmprof-alone", False)
    assert other["reached"] == pytest.approx(1.5)
