"""A slice of a model is called one wherever it stands; unequal ones are not ranked in silence."""

from __future__ import annotations

import csv
import html
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import make
import msgspec
import pytest
from msgspec.structs import replace

from report import pages
from report.committed import COMMITTED
from ssmprof.analysis import Analysis, analyze
from ssmprof.cli import main
from ssmprof.models.cost import parameters
from ssmprof.models.recipe import Recipe
from ssmprof.models.slicing import sliced
from ssmprof.planning import library, scenario
from ssmprof.records import Run
from ssmprof.report import exchange, to_html
from ssmprof.report.build import build
from ssmprof.report.export import EXPORTS, Source
from ssmprof.report.figures.curves import short
from ssmprof.report.page import Listing
from ssmprof.report.text import markdown, summary, told
from ssmprof.report.verdicts import verdicts_of, views_of
from ssmprof.spec import ForeignSpec, Subject
from ssmprof.store import folder

SAID = "attention@2 is 2 of 8 layers, mamba2@3 is 3 of 12: what wins here need not win whole."


def cut(name: str, layers: int, whole: int, **changes: object) -> Recipe:
    return sliced(make.block(name, whole, **changes), layers)  # type: ignore[arg-type]


def measured(*blocks: Subject) -> Run:
    """A run in which the first of these loses to the second from 8,000 tokens on."""
    asked = replace(make.scenario(contexts=tuple(2**n for n in range(9, 16))), blocks=blocks)
    laws = {one.name: ((1.0, 2.0), (8000.0, 1.0))[at % 2] for at, one in enumerate(blocks)}
    outcomes = (
        replace(one, environment=pages.MACHINE.fingerprint)
        for one in make.power_law(**laws)(make.jobs(asked))
    )
    return make.run(*outcomes, asked=asked, environments={pages.MACHINE.fingerprint: pages.MACHINE})


@pytest.fixture(scope="module")
def run() -> Run:
    return measured(cut("attention", 2, 8), cut("mamba2", 3, 12))


@pytest.fixture(scope="module")
def analysis(run: Run) -> Analysis:
    return analyze(run)


