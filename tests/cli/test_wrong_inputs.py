"""What people type wrongly: each gets one message, with what to try, and the exit code of usage."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from runs import written

from ssmprof.cli import main

BLOCK = '[[blocks]]\npreset = "mamba2-130m"\n'
FILES = {
    "page.html": "<p>no data</p>",
    "there.toml": "",
    "mine.py": "def make():\n    return None\n",
    "torn.py": "def make(:\n",
    "wrong.toml": f'[sweep]\ncontxts = "512"\n{BLOCK}',
    "negative.toml": f"[sweep]\ncontexts = [-512]\n{BLOCK}",
    "empty.toml": "",
    "broken.toml": "[sweep\n",
    "words.txt": "nothing\n",
}
# What is typed (RUN is a run folder) -> what the message holds: what is wrong, then what to try.
WRONG: dict[str, tuple[str, ...]] = {
    # commands, by spelling and by meaning
    "swep": ('no command is named "swep"', 'did you mean "sweep"?'),
    "run quickstart": ('no command is named "run"', "try:   ssmprof sweep"),
    "bench": ("ssmprof sweep",),
    "diff RUN RUN": ("ssmprof compare",),
    "html RUN": ("ssmprof report",),
    "estimate crossover": ("ssmprof plan",),
    "gpu": ("ssmprof devices",),
    "check": ("ssmprof doctor",),
    "xyzzy": ('no command is named "xyzzy"', "ssmprof --help"),
    # options, by spelling and by meaning
    "sweep quickstart --gpu": ('ssmprof sweep has no option "--gpu"', "--device cuda"),
    "sweep quickstart --contxts 512": ('did you mean "--contexts"?',),
    "plan quickstart --seqlen 512": ("try:   --contexts",),
    "plan quickstart --bs 4": ("try:   --batch",),
    "plan quickstart --batch 0": ('"0" is not a whole, positive number of sequences',),
    "sweep quickstart --timeout 20m": ("try:   --time-budget",),
    "fit mamba2-130m --vram 8GiB": ("try:   --cap",),
    "sweep quickstart --quiet": ("ssmprof --quiet sweep", "stands before the command"),
    "kernels RUN --seqlen 3000": ("try:   --context",),
    # units
    "fit mamba2-130m --cap 8": ('--cap: "8" is not a size, it lacks a unit', "8GiB or 8MiB"),
    "memory mamba2-130m --cap lots": ('"lots" is not a size', "8GiB or 500MB"),
    "sweep quickstart --cap 8XB": ('"8XB" is not a size',),
    "sweep quickstart --time-budget 20": ("it lacks a unit", "20s, 20m or 20ms"),
    "sweep quickstart --time-budget soon": ('"soon" is not a duration', "90s, 20m or 500ms"),
    "decide RUN --mix 1K --ttft 500": ("--ttft", "500s, 500m or 500ms"),
    "decide RUN --mix 1K --memory 8": ("--memory", "8GiB or 8MiB"),
    "serving capacity mamba2-130m --pool 40": ("--pool", "40GiB or 40MiB"),
    "serving reuse sessions=2 --model mamba2-130m --pool 1GiB --sizes 8": ("--sizes", "8GiB"),
    # lengths
    "plan quickstart --contexts -5": ('"-5" is not a number', "512, 3,000, 8K or 1M"),
    "plan quickstart --contexts 8K-1K*2": ("runs backwards",),
    "plan quickstart --contexts 12Q": ("is not a number of tokens", "512, 3,000, 8K or 1M"),
    "plan quickstart --contexts 2.93K": ("is not a whole, positive number of tokens",),
    "kernels RUN --context many": ('--context: "many"', "3,000"),
    "trace RUN --context 0": ("--context",),
    "fit mamba2-130m --step no": ("--step",),
    "project RUN --contexts 1G": ("--contexts",),
    # values that are none of a few
    "plan quickstart --phase prefil": ("--phase", 'did you mean "prefill"?'),
    "kernels RUN --phase prefil": ('"prefil" is none of prefill, decode', "did you mean"),
    "crossover RUN --metric speed": ('--metric: "speed" is none of latency',),
    "sweep quickstart --device tpu": ('--device: "tpu" is none of any, cuda, cpu',),
    "sweep quickstart --rounds 0": ("--rounds", "ssmprof sweep --help"),
    "kernels RUN --top none": ("--top",),
    "completion tcsh": ('"tcsh" is none of bash, zsh, fish',),
    # scenarios, models, files
    "sweep": ("name a scenario or models", "ssmprof sweep --help"),
    "sweep quickstart crossover": ("quickstart and crossover are scenarios", "sweep quickstart"),
    "sweep quickstart mamba2-130m": ("quickstart is a scenario", "mamba2-130m cannot join it"),
    "sweep crosover": ('did you mean "crossover"?', "ssmprof scenarios"),
    "plan mamba2-13m llama-3.2-1b": ('did you mean "mamba2-130m"?',),
    "plan mamba2": ("did you mean one of", "mamba2-130m"),
    "sweep transformer": ('"transformer" is a family', "ssmprof models --family transformer"),
    "sweep hybrid mamba2-130m": ("ssmprof models --family hybrid",),
    "sweep nowhere.toml": ("nowhere.toml",),
    "plan wrong.toml": ("wrong.toml: sweep.contxts: unknown key", "did you mean"),
    "plan negative.toml": ("negative.toml: sweep.contexts",),
    "plan empty.toml": ("empty.toml",),
    "plan broken.toml": ("broken.toml",),
    "plan crossover --on h1000": ("--on",),
    "plan crossover --on h100 --device cpu": ("--device and --on both say where",),
    "scenarios quickstrt": ('did you mean "quickstart"?',),
    "models mamba2-13m": ('did you mean "mamba2-130m"?',),
    "models --device cpu": ("--device says where named models would run",),
    "new there.toml": ("there.toml: already there", "--force replaces it"),
    # runs
    "report no/such/run": ("no/such/run: no such run folder", "ssmprof sweep quickstart"),
    "report page.html": ("page.html",),
    "crossover words.txt": ("words.txt",),
    "compare RUN": ("RUN is missing", "ssmprof compare --help"),
    "compare RUN RUN --gate much": ('--gate: "much" is not a share', "--gate 5%"),
    "compare nowhere RUN --gate 0": ("--gate", "--gate 5%"),  # before anything is loaded
    "kernels RUN --model mamba3": ('did you mean "mamba2"?',),
    "crossover RUN --metric energy": ("this run has no such answer", "cause:"),
    "decide RUN": ("--mix is missing",),
    "decide nowhere --mix 4K:lots": ("--mix", "4K:70%,32K:30%"),  # before anything is loaded
    "decide RUN --mix 1K:70%,4K:20%": ("the mix adds up to 90 %, not 100 %",),
    "decide RUN --mix 1M": ("1M tokens were not measured", "cause:"),
    "project RUN": ("name either --contexts or --anchor", "--contexts 1M"),
    "export RUN --to cvs": ('did you mean "csv"?',),
    "export RUN": ("--to is missing",),
    "import ssm-scop -o x": ('did you mean "ssm-scope"?',),
    "schema measurment": ('did you mean "measurement"?',),
    "help exit-code": ('did you mean "exit-codes"?',),
    "config show swep": ('did you mean "sweep"?',),
    # options that need each other
    "sweep quickstart --rerun-noisy": ("--rerun-noisy goes with --resume RUN",),
    "sweep quickstart --until-decided": ("--until-decided goes with --resume RUN",),
    "sweep quickstart --resume RUN": ("--resume",),
    "sweep --resume RUN --contexts 512": ("--contexts does not go with --resume",),
    "sweep --resume RUN --energy": ("--energy does not go with --resume",),
    "memory RUN --cap 8GiB": ("--cap goes with a MODEL",),
    "memory --law llama-3.2-1b --batch 4": ("--batch does not go with --law",),
    "memory --law": ("--law needs a model",),
    "trace RUN --input 1x{L}x256": ("--input goes with a MODEL",),
    "trace mamba2-130m --input 1x{L}x256": ("--input goes with module:factory",),
    "trace mine.py:make --model a": ("chooses a contender of a RUN",),
    "scenarios quickstart --json": ("--json goes with the list",),
    "crossover RUN --json --pairs": ("--pairs chooses tables",),
    "doctor --folder x": ("--folder goes with --accuracy",),
    "serving capacity mamba2-130m": ("give one of --pool and --memory", "--pool 40GiB"),
    "serving capacity mamba2-130m --pool 1GiB --utilization 0.5": ("is a share of --memory",),
    # code of one's own
    "trace mine:mak": ("mine has no function mak", 'did you mean "make"?'),
    "trace mien:make": ("no module is named mien", "module:function or FILE.py:function"),
    "trace nothing.py:make": ("nothing.py: no such file",),
    "trace torn.py:make": ("torn.py cannot be read as Python",),
    "trace mine:make --input 1x256": ("is not a shape with a length", "1x{L}x256"),
    # output, before anything is loaded
    "crossover RUN -o /no/such/folder/x": ("cannot be written: no such folder", "mkdir -p"),
    "kernels nowhere --csv -o .": ("cannot be written: it is a folder",),
}


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def ssmprof(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[object]:
    """Run a command in a folder with the files above: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)

    def run(*arguments: str) -> Said:
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        return Said(int(end.value.code or 0), *capsys.readouterr())

    return run  # type: ignore[return-value]


def test_there_are_sixty_of_them() -> None:
    assert len(WRONG) >= 60


@pytest.mark.parametrize("typed", WRONG)
def test_one_message_says_what_is_wrong_and_what_to_try(
    ssmprof, tmp_path: Path, typed: str
) -> None:
    run = written(tmp_path / "one")
    words = [str(run) if word == "RUN" else word for word in shlex.split(typed)]
    said = ssmprof(*words)
    assert said.code == 2, said.err
    for words in WRONG[typed]:
        assert words in said.err
    assert said.out == ""
    lines = said.err.splitlines()
    begun = [line[:8] for line in lines if line.startswith(("error: ", "  try:   "))]
    assert begun[0][:6] == "error:"
    assert begun[1:] == ["  try:  "]
    assert "Traceback" not in said.err
    assert not (tmp_path / "reports").exists()
