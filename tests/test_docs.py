"""What is documented exists, and what exists is documented."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from click.testing import CliRunner

from ssmprof.analysis import analyze
from ssmprof.cli import MODULES, LazyGroup, cli
from ssmprof.planning import library, scenario
from ssmprof.planning.expand import expand
from ssmprof.report.text import summary
from ssmprof.store.folder import load

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RUN = ROOT / "reports" / "2026-11-22-crossover-h100-80gb-hbm3"  # which the README shows


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_command_has_help_with_an_example(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert isinstance(cli, LazyGroup)
    command = cli.get_command(None, name)  # type: ignore[arg-type]
    assert command.help
    assert "Example" in command.help or name in ("help",)
    for option in command.params:
        assert option.name


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_command_has_a_line_in_the_readme(name: str) -> None:
    if not README.is_file():
        pytest.skip("no README in this installation")
    assert f"ssmprof {name}" in README.read_text(encoding="utf-8")


def _transcript() -> dict[str, list[str]]:
    """Command line -> what the README says it prints."""
    text = README.read_text(encoding="utf-8") if README.is_file() else ""
    found: dict[str, list[str]] = {}
    for part in text.partition("```\n$ ")[2].partition("```")[0].split("\n$ "):
        line, *printed = part.splitlines()
        found[line] = [one for one in printed if one]
    return found


@pytest.mark.parametrize("command", ["plan", "sweep", "crossover", "kernels", "report"])
def test_the_readme_shows_what_its_run_and_commands_print(command: str, tmp_path: Path) -> None:
    if not README.is_file():
        pytest.skip("no README in this installation")
    (line,) = (one for one in _transcript() if one.startswith(f"ssmprof {command}"))
    words = line.split()[1:]
    if command == "sweep":
        run = load(RUN)
        printed = summary(run, analyze(run))
    else:
        words[1:1] = [str(RUN)] * (command != "plan")
        words += ["-o", str(tmp_path / "page.html")] * (command == "report")
        printed = CliRunner().invoke(cli, words).output
    missing = [one for one in _transcript()[line] if one not in printed.splitlines()]
    assert missing == ([f"{RUN.relative_to(ROOT)}/report.html"] if command == "report" else [])


@pytest.mark.parametrize("name", sorted(library.shipped()))
def test_every_shipped_scenario_loads_and_expands(name: str) -> None:
    found = scenario.load(library.shipped()[name])
    assert found.name == name
    assert found.question
    for kind in ("cuda", "cpu"):
        assert expand(found, device=kind)  # type: ignore[arg-type]


def test_every_module_says_what_it_is_for() -> None:
    for path in sorted((ROOT / "ssmprof").rglob("*.py")):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
