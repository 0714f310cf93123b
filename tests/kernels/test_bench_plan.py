"""Cells of the kernel benchmark: which, and in which order a run that may be stopped takes them."""

from __future__ import annotations

import pathlib
import sys

import pytest
from benchmarks import plan, verdicts

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLE = tomllib.loads(pathlib.Path(verdicts.__file__).with_name("shapes.toml").read_text("utf-8"))
OPS = [op for op in TABLE if op not in ("bar", "share")]


def test_the_table_spans_every_model_batch_and_length_up_to_its_limit_of_tokens():
    found = plan.cells(TABLE, ["ssd_scan"])
    assert len(found) == 5 * (7 + 6)
    assert max(c.batch * c.length for c in found) == 131072
    assert len({c.key for c in found}) == len(found)


def test_a_pattern_picks_cells_by_name_and_several_add_up():
    only = ["ssd_scan/2.7b/512/*", "ssd_scan/*/8191/8"]
    names = [c.name for c in plan.cells(TABLE, OPS, only)]
    assert "ssd_scan/2.7b/512/1" in names
    assert "ssd_scan/130m/8191/8" in names
    assert len(names) == 2 + 5


def test_spreading_changes_nothing_but_the_order():
    found = plan.cells(TABLE, OPS)
    assert sorted(c.key for c in plan.spread(found)) == sorted(c.key for c in found)


@pytest.mark.parametrize("part", [0.25, 0.5, 0.75])
def test_any_beginning_holds_about_the_same_part_of_every_operation(part):
    found = plan.spread(plan.cells(TABLE, OPS))
    for op in OPS:
        whole = [c for c in found if c.op == op]
        begun = [c for c in found[: int(part * len(found))] if c.op == op]
        assert abs(len(begun) - part * len(whole)) <= 1.5


def test_a_third_of_the_scan_holds_every_model_both_batches_and_most_lengths():
    found = plan.spread(plan.cells(TABLE, ["ssd_scan"]))
    begun = found[: len(found) // 3]
    assert len({c.model["name"] for c in begun}) == 5
    assert {c.batch for c in begun} == {1, 8}
    assert len({c.length for c in begun}) >= 5