@pytest.fixture(scope="module")
def words(run: Run) -> str:
    """What a reader of the page sees without its scripts."""
    document = re.sub(r"<(script|style).*?</\1>", " ", to_html(run), flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", " ", document))


def test_the_heading_calls_a_slice_by_its_own_name(run: Run, analysis: Analysis) -> None:
    for said in verdicts_of(run, analysis).values():
        assert "attention@2" in said.sentence
        assert "mamba2@3" in said.sentence
        assert not re.search(r"transformer|Mamba-2", said.text)
        assert "lices need not rank as whole models do" in said.text


def test_the_page_introduces_each_slice_in_its_legend_and_its_data(run: Run, words: str) -> None:
    page = build(run)
    assert [one.legend for one in page.heroes[0].series] == [
        "attention@2, slice of 2 of 8 layers",
        "mamba2@3, slice of 3 of 12 layers",
    ]
    tables = [
        part.table.cells()
        for part in page.sections[-1].parts
        if isinstance(part, Listing) and "not all of them whole" in part.table.caption
    ]
    assert [[row[:2] for row in table] for table in tables] == [
        [["attention@2", "slice of 2 of 8 layers"], ["mamba2@3", "slice of 3 of 12 layers"]]
    ]
    assert words.count("attention@2, slice of 2 of 8 layers") == 1
    assert "e-mail" not in words


def test_unequal_slices_are_said_with_the_verdict_everywhere(
    run: Run, analysis: Analysis, words: str
) -> None:
    said, views = verdicts_of(run, analysis), views_of(run, analysis)
    facets = exchange.crossover(run, analysis, analysis.latencies).facets
    for hero, facet, answer in zip(build(run).heroes, facets, analysis.latencies, strict=True):
        assert hero.cards[-1].label == SAID.rstrip(".")
        assert (facet.limits[0].kind, facet.limits[0].text) == ("unequal-slices", SAID)
        assert facet.limits[0].fix
        assert answer.grade == "C"
        assert SAID in told(views[answer.key], said[answer.key])
    assert SAID in summary(run, analysis)
    assert SAID in markdown(run, analysis)
    assert SAID.rstrip(".") in words


def test_terminal_and_markdown_say_once_how_much_of_a_model_each_is(
    run: Run, analysis: Analysis
) -> None:
    for text in (summary(run, analysis), markdown(run, analysis)):
        assert text.count("slice of 2 of 8 layers") == 1
        assert text.count("slice of 3 of 12 layers") == 1


def test_json_has_the_slice_beside_each_contender() -> None:
    blocks = (cut("attention", 2, 8), make.block("mamba2"), ForeignSpec(name="f", factory="m:f"))
    run = measured(*blocks)
    analysis = analyze(run)
    text = exchange.to_json(exchange.crossover(run, analysis, analysis.latencies))
    assert json.loads(text)["contenders"] == [
        {
            "name": "attention@2", "layer_count": 2, "params": parameters(blocks[0]),
            "slice": {"of": "attention", "layers": 2, "whole": 8},
        },
        {"name": "mamba2", "layer_count": 1, "params": parameters(blocks[1]), "slice": None},
        {"name": "f", "layer_count": None, "params": None, "slice": None},
    ]  # fmt: skip
    assert msgspec.json.decode(text, type=exchange.Crossover).contenders[1].slice is None
    schema = exchange.schema()["$defs"]
    assert set(schema["Slice"]["properties"]) == {"of", "layers", "whole"}
    assert "slice" in schema["Contender"]["description"]


def test_exports_have_a_row_per_contender(run: Run, tmp_path: Path) -> None:
    EXPORTS["csv"](Source(run), tmp_path)
    with (tmp_path / "contenders.csv").open(newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    sizes = [str(parameters(block)) for block in run.scenario.blocks if isinstance(block, Recipe)]
    assert rows == [
        ("attention@2", "2", sizes[0], "attention", "2", "8"),
        ("mamba2@3", "3", sizes[1], "mamba2", "3", "12"),
    ]
    (base,) = EXPORTS["sqlite"](Source(measured(make.block("mamba2"))), tmp_path)
    with closing(sqlite3.connect(base)) as opened:
        (row,) = opened.execute("SELECT block, slice_of, slice_whole FROM contenders").fetchall()
    assert row == ("mamba2", None, None)


SAME = (cut("mamba2", 2, 8), replace(cut("mamba2", 2, 24), name="other@2"))


def test_slices_of_one_size_are_ranked_as_blocks_are() -> None:
    run = measured(*SAME)
    text = summary(run, analyze(run))
    assert "slice of 2 of 24 layers" in text
    assert "need not" not in text


def test_claims_on_models_are_not_tested_on_unequal_slices(analysis: Analysis) -> None:
    verdicts = {one.claim: (one.verdict, one.why) for one in analysis.claims}
    for claim in ("scope-short-19x", "scope-long-4x", "crossover-8k"):
        assert verdicts[claim] == ("not-testable", "this run compares unequal slices of models")
    same = {one.claim: one.verdict for one in analyze(measured(*SAME)).claims}
    assert same["crossover-8k"] == "not-testable"  # no transformer among them
    whole = {one.claim: one.verdict for one in analyze(pages.rich()).claims}
    assert whole["crossover-8k"] == "holds"


def test_a_long_label_beside_the_axes_keeps_how_much_it_is_of() -> None:
    assert short("qwen2.5-0.5b@4") == "qwen2.5-0.5b@4"
    label = short("a-model-of-a-very-long-name@12")
    assert label == "a-model-of-a…@12"
    assert len(short("a-model-of-a-very-long-name-and-no-slice")) == len(label) == 16


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit):
        main(list(words))
    return capsys.readouterr().out


def test_a_plan_says_which_contenders_are_slices(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "plan", "kernel-dominance", "--on", "h100")
    assert re.search(r"^qwen2\.5-0\.5b@4 +slice of 4 of 24 layers +\d+", text, re.MULTILINE)
    assert text.count("slice of") == 4
    rows = json.loads(printed(capsys, "plan", "kernel-dominance", "--on", "h100", "--json"))
    found = {row["block"]: row for row in rows}
    assert found["mamba2-780m@4"]["slice"] == {"of": "mamba2-780m", "layers": 4, "whole": 48}
    assert found["mamba2-780m@4"]["params"] > 10**7
    assert "what it is" not in printed(capsys, "plan", "crossover", "--on", "h100")


@pytest.mark.parametrize(
    "words",
    [
        ("models", "mamba2-780m@8"),
        ("fit", "mamba2-780m@8", "--cap", "8GiB", "--device", "cpu", "--weights-dtype", "int8"),
    ],
    ids=lambda words: words[0],
)
def test_tables_of_models_say_it_beside_the_name(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(r"^mamba2-780m@8 +slice of 8 of 48 layers ", printed(capsys, *words), re.M)
    (row,) = json.loads(printed(capsys, *words, "--json"))
    assert row["slice"] == {"of": "mamba2-780m", "layers": 8, "whole": 48}
    assert row["params"] > 10**8
    whole = printed(capsys, *(word.removesuffix("@8") for word in words))
    assert "mamba2-780m" in whole
    assert "what it is" not in whole


def test_crossover_and_decide_warn_of_unequal_slices(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write(tmp_path / "run", run)
    text = printed(capsys, "crossover", str(tmp_path / "run"))
    assert text.count("slice of 2 of 8 layers") == 1
    assert SAID in text
    with pytest.raises(SystemExit):
        main(["decide", str(tmp_path / "run"), "--mix", "1K"])
    said = capsys.readouterr()
    assert f"! {SAID}" in said.err
    assert "attention@2" in said.err


def test_memory_of_a_slice_is_not_said_of_its_model(capsys: pytest.CaptureFixture[str]) -> None:
    for options in ((), ("--law",)):
        with pytest.raises(SystemExit):
            main(["memory", "mamba2-780m@4", "--contexts", "1K", *options])
        assert "mamba2-780m@4 (slice of 4 of 48 layers)" in capsys.readouterr().err


def test_the_page_of_kernel_dominance_reads_well() -> None:
    asked = scenario.load(library.shipped()["kernel-dominance"])
    run = measured(*asked.blocks)
    (hero,) = build(run).heroes
    assert len(hero.sentence) <= 120
    assert "qwen2.5-0.5b@4" in hero.sentence
    assert [one.legend.partition(", ")[2] for one in hero.series] == [
        "slice of 4 of 24 layers", "slice of 4 of 24 layers", "slice of 4 of 48 layers",
        "slice of 4 of 48 layers",
    ]  # fmt: skip
    assert "mamba-130m@4 is 4 of 24, mamba-790m@4 is 4 of 48" in hero.cards[-1].label


@pytest.mark.parametrize("path", COMMITTED.values(), ids=lambda path: path.name)
def test_runs_without_slices_say_nothing_of_them(path: Path) -> None:
    run = folder.load(path)
    analysis = analyze(run)
    assert "slice" not in summary(run, analysis) + markdown(run, analysis)
    assert all(one.piece is None for view in views_of(run, analysis).values()
               for one in view.names.values())  # fmt: skip
