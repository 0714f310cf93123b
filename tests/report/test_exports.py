"""Other tools' formats say what the run says."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from report import pages
from ssmprof.records import Run, content_hash, encode, median
from ssmprof.report.export import EXPORTS, Source


@pytest.fixture(scope="module")
def run() -> Run:
    return pages.rich((512, 8192, 32768))


def test_speedscope_has_a_profile_per_point_whose_weights_are_the_kernels(
    run: Run, tmp_path: Path
) -> None:
    (path,) = EXPORTS["speedscope"](Source(run), tmp_path)
    found = json.loads(path.read_text())
    assert found["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    first = {}
    for one in run.measurements():
        first.setdefault(one.point.label(), one)
    assert [profile["name"] for profile in found["profiles"]] == list(first)
    names = [frame["name"] for frame in found["shared"]["frames"]]
    assert len(names) == len(set(names))
    for profile in found["profiles"]:
        assert (profile["type"], profile["unit"]) == ("sampled", "seconds")
        assert len(profile["samples"]) == len(profile["weights"])
        assert profile["endValue"] == pytest.approx(sum(profile["weights"]))
        parts = first[profile["name"]].attribution
        assert profile["weights"][: len(parts.kernels)] == [
            median(k.times_s) for k in parts.kernels
        ]
        for stack, kernel in zip(profile["samples"], parts.kernels, strict=False):
            assert names[stack[0]] == kernel.family
            assert len(stack) == len(set(stack))


def test_sqlite_answers_in_sql_what_the_run_holds(run: Run, tmp_path: Path) -> None:
    (path,) = EXPORTS["sqlite"](Source(run), tmp_path)
    with closing(sqlite3.connect(path)) as base:

        def ask(question: str) -> list[tuple[object, ...]]:
            return base.execute(question).fetchall()

        assert ask("SELECT scenario, sha256 FROM run") == [
            (run.scenario.name, content_hash(encode(run)))
        ]
        assert ask("SELECT count(*) FROM points") == [(len(run.outcomes),)]
        failed = len(list(run.failures()))
        assert failed
        assert ask("SELECT count(*) FROM points WHERE time_s IS NULL AND status <> 'ok'") == [
            (failed,)
        ]
        measured = list(run.measurements())
        assert ask("SELECT count(*) FROM samples WHERE cache = 'cold'") == [
            (sum(len(one.times_s) for one in measured),)
        ]
        one = measured[-1]
        number = run.outcomes.index(one) + 1
        rows = ask(
            "SELECT p.block, p.context, s.time_s FROM samples s JOIN points p ON p.rowid = s.point "
            f"WHERE s.point = {number} AND s.cache = 'cold' ORDER BY s.sample"
        )
        assert rows == [(one.point.block, one.point.context, time_s) for time_s in one.times_s]
        assert ask("SELECT DISTINCT typeof(time_s), typeof(context) FROM kernels") == [
            ("real", "integer")
        ]
        assert ask("SELECT count(*) FROM telemetry WHERE throttle <> ''") == [
            (sum(bool(one.throttle) for one in run.telemetry),)
        ]


def test_sqlite_replaces_an_older_file(run: Run, tmp_path: Path) -> None:
    (path,) = EXPORTS["sqlite"](Source(run), tmp_path)
    before = path.read_bytes()
    EXPORTS["sqlite"](Source(run), tmp_path)
    assert path.read_bytes() == before
