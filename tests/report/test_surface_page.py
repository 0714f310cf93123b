"""The section Serving of a surface: the plane, its line, held-out points, goodput and capacity."""

from __future__ import annotations

import re
from pathlib import Path

import make
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from report import surfaces
from ssmprof.analysis import analyze
from ssmprof.analysis.surface.planes import predicting
from ssmprof.cli import cli
from ssmprof.errors import ConfigError
from ssmprof.report import to_html
from ssmprof.report.build import build
from ssmprof.report.figures import plane
from ssmprof.report.names import name_contenders
from ssmprof.report.page import Listing, Picture, Prose, Section
from ssmprof.report.svg import to_svg
from ssmprof.serving import deployed
from ssmprof.serving.steps import of_run
from ssmprof.store import folder
from ssmprof.units import parse_tokens


@pytest.fixture(scope="module")
def run():
    return surfaces.planted()


@pytest.fixture(scope="module")
def section(run) -> Section:
    return next(one for one in build(run).sections if one.anchor == "serving")


def picture(section: Section, key: str) -> Picture:
    return next(one for one in section.parts if isinstance(one, Picture) and one.key == key)


def test_planes_hold_the_line_that_was_planted(run) -> None:
    decode, prefill = analyze(run, ("planes",)).planes
    assert (decode.conditions.phase, decode.conditions.batch) == ("decode", None)
    assert prefill.conditions.chunk == 2048
    for edge in decode.line("transformer", "mamba2"):
        # 4e-9 b n = 2e-5 + 1.2e-5 b
        assert edge.before == "transformer"
        assert edge.at_tokens == pytest.approx(5000 / edge.batch + 3000, rel=0.02)
    assert decode.within == len(decode.missed) == 24
    assert decode.worst is not None
    assert decode.winner(1, 256) == "transformer"
    assert decode.winner(7, 256) is None


def test_the_page_reads_the_line_and_the_held_out_points(section: Section) -> None:
    plane = picture(section, "plane")
    # The line planted at batch 1 lies at 8,000 tokens: measured lengths on both sides are named.
    way = r"The transformer gives way to Mamba-2 between (\S+) and (\S+) tokens at batch 1 and"
    ends = re.search(way, plane.reading)
    assert ends is not None
    assert parse_tokens(ends[1]) <= 8000 <= parse_tokens(ends[2])
    assert "interpolated" in plane.reading
    assert plane.table is not None
    assert all(row["batch"] and row["transformer"] for row in plane.table.rows)
    said = [one.text for one in section.parts if isinstance(one, Prose)]
    assert any(re.match(r"3\d of 3\d held-out points are predicted within 5%", one) for one in said)
    assert any("tokens of a block are padding at your median prompt" in one for one in said)
    fits = next(
        one.table for one in section.parts
        if isinstance(one, Listing) and "engine's rules" in one.table.caption
    )  # fmt: skip
    assert {row["block"] for row in fits.rows} == {"transformer", "hybrid", "mamba2"}


def test_goodput_falls_with_load(run, section: Section) -> None:
    found = deployed.offered(run)
    assert found is not None
    for one in found.offered:
        shares = [share for _, share in one.shares]
        assert shares[0] == 1.0
        assert shares[-1] < 0.5
        assert one.most is not None
        assert one.held == 0
    assert picture(section, "goodput").table is not None


def test_held_out_points_predict_nothing(run) -> None:
    less = predicting(run)
    assert 0 < len(less.outcomes) < len(run.outcomes)
    surface = of_run(run, ["mamba2"], None, False)[0]
    assert surface.chunk_tokens == 2048
    measured = {b for b, row in surface.decodes.items() if len(row) > 1}
    assert measured == set(surface.decodes)
    assert analyze(less, ("planes",)).planes[0].missed == ()


def test_what_is_predicted_badly_is_said(run) -> None:
    held = {(m.batch, m.context) for m in analyze(run, ("planes",)).planes[0].missed}
    spoilt = tuple(
        replace(one, times_s=tuple(2 * t for t in one.times_s))
        if one.point.phase == "decode" and (one.point.batch, one.point.context) in held
        else one
        for one in run.outcomes
    )
    page = build(replace(run, outcomes=spoilt))
    serving = next(one for one in page.sections if one.anchor == "serving")
    said = next(one for one in serving.parts if isinstance(one, Prose) and "held-out" in one.text)
    assert said.weight == "warning"
    assert "off by 50" in said.text


def test_the_page_is_small_and_the_same_each_time(run) -> None:
    text = to_html(run)
    assert len(text.encode()) < 400_000
    assert text == to_html(run)


def test_other_runs_have_no_plane() -> None:
    assert analyze(make.run(make.measurement()), ("planes",)).planes == ()
    assert deployed.offered(make.run(make.measurement())) is None


def test_times_of_chunks_are_not_told_as_those_of_prompts(run, section: Section) -> None:
    assert not any(one.kind == "mine" for one in section.parts)
    page = build(run)
    assert "Whole requests: prompt and answer" not in to_html(run)
    assert page.decision.command.startswith(("ssmprof doctor", "ssmprof serving replay"))
    prefill = next(o for o in analyze(run).latencies if o.conditions.phase == "prefill")
    assert not prefill.conditions.reads_whole
    assert prefill.conditions.call_tokens(8192) == 2048
    assert prefill.conditions.call_tokens(512) == 512


def test_a_mix_of_prompts_is_refused_where_chunks_were_measured(run, tmp_path: Path) -> None:
    folder.write(tmp_path / "run", run)
    words = ["decide", str(tmp_path / "run"), "--mix", "2944:100%"]
    failed = CliRunner().invoke(cli, words, standalone_mode=False).exception
    assert isinstance(failed, ConfigError)
    assert "measured chunks of prompts" in str(failed)


def test_lines_that_part_nothing_are_not_drawn() -> None:
    names = name_contenders(surfaces.SCENARIO.blocks)
    borders = [
        plane.Border("transformer = mamba2", ("transformer", "mamba2"), ((1, 600.0), (8, 700.0))),
        plane.Border("hybrid = mamba2", ("hybrid", "mamba2"), ((1, 650.0), (8, 750.0))),
    ]
    winners = {(1, 512): "transformer", (8, 512): "transformer", (1, 1024): "mamba2"}
    drawn = to_svg(plane.draw(winners, borders, names), "x", "title", "text")
    assert "transformer = mamba2" in drawn
    assert "hybrid" not in drawn
