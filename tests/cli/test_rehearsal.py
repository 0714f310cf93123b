"""Errors of a user's own code are told before anything is started or measured."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssmprof.cli import main
from ssmprof.models.build.rehearse import rehearse
from ssmprof.spec import ForeignSpec

CODE = """
import torch
from torch import nn

def make():
    return nn.Sequential(nn.Linear(256, 256), nn.ReLU())

def boom():
    print("on stdout")
    raise ValueError("my own bug")

def none():
    return 3

class Wrong(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(256, 256)
    def forward(self, x):
        return self.linear(x).view(7, 7)

def wrong():
    return Wrong()

class Peeks(nn.Module):
    def forward(self, x):
        return x * (x.sum().item() > 0)

def peeks():
    return Peeks()

def typo():
    return nn.Linaer(1, 1)
"""
SHAPE = ("batch", "length", 256)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mymodule.py").write_text(CODE)
    (tmp_path / "missing.py").write_text("import nosuchpackage\ndef make():\n    pass\n")
    monkeypatch.chdir(tmp_path)


def spec(function: str, shape: tuple = SHAPE) -> ForeignSpec:
    return ForeignSpec(name=function, factory=f"mymodule:{function}", input=shape or None)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("boom", "ValueError: my own bug"),
        ("none", "returned int, expected a torch.nn.Module"),
        ("wrong", "RuntimeError: shape '[7, 7]' is invalid"),
        ("typo", "AttributeError: module 'torch.nn' has no attribute 'Linaer'"),
    ],
)
def test_what_is_wrong_is_told(function: str, said: str) -> None:
    found = rehearse(spec(function), 64)
    assert found is not None
    assert said in found[0]


def test_a_module_that_is_fed_wrongly_is_told_how() -> None:
    found = rehearse(spec("make", ()), 64)
    assert found is not None
    assert "takes no token ids" in found[0]
    assert found[1] is not None
    assert "--input 1x{L}x256" in found[1]


@pytest.mark.parametrize("function", ["make", "peeks"])
def test_what_is_right_or_cannot_be_known_is_left_to_measuring(function: str) -> None:
    assert rehearse(spec(function), 64) is None


def test_a_rehearsal_imports_torch_and_little_else(tmp_path: Path) -> None:
    """Seconds are spent in imports: those that only measuring needs are not made."""
    script = (
        "import sys; sys.argv = ['x', sys.argv[1], '8']\n"
        "from ssmprof.models.build.rehearse import main; main()\n"
        "print('HEAVY', *(n for n in ('torch._dynamo', 'sympy', 'triton', 'matplotlib', 'pandas')"
        " if n in sys.modules))"
    )
    text = '{"type":"foreign","name":"m","factory":"mymodule:make","input":["batch","length",256]}'
    done = subprocess.run(
        [sys.executable, "-c", script, text], capture_output=True, text=True, check=True,
        env=os.environ, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.strip().split("\n")[-1].strip() == "HEAVY"


def test_the_command_says_it_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (("trace", "mymodule:boom"), "error: mymodule:boom: ValueError: my own bug"),
        (("trace", "missing:make"), "missing.py imports nosuchpackage, which is not installed"),
    ):
        with pytest.raises(SystemExit) as end:
            main(list(words))
        assert end.value.code == 2
        assert said in capsys.readouterr().err
