"""Code that a folder or a settings file names runs only where this command line names it, too."""

from __future__ import annotations

from pathlib import Path

import make
import pytest
from msgspec.structs import replace

from ssmprof.cli import main
from ssmprof.spec import ForeignSpec
from ssmprof.store import folder

EVIL = """
from pathlib import Path
Path({marker!r}).write_text("ran")
from torch import nn
def tiny():
    return nn.Embedding(16, 8)
"""


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run folder `run` whose contender is code; returns its factory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "evil.py").write_text(EVIL.format(marker=str(tmp_path / "ran")))
    factory = f"{tmp_path / 'evil.py'}:tiny"
    asked = make.scenario("attention", contexts=(8,))
    block = ForeignSpec(name="nice", factory=factory)
    asked = replace(asked, blocks=(block,), device="cpu", budget=replace(make.QUICK, rounds=1))
    folder.create(tmp_path / "run", asked).close()
    return factory


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    found = capsys.readouterr()
    return int(end.value.code or 0), found.out + found.err


def test_a_resumed_run_does_not_bring_its_own_code(
    stranger: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(capsys, "sweep", "--resume", "run", "--no-doctor")
    assert code == 2
    assert stranger in text
    assert f"ssmprof sweep --resume run {stranger}" in text
    assert not Path("ran").exists()


def test_code_that_is_named_again_runs(stranger: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, text = said(capsys, "sweep", "--resume", "run", stranger, "--no-doctor")
    assert Path("ran").exists(), text
    assert [one.point.block for one in folder.load(Path("run")).measurements()] == ["nice"], text


def test_a_name_that_the_run_does_not_hold_is_wrong_use(
    stranger: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(capsys, "sweep", "--resume", "run", stranger, "other:thing")
    assert code == 2
    assert "--resume" in text
    assert not Path("ran").exists()


@pytest.mark.parametrize("command", ["sweep", "trace", "plan"])
def test_a_settings_file_names_no_code(
    stranger: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    many = "" if command == "trace" else "[]"
    value = f'"{stranger}"' if not many else f'["{stranger}"]'
    Path("ssmprof.toml").write_text(f"[{command}]\nwhat = {value}\n")
    code, text = said(capsys, command)
    assert code == 2, text
    assert "the command line names it" in text
    assert not Path("ran").exists()
