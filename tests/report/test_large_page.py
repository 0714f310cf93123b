"""The page of a large run keeps less of each point, and says so where its data are downloaded."""

from __future__ import annotations

import make
import pytest

from ssmprof.records import Run
from ssmprof.report import embed, to_html
from ssmprof.report.build import build
from ssmprof.report.page import Prose


@pytest.fixture
def run() -> Run:
    law = make.power_law(attention=(1.0, 1.0), mamba2=(2.0, 1.0))
    return make.measured(make.scenario(), law)


def warnings(run: Run) -> list[str]:
    """What the section with the downloads warns of."""
    data = next(one for one in build(run).sections if one.anchor == "data")
    return [
        part.text for part in data.parts if isinstance(part, Prose) and part.weight == "warning"
    ]


def test_a_page_above_the_threshold_says_what_it_leaves_out_and_where_that_is(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "MANY", len(run.outcomes) - 1)
    (said,) = warnings(run)
    assert f"{len(run.outcomes)} outcomes" in said
    assert "the median sample and the 4 heaviest kernels" in said
    assert "in the run folder, and ssmprof export RUN --to sqlite" in said
    assert said.replace("'", "&#39;") in to_html(run)


def test_a_page_at_the_threshold_says_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "MANY", len(run.outcomes))
    assert warnings(run) == []
    assert "leaves data out" not in to_html(run)
