"""The answer is computed once: all places show the same numbers, digit for digit."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import make
import pytest
from msgspec.structs import replace

from report import pages
from report.committed import COMMITTED
from ssmprof.analysis import Analysis, analyze
from ssmprof.analysis.decide.decision import decide
from ssmprof.planning.refine import refine
from ssmprof.records import Run
from ssmprof.report import exchange, rows
from ssmprof.report.build import build
from ssmprof.report.export import EXPORTS, Source
from ssmprof.report.html import render
from ssmprof.report.page import Listing, Page
from ssmprof.report.text import markdown, summary, told
from ssmprof.report.verdicts import verdicts_of, views_of
from ssmprof.spec import Refine
from ssmprof.store.folder import load
from ssmprof.units import format_context, format_zone

DENSE = tuple(round(2048 * 1.02**step) for step in range(120))


def dense() -> Run:
    """A zone of one number, three contenders, five processes."""
    laws = {"attention": (1.0, 2.0), "hybrid": (300.0, 1.3), "mamba2": (8000.0, 1.0)}
    asked = make.scenario(*laws, contexts=DENSE, budget=replace(make.QUICK, rounds=5))
    run = make.measured(asked, make.power_law(noise=0.002, between=0.002, **laws))
    outcomes = tuple(
        replace(one, environment=pages.MACHINE.fingerprint) for one in run.measurements()
    )
    return replace(run, outcomes=outcomes, environments={pages.MACHINE.fingerprint: pages.MACHINE})


MADE = {"rich": pages.rich, "dense": dense}


@pytest.fixture(scope="module", params=[*MADE, *COMMITTED])
def run(request: pytest.FixtureRequest) -> Run:
    name = request.param
    return MADE[name]() if name in MADE else load(COMMITTED[name])


@pytest.fixture(scope="module")
def analysis(run: Run) -> Analysis:
    return analyze(run)


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return build(run)


def zone(one: object) -> str:
    return format_zone(one.low_tokens, one.high_tokens)  # type: ignore[attr-defined]


def test_heading_terminal_markdown_and_json_say_one_sentence(
    run: Run, analysis: Analysis, page: Page
) -> None:
    said = verdicts_of(run, analysis)
    found = exchange.crossover(run, analysis, analysis.latencies)
    text, mark, views = summary(run, analysis), markdown(run, analysis), views_of(run, analysis)
    for hero, facet, answer in zip(page.heroes, found.facets, analysis.latencies, strict=True):
        sentence = said[answer.key].sentence
        assert hero.sentence == facet.verdict == sentence
        assert sentence in text
        assert f"**{sentence}**" in mark
        assert sentence in told(views[answer.key], said[answer.key])
        assert len(sentence) <= 120
    document = render(page, "0")
    heading = re.search(r'<h1 id="verdict">(.*?)</h1>', document)
    assert heading is not None
    assert html.unescape(re.sub("<.*?>", "", heading[1])) == found.facets[0].verdict


def test_every_crossing_has_the_same_ends_everywhere(
    run: Run, analysis: Analysis, page: Page
) -> None:
    found = exchange.crossover(run, analysis, analysis.latencies)
    table = rows.crossings(analysis.latencies).rows
    listed = [
        part.table.rows
        for section in page.sections
        for part in section.parts
        if isinstance(part, Listing) and part.table.caption == "Where the winner changes"
    ]
    assert [list(one) for one in listed] == ([list(table)] if table else [])
    ends = [
        (one.before, one.after, one.low_tokens, one.high_tokens, one.context_tokens)
        for answer in analysis.latencies
        for one in answer.crossings
    ]
    assert ends == [
        tuple(row[key] for key in ("before", "after", "low_tokens", "high_tokens",
                                   "context_tokens"))
        for row in table
    ]  # fmt: skip
    assert ends == [
        (one.before, one.after, one.low_tokens, one.high_tokens, one.context_tokens)
        for facet in found.facets
        for one in facet.crossings
    ]


def test_cards_and_figures_show_the_zones_of_the_answer(analysis: Analysis, page: Page) -> None:
    for hero, answer in zip(page.heroes, analysis.latencies, strict=True):
        zones = [one for one in answer.crossings if one.kind == "zone"]
        shown = [format_zone(one.low_tokens, one.high_tokens, one.context_tokens) for one in zones]
        if answer.withheld is None:
            cards = [card.number for card in hero.cards if card.label.startswith("tokens: ")
                     and "→" in card.label]  # fmt: skip
            assert cards == shown[: len(cards)]
            assert len(cards) == min(len(shown), 5)
            words = re.sub(r"<[^>]+>", " ", hero.svg)
            for text in shown:
                assert text in words
        grade = hero.cards[-1].number
        assert grade == f"Trust {answer.grade}"


def test_decide_agrees_at_every_measured_length(run: Run, analysis: Analysis) -> None:
    for answer in analysis.latencies[:2]:
        lengths = [one for one in answer.standings if one.winners][:12]
        for standing in lengths:
            found = decide(run, answer.conditions, {standing.context: 1.0})
            if found.choice is not None:
                assert standing.winners == (found.choice,)
            else:
                assert {*found.equal, *found.unresolved} >= set(standing.winners)


def test_claims_quote_the_zones_of_the_pairs(run: Run, analysis: Analysis) -> None:
    (claim,) = (one for one in analysis.claims if one.claim == "crossover-8k")
    kinds = {block.name: block.architecture for block in run.scenario.blocks}
    graphs = [
        one
        for one in analysis.latencies
        if one.conditions.phase == "prefill"
        and one.conditions.chunk is None  # a chunk is no prompt
        and one.conditions.batch == 1
        and one.conditions.execution == analysis.latencies[0].conditions.execution
    ]
    zones = [
        format_zone(crossing.low_tokens, crossing.high_tokens, crossing.context_tokens)
        for answer in graphs
        for pair in answer.pairs
        for crossing in pair.crossings
        if crossing.kind == "zone"
        and kinds[crossing.after] == "ssm"
        and kinds[crossing.before] == "transformer"
    ]
    for text in zones:
        assert text in claim.here


def test_refinement_measures_inside_the_zones_of_the_answer(run: Run, analysis: Analysis) -> None:
    asked = replace(run.scenario, sweep=replace(run.scenario.sweep, refine=Refine(tolerance=0.05)))
    todo = refine(asked, run.outcomes, run.environments)
    zones: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for answer in analysis.latencies:
        every = (*answer.crossings, *(one for pair in answer.pairs for one in pair.crossings))
        ends = [(one.low_tokens, one.high_tokens) for one in every if one.kind == "zone"]
        key = (answer.conditions.phase, answer.conditions.execution)
        zones.setdefault(key, []).extend(ends)  # type: ignore[arg-type]
    for job in todo:
        inside = zones[job.point.phase, job.point.execution]
        assert any(low < job.point.context < high for low, high in inside)


def test_exports_carry_the_same_answer(run: Run, analysis: Analysis, tmp_path: Path) -> None:
    (file,) = EXPORTS["answer"](Source(run), tmp_path)
    exported = json.loads(file.read_text())
    told_by_command = json.loads(
        exchange.to_json(exchange.crossover(run, analysis, analysis.latencies))
    )
    assert exported == told_by_command
    (summary_file,) = EXPORTS["markdown"](Source(run), tmp_path)
    text = summary_file.read_text()
    for answer in analysis.latencies:
        for one in answer.crossings:
            if one.kind == "zone":
                assert zone(one) in text


def test_tables_show_the_times_of_the_curves(analysis: Analysis, page: Page) -> None:
    for hero, answer in zip(page.heroes, analysis.latencies, strict=True):
        shown = {
            (str(row["context_tokens"]), block): row[f"{block}_value"]
            for row in hero.table.rows
            for block in answer.contenders
            if f"{block}_value" in row
        }
        assert shown == {(str(one.context), one.block): one.estimate.value for one in answer.curves}
        for one in answer.curves[:1]:
            assert format_context(one.context) in [cells[0] for cells in hero.table.cells()]


def test_a_run_is_analysed_once_per_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ssmprof import analysis as package
    from ssmprof.cli import main
    from ssmprof.report import build as builder
    from ssmprof.store import folder

    counted: list[Run] = []

    def counting(run: Run, *fields: Any, **how: Any) -> Analysis:
        counted.append(run)
        return analyze(run, *fields, **how)

    folder.write(tmp_path / "run", pages.rich((512, 2048, 8192), phase=("prefill",)))
    for name in (package, builder):
        monkeypatch.setattr(name, "analyze", counting)
    for command in (["report", "-o", str(tmp_path / "page.html")], ["crossover"], ["claims"]):
        counted.clear()
        with pytest.raises(SystemExit):
            main([command[0], str(tmp_path / "run"), *command[1:]])
        assert len(counted) == 1, command


def test_the_same_run_gives_the_same_answers() -> None:
    run = pages.rich((512, 2048, 8192))
    assert analyze(run).answers == analyze(run).answers
