"""Tables on terminals of 40, 80 and 160 columns, as they were looked at: `tests/cli/screens`.

After a change that is meant run this file with SSMPROF_TEST_SCREENS=write, then look at the
difference.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from runs import written

from ssmprof.cli import main
from ssmprof.report.tables import Column, Table, render, width
from ssmprof.report.terminal import laid_out, wrapped

SCREENS = Path(__file__).parent / "screens"
ASKED = {
    "kernels": "kernels RUN --context 2,900",
    "crossover": "crossover RUN --pairs",
    "decide": "decide RUN --mix 1K:70%,32K:30%",
    "plan": "plan crossover --on h100",
    "scenarios": "scenarios",
    "memory": "memory mamba2-130m --contexts 1K-64K*8 --cap 8GiB",
    "capacity": "serving capacity nemotron-h-8b --pool 40GiB --engine vllm",
}


def shown(
    columns: int,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(SystemExit):
        main(words)
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [40, 80, 160])
@pytest.mark.parametrize("name", ASKED)
def test_a_screen_shows_what_was_looked_at(
    name: str,
    columns: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = written(tmp_path / "one")
    words = [str(run) if word == "RUN" else word for word in ASKED[name].split()]
    found = shown(columns, words, capsys, monkeypatch)
    assert max(map(width, found.splitlines())) <= columns
    file = SCREENS / f"{name}-{columns}.txt"
    if os.environ.get("SSMPROF_TEST_SCREENS") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_text(found, encoding="utf-8")
    assert found == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_every_value_is_on_the_screen(columns: int) -> None:
    heads = (
        Column("a", "contender"),
        *(Column(f"n{at}", f"{at}K", numeric=True) for at in range(20)),
    )
    rows = tuple(
        {"a": f"mamba{at}"} | {f"n{n}": n * 1000 + at for n in range(20)} for at in range(3)
    )
    found = laid_out(Table("Times", heads, rows), columns)
    assert max(map(width, found.splitlines())) <= columns
    values = {str(value) for row in rows for value in row.values()}
    assert values <= set(found.split())


@pytest.mark.parametrize("columns", range(28, 48))
def test_numbers_beside_a_column_of_words_are_whole(columns: int) -> None:
    heads = (
        Column("a", "contender"),
        Column("words", "would not fit"),
        Column("time_s", "est. time", numeric=True),
    )
    rows = tuple({"a": f"mamba{at}", "words": "0", "time_s": f"1{at}m 15s"} for at in range(3))
    found = laid_out(Table("Plan", heads, rows), columns)
    assert max(map(width, found.splitlines())) <= columns
    assert {"would", "not", "fit", "est.", "time", "10m", "12m", "15s"} <= set(found.split())


def test_rows_that_the_first_column_does_not_tell_apart_stand_by_themselves() -> None:
    heads = (Column("a", "model"), *(Column(f"n{at}", f"number {at}") for at in range(9)))
    rows = tuple({"a": "same"} | {f"n{n}": "x" * 12 for n in range(9)} for _ in range(2))
    first, second = laid_out(Table("", heads, rows), 40).split("\n\n")
    assert first.splitlines() == second.splitlines()
    assert first.splitlines()[0].split() == ["model", "same"]


def test_a_pipe_gets_the_table_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = written(tmp_path / "one")
    with pytest.raises(SystemExit):
        main(["crossover", str(run), "--pairs"])
    said = capsys.readouterr().out
    assert max(map(width, said.splitlines())) > 80


def test_nothing_of_a_strangers_name_reaches_the_terminal() -> None:
    table = Table("", (Column("a", "a"),), ({"a": "x\x1b[31my [bold]z[/bold]\n"},))
    for columns in (20, 80):
        assert laid_out(table, columns).split("\n")[1] == "xy [bold]z[/bold]"
    assert render(table, "text", 80) == laid_out(table, 80)


def test_prose_keeps_its_indent() -> None:
    assert wrapped("  one two three", 9) == "  one two\n  three\n"
