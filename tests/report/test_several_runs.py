"""Several runs on one page: the contenders of all of them, or an error that says why not."""

from __future__ import annotations

import make
import pytest
from msgspec.structs import replace

from ssmprof.errors import StoreError
from ssmprof.records import Run
from ssmprof.report.build import build
from ssmprof.store.folder import merge


def measured(**laws: tuple[float, float]) -> Run:
    return make.measured(make.scenario(*laws), make.power_law(**laws))


def test_contenders_of_all_runs_are_in_the_heading() -> None:
    one, other = measured(attention=(1.0, 2.0)), measured(mamba2=(900.0, 1.0))
    page = build(merge([one, other], allow_different=True))
    assert [series.block for series in page.heroes[0].series] == ["attention", "mamba2"]
    assert len(page.decision.contenders) == 2


def test_two_contenders_of_one_name_that_differ_share_no_page() -> None:
    one, other = measured(attention=(1.0, 2.0)), measured(mamba2=(900.0, 1.0))
    (block,) = other.scenario.blocks
    named = replace(other.scenario, blocks=(replace(block, name="attention"),))
    with pytest.raises(StoreError, match="attention is not the same"):
        merge([one, replace(other, scenario=named)], allow_different=True)
