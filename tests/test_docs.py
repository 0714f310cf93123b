"""What is documented exists, and what exists is documented."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from click.testing import CliRunner

from ssmprof.cli import MODULES, LazyGroup, cli
from ssmprof.planning import library, scenario
from ssmprof.planning.expand import expand

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


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
