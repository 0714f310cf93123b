"""What a stranger's run calls its parts does nothing on a terminal, in a sheet or in Markdown."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from pathlib import Path

import make
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ssmprof.cli import main
from ssmprof.cli.progress import describe
from ssmprof.harmless import csv_cell, markdown_cell, one_line, terminal
from ssmprof.report.tables import Column, Table, render
from ssmprof.store import folder

HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07name",
    "\x1b]8;;http://example.org\x1b\\link\x1b]8;;\x1b\\",
    "\x9b2Jcleared",
    "\x1bPdevice control\x1b\\",
    "seen\rover",
    "a\nb\tc",
    "back\b\b\bspace",
    "\u202ereversed",
    "\x1b]no end",
    "\x1b" * 1000 + "]" * 1000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = terminal(text)
    assert all(c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") for c in shown)
    assert "\u202e" not in shown
    assert not {"\n", "\t", "\r"} & set(one_line(text))


def test_sequences_go_whole_and_plain_words_stay() -> None:
    assert terminal("\x1b[1;31mred\x1b[0m") == "red"
    assert terminal("\x1b]0;owned\x07name") == "name"
    assert terminal("320 µs · 9.3K × ≈ … 你好\n\tnext") == "320 µs · 9.3K × ≈ … 你好\n\tnext"


@given(st.text(), st.text())
def test_cleaning_twice_changes_nothing_and_joins_hold_no_sequence(left: str, right: str) -> None:
    once = terminal(left + "\x1b" + right)
    assert terminal(once) == once
    assert "\x1b" not in once


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "\x1b[m=1"],
)
def test_a_formula_becomes_text(text: str) -> None:
    assert csv_cell(text).startswith("'")


@pytest.mark.parametrize("value", [-3, 1.5, None, "-3.5", "+1e-9", "-12.5 %", "mamba2", "–", ""])
def test_numbers_and_plain_words_stay_as_they_are(value: object) -> None:
    assert csv_cell(value) == value


def test_a_cell_of_markdown_stays_a_cell() -> None:
    assert markdown_cell("a|b") == r"a\|b"
    assert markdown_cell("x`y\n| z") == r"x\`y \| z"
    assert markdown_cell("![i](http://e.org/?x)") == r"![i\](http://e.org/?x)"
    assert markdown_cell("<img src=x>") == r"\<img src=x>"
    assert markdown_cell(r"\|") == r"\\\|"
    assert markdown_cell("9.1K [8.9K, 9.3K]") == "9.1K [8.9K, 9.3K]"


@pytest.mark.parametrize("text", [*HOSTILE, "=1+1", "a|b", "x\n| injected | row |"])
def test_every_form_of_a_table_is_harmless_in_cells_and_headings(text: str) -> None:
    table = Table(text, (Column("k", text), Column(text, "other")), ({"k": text, text: text},))
    shown = render(table, "text")
    assert shown == terminal(shown)
    assert shown.count("\n") == 2
    markdown = render(table, "md")
    assert markdown.count("\n") == 3
    assert markdown == terminal(markdown)
    cells = [cell for row in csv.reader(io.StringIO(render(table, "csv"))) for cell in row]
    assert len(cells) == 4
    assert not any(cell[:1] in ("=", "+", "-", "@", "\t", "\r") for cell in cells)
    for form in ("json", "jsonl"):
        written = render(table, form)  # type: ignore[arg-type]
        assert written == terminal(written)
        rows = json.loads(written)
        assert (rows[0] if form == "json" else rows)["k"] == text


def test_a_line_of_progress_is_one_line_of_plain_text() -> None:
    point = replace(make.point(), block="\x1b[2Jevil\nname")
    for text in ("\x1b]0;x\x07why\nmore", ""):
        line = describe(replace(make.failure(), point=point, detail=text))
        assert line == one_line(line)
    assert "\x1b" not in describe(replace(make.measurement(), point=point))


def test_errors_and_tables_of_a_hostile_run_are_plain_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = make.scenario("attention", contexts=(512,))
    evil = replace(make.measurement("attention", 512), attribution=make.attribution())
    kernels = tuple(replace(k, kernel="\x1b[31m=1|x\n") for k in evil.attribution.kernels)
    evil = replace(evil, attribution=replace(evil.attribution, kernels=kernels))
    folder.write(tmp_path / "run", make.run(evil, asked=asked))
    for words in (["kernels", "run"], ["kernels", "run", "--csv"], ["kernels", "\x1b[31mnone"]):
        with pytest.raises(SystemExit):
            main(words)
        said = capsys.readouterr()
        assert "\x1b" not in said.out + said.err
        assert "Traceback" not in said.err


@pytest.mark.parametrize("form", ["csv", "markdown", "chrome-trace", "speedscope", "openmetrics"])
def test_every_export_of_text_is_plain(form: str, tmp_path: Path) -> None:
    from ssmprof.report.export import EXPORTS, Source

    evil = "\x1b[31m=1+1\n| x | `y`\u202e"
    asked = make.scenario("attention", "mamba2", contexts=(512, 8192))
    laws = make.power_law(attention=(1.0, 2.0), mamba2=(8000.0, 1.0))
    outcomes = [
        replace(
            one,
            point=replace(one.point, block=f"{evil}{one.point.block}"),
            attribution=make.attribution(one.time_s),
        )
        for one in laws(make.jobs(asked))
    ]
    blocks = tuple(replace(block, name=f"{evil}{block.name}") for block in asked.blocks)
    asked = replace(asked, name=evil, question=evil, blocks=blocks)
    for file in EXPORTS[form](Source(make.run(*outcomes, asked=asked)), tmp_path):
        text = file.read_text("utf-8")
        assert text == terminal(text)
        if form == "markdown":
            assert "\n| x |" not in text
        if form == "csv":
            cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
            assert not any(cell.startswith(("=", "+", "@")) for cell in cells)
