"""What is documented exists, prints what it is said to print, and what exists is documented."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path

import click
import generate
import pytest
import transcripts
from click.testing import CliRunner
from transcripts import PAGES, ROOT

from ssmprof.cli import MODULES, LazyGroup, cli
from ssmprof.planning import library, scenario
from ssmprof.planning.expand import expand

_TARGETS = re.compile(r"^([a-z-]+):", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


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


def _page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_console_blocks_print_what_they_show(page: Path) -> None:
    with transcripts.folder():
        for body in transcripts.blocks(page, "console"):
            for command, shown in transcripts.commands(body):
                shown = "\n".join(shown).rstrip().splitlines()
                said = transcripts.printed(command)
                assert transcripts.agrees(said, shown), f"{command}\n" + "\n".join(said)


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_python_blocks_run(page: Path) -> None:
    with transcripts.folder():
        for body in transcripts.blocks(page, "python"):
            exec(compile(body, str(page), "exec"), {"__name__": "block"})


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_toml_blocks_are_scenarios_settings_or_fleets(page: Path, tmp_path: Path) -> None:
    for body in transcripts.blocks(page, "toml"):
        if "[[blocks]]" in body:
            found = scenario.parse(body, "block.toml")
            assert expand(found, device="cuda")
            continue
        file = tmp_path / "ssmprof.toml"
        file.write_text(body, encoding="utf-8")
        if body.startswith("kind = "):
            from ssmprof.session.executors.fleet import asked

            assert asked.read(str(file)).label()
            continue
        result = CliRunner().invoke(cli, ["--config", str(file), "config", "show"])
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_shell_blocks_name_what_exists(page: Path) -> None:
    targets = _TARGETS.findall((ROOT / "Makefile").read_text(encoding="utf-8"))
    for body in transcripts.blocks(page, "sh"):
        for line in body.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["make"]:
                assert words[1] in targets, line
            elif words[:1] == ["uvx"]:
                words = words[words.index("ssmprof", 1) :]
            if words[:1] == ["ssmprof"]:
                _parses(words[1:])


def _parses(words: list[str]) -> None:
    """A command line's words and options exist, without running it."""
    with click.Context(cli, info_name="ssmprof") as top:
        words = [word for word in words if word not in ("--exit-zero", "-q")]
        command = cli.get_command(top, words[0])
        assert command is not None, words
        command.make_context(words[0], words[1:], parent=top).close()


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in _LINK.findall(text):
        target, _, anchor = link.partition("#")
        if link.startswith(("http:", "https:")):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), link
        if anchor:
            assert anchor in _anchors(file), link


def _anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and Sphinx make them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_docstrings_cite_pages_that_are_there() -> None:
    cited = {
        name
        for path in (ROOT / "ssmprof").rglob("*.py")
        for name in re.findall(r"docs/[\w/-]+\.md", path.read_text(encoding="utf-8"))
    }
    assert cited
    assert [name for name in cited if not (ROOT / name).is_file()] == []


def test_generated_pages_are_what_the_code_says_today() -> None:
    stale = [
        name
        for name, text in generate.pages().items()
        if (ROOT / name).read_text(encoding="utf-8") != text
    ]
    assert not stale, "make docs"


def test_the_documents_state_the_install_sizes_that_were_measured() -> None:
    found = json.loads((ROOT / "reports/install/install.json").read_text(encoding="utf-8"))
    text = (ROOT / "docs/guide/install.md").read_text(encoding="utf-8")
    assert f"{found['without_torch_mb']} MB" in text
    assert f"{found['with_cpu_torch_mb'] / 1000:.1f} GB" in text


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


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
