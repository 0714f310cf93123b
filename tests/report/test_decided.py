"""Who runs which op, as the page and the exports tell it."""

from __future__ import annotations

import csv
import math
import sqlite3
from contextlib import closing
from pathlib import Path

import make
import pytest
from msgspec.structs import replace

from report import pages
from ssmprof.models.short_form import Shortened
from ssmprof.records import Run
from ssmprof.report.build import build
from ssmprof.report.decided import chosen, trials
from ssmprof.report.embed import compact, decoded, encoded
from ssmprof.report.export import EXPORTS, Source
from ssmprof.report.page import Listing
from ssmprof.report.redact import redacted


@pytest.fixture(scope="module")
def run() -> Run:
    return pages.rich((512, 8192), phase=("prefill",), execution=("graph",))


def test_a_row_says_who_runs_the_op_where_who_lost_and_whether_two_processes_agree(
    run: Run,
) -> None:
    first, second = chosen(run).cells()
    assert first == [
        "attention", "prefill", "1", "rms_norm", "fast up to 1,018, steady above", "25.0 %",
        "late 1.010x ± 0.002 at 704; old refused", "agree",
    ]  # fmt: skip
    assert second[-1] == "differ at 1,472"


def test_a_column_says_on_how_many_layers_where_not_on_all() -> None:
    whole, short = make.decision(), make.decision(shortened=Shortened(layers=4, whole=32))
    assert [column.key for column in chosen(make.run(decisions=(whole,))).columns][-1] == "agreed"
    found = chosen(make.run(decisions=(whole, short)))
    assert found.columns[-1].heading == "decided on"
    assert [cells[-1] for cells in found.cells()] == ["–", "4 of 32 layers"]
    assert chosen(decoded(encoded(compact(make.run(decisions=(short,)))))).cells()[0][-1] == (
        "4 of 32 layers"
    )


def test_who_runs_the_op_somewhere_is_no_loser_and_nobody_may_have_been_tried(run: Run) -> None:
    (won,) = chosen(make.run(decisions=(make.decision(trials=()),))).rows
    assert won["losers"] is None
    (both,) = chosen(make.run(decisions=(make.decision(providers=("late", "fast")),))).rows
    assert both["losers"] is None


def test_the_page_lists_them_folded_under_trust(run: Run) -> None:
    trust = next(one for one in build(run).sections if one.anchor == "trust")
    caption = chosen(run).caption
    (listing,) = [
        part for part in trust.parts if isinstance(part, Listing) and part.table.caption == caption
    ]
    assert listing.folded
    assert listing.table.cells() == chosen(run).cells()
    without = build(replace(run, decisions=()))
    assert not any(
        isinstance(part, Listing) and part.table.caption == caption
        for section in without.sections
        for part in section.parts
    )


def test_a_page_keeps_what_it_shows_of_them(run: Run) -> None:
    kept = decoded(encoded(compact(run)))
    assert chosen(kept) == chosen(run)
    assert all(trial.cold_s is None for one in kept.decisions for trial in one.trials)


def test_exports_hold_every_trial_with_all_its_figures(run: Run, tmp_path: Path) -> None:
    count = sum(len(one.trials) for one in run.decisions)
    written = EXPORTS["csv"](Source(run), tmp_path)
    assert [path.name for path in written] == [
        "points.csv", "kernels.csv", "contenders.csv", "decisions.csv",
    ]  # fmt: skip
    with written[-1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(trials(run).rows) == count
    assert (rows[0]["op"], rows[0]["challenger"], rows[0]["against"]) == (
        "rms_norm", "fast", "steady",
    )  # fmt: skip
    assert float(rows[0]["ratio"]) == pytest.approx(math.exp(-0.05))
    assert float(rows[0]["op_cold_s"]) == 1e-5
    (base_file,) = EXPORTS["sqlite"](Source(run), tmp_path)
    with closing(sqlite3.connect(base_file)) as base:
        (found,) = base.execute("SELECT count(*) FROM decisions WHERE NOT agreed").fetchone()
        assert found == len(run.decisions[1].trials)


def test_a_run_without_decisions_has_no_table_of_them(run: Run, tmp_path: Path) -> None:
    written = EXPORTS["csv"](Source(replace(run, decisions=())), tmp_path)
    assert [path.name for path in written] == ["points.csv", "kernels.csv", "contenders.csv"]


def test_a_redacted_decision_names_an_environment_of_its_run(run: Run) -> None:
    machine = replace(pages.MACHINE, git="/home/kowalski/x")
    named = replace(
        run,
        environments={machine.fingerprint: machine},
        decisions=tuple(replace(one, environment=machine.fingerprint) for one in run.decisions),
    )
    shown = redacted(named)
    assert machine.fingerprint not in shown.environments
    assert {one.environment for one in shown.decisions} == set(shown.environments)
