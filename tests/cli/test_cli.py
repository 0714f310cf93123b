"""The command line: data on stdout, one clear message for wrong use, the table of exit codes."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import make
import pytest
from msgspec.structs import replace
from runs import CHECKED, virtual

from ssmprof.cli import main
from ssmprof.store import folder, schema

ROOT = Path(__file__).parents[2]


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def ssmprof(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[object]:
    """Run a command in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(*arguments: object) -> Said:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        return Said(int(end.value.code or 0), *capsys.readouterr())

    return run  # type: ignore[return-value]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "reports" / "one"
    folder.write(path, virtual(created_unix_s=1e9))
    return path


QUESTIONS = [
    ["crossover"],
    ["kernels"],
    ["claims"],
    ["advise"],
    ["memory"],
    ["decide", "--mix", "1K:70%,4K:30%"],
    ["project", "--contexts", "128K"],
]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda words: words[0])
@pytest.mark.parametrize("form", ["--json", "--jsonl", "--csv", "--md", ""])
def test_stdout_is_pure_data_in_every_format(
    ssmprof, run: Path, question: list[str], form: str
) -> None:
    name, *options = question
    said = ssmprof(name, run, *options, *([form] if form else []))
    assert said.code == 0, said.err
    if form == "--json":
        found = json.loads(said.out)
        assert found["format"] == 1 if name == "crossover" else isinstance(found, list)
    elif form == "--jsonl":
        assert all(isinstance(json.loads(line), dict) for line in said.out.splitlines())
    elif form == "--csv":
        widths = {len(row) for row in csv.reader(io.StringIO(said.out))}
        assert len(widths) <= 1
    elif form == "--md" and said.out:
        assert all(line.startswith("|") for line in said.out.splitlines())
    assert "\x1b[" not in said.out


def test_crossover_finds_what_algebra_says(ssmprof, run: Path) -> None:
    said = ssmprof("crossover", run, "--json")
    facet = json.loads(said.out)["facets"][0]
    (crossing,) = facet["crossings"]
    assert (crossing["before"], crossing["after"], crossing["kind"]) == (
        "attention", "mamba2", "zone",
    )  # fmt: skip
    assert crossing["low_tokens"] <= 8800 <= crossing["high_tokens"]
    assert facet["verdict"].startswith("Use the transformer below")
    schema = json.loads(ssmprof("schema", "crossover").out)
    required = schema["$defs"]["Facet"]["required"]
    assert set(required) <= set(facet)
    told = ssmprof("crossover", run).out
    assert facet["verdict"] in told.splitlines()[0]
    assert "attention → mamba2" in told


def test_pairs_and_dominance_are_shown_where_they_are_asked_for(ssmprof, run: Path) -> None:
    assert "Pairs by themselves" not in ssmprof("crossover", run).out
    assert "Pairs by themselves" in ssmprof("crossover", run, "--pairs").out
    said = ssmprof("crossover", run, "--dominance", "--jsonl")
    assert said.code == 0
    assert all("peak_share" in json.loads(line) for line in said.out.splitlines())


def test_of_many_contenders_each_is_held_against_the_transformer(ssmprof, tmp_path: Path) -> None:
    laws = {"attention": (1, 2.0), "slow": (1e6, 1.0), "fast": (100, 1.0), "mamba2": (2900, 1.0)}
    few = make.measured(make.scenario(*laws), make.power_law(**laws))
    laws |= {"same": (1, 2.0)}
    many = make.measured(make.scenario(*laws), make.power_law(**laws))
    for name, run in (("few", few), ("many", many)):
        outcomes = tuple(replace(one, environment=CHECKED.fingerprint) for one in run.outcomes)
        machines = {CHECKED.fingerprint: CHECKED}
        folder.write(tmp_path / name, replace(run, outcomes=outcomes, environments=machines))
    caption = "Each against attention: from which length it is ahead"
    assert caption not in ssmprof("crossover", tmp_path / "few").out
    told = ssmprof("crossover", tmp_path / "many").out.splitlines()
    at = told.index(caption)
    assert [line.split() for line in told[at + 1 : at + 6]] == [
        ["contender", "prefill", "b1", "eager"],
        ["slow", "nowhere"],
        ["fast", "throughout"],
        ["mamba2", "2K-4K"],
        ["same", "equal"],
    ]
    assert "Each against" not in ssmprof("crossover", tmp_path / "many", "--pairs").out
    _, below = ssmprof("crossover", tmp_path / "many", "--md").out.split(f"\n{caption}\n\n")
    assert below.splitlines()[-2:] == ["| mamba2 | 2K-4K |", "| same | equal |"]
    for form in ("--csv", "--jsonl"):
        assert "throughout" not in ssmprof("crossover", tmp_path / "many", form).out


def test_a_question_that_the_run_cannot_answer_says_what_it_holds(ssmprof, run: Path) -> None:
    said = ssmprof("crossover", run, "--metric", "energy")
    assert said.code == 2
    assert "this run has no such answer" in said.err
    assert "latency of prefill, batch 1" in said.err


def test_without_a_run_the_latest_one_is_taken_and_named(ssmprof, run: Path) -> None:
    folder.write(run.parent / "two", virtual(created_unix_s=2e9))
    said = ssmprof("crossover")
    assert said.code == 0
    assert "reports/two" in said.err.replace("\\", "/")


def test_output_goes_to_a_file_and_is_named_on_stderr(ssmprof, run: Path, tmp_path: Path) -> None:
    said = ssmprof("crossover", run, "--csv", "-o", tmp_path / "found.csv")
    assert said.out == ""
    assert "found.csv" in said.err
    assert (tmp_path / "found.csv").read_text().startswith("crossing,")


def test_report_writes_a_page_into_the_run_and_prints_its_path(ssmprof, run: Path) -> None:
    said = ssmprof("report", run)
    assert said.code == 0, said.err
    assert said.out.strip() == str(run / "report.html")
    assert "<h1" in (run / "report.html").read_text()


def test_a_run_nobody_checked_gives_no_verdict(ssmprof, tmp_path: Path) -> None:
    machine = make.ENVIRONMENT
    bare = virtual()
    outcomes = tuple(replace(one, environment=machine.fingerprint) for one in bare.measurements())
    folder.write(
        tmp_path / "bare",
        replace(bare, outcomes=outcomes, environments={machine.fingerprint: machine}),
    )
    said = ssmprof("crossover", tmp_path / "bare")
    assert said.code == 5
    assert "No verdict" in said.out
    assert ssmprof("--exit-zero", "crossover", tmp_path / "bare").code == 0


def test_export_writes_what_was_asked_and_nothing_over_it(ssmprof, run: Path) -> None:
    forms = "csv,jsonl,markdown,figures,chrome-trace,speedscope,sqlite,openmetrics"
    said = ssmprof("export", run, "--to", forms, "-o", "out")
    assert said.code == 0, said.err
    files = [Path(line) for line in said.out.splitlines()]
    assert all(file.stat().st_size for file in files)
    trace = json.loads(Path("out/trace.json").read_text())
    assert {event["ph"] for event in trace["traceEvents"]} == {"X", "M"}
    assert "speedscope.app" in said.err
    assert Path("out/metrics.txt").read_text().endswith("# EOF\n")
    assert ssmprof("export", run, "--to", "csv", "-o", "out").code == 2


def test_compare_gates(ssmprof, run: Path, tmp_path: Path) -> None:
    slow = virtual()
    slower = tuple(
        replace(one, times_s=tuple(time * 1.2 for time in one.times_s))
        for one in slow.measurements()
    )
    folder.write(tmp_path / "slow", replace(slow, outcomes=slower))
    assert ssmprof("compare", run, run).code == 0
    assert "0 slower" in ssmprof("compare", run, run).out
    said = ssmprof("compare", run, tmp_path / "slow", "--gate", "5%", "--json")
    assert said.code == 1
    assert {row["verdict"] for row in json.loads(said.out)} == {"slower"}


def test_a_gate_fails_on_what_it_cannot_see_unless_it_is_told_otherwise(
    ssmprof, run: Path, tmp_path: Path
) -> None:
    folder.write(tmp_path / "once", virtual(rounds=1))
    said = ssmprof("compare", run, tmp_path / "once")
    assert "could not see 14 points: 14 ambiguous, 0 missing" in said.out
    assert said.code == 1
    assert ssmprof("compare", run, tmp_path / "once", "--allow-ambiguous").code == 0
    short = virtual()
    kept = tuple(one for one in short.outcomes if one.point.context < 16384)
    folder.write(tmp_path / "short", replace(short, outcomes=kept))
    assert "0 ambiguous, 4 missing in the second run" in ssmprof(
        "compare", run, tmp_path / "short"
    ).out  # fmt: skip


def test_kernels_take_the_nearest_length_and_say_so(ssmprof, run: Path) -> None:
    said = ssmprof("kernels", run, "--context", "3,000", "--json")
    assert said.code == 0
    assert json.loads(said.out)
    assert "no times per kernel at 3,000 tokens; the nearest is taken, 4K" in said.err
    assert "Kernels of attention at 4K tokens" in ssmprof("kernels", run, "--context", "3K").out


def test_a_choice_is_an_answer_on_stdout_and_in_json(ssmprof, run: Path) -> None:
    said = ssmprof("decide", run, "--mix", "1K:70%,4K:30%")
    assert "Choice: attention." in said.out
    rows = json.loads(ssmprof("decide", run, "--mix", "1K:70%,4K:30%", "--json").out)
    assert {row["block"]: row["verdict"] for row in rows} == {
        "attention": "choice", "mamba2": "out",
    }  # fmt: skip


def test_sweep_dry_run_and_plan_measure_nothing(ssmprof) -> None:
    assert ssmprof("new", "mine.toml").code == 0
    plan = ssmprof("plan", "mine.toml", "--device", "cpu", "--contexts", "64,128", "--json")
    assert plan.code == 0, plan.err
    assert [row["block"] for row in json.loads(plan.out)][-1] == "total"
    assert "nothing was run" in plan.err
    assert ssmprof("sweep", "mine.toml", "--device", "cpu", "--dry-run").code == 0
    assert not Path("reports").exists()


def test_a_plan_says_of_how_many_layers_a_model_is_decided_on(ssmprof) -> None:
    asked = ("plan", "llama-3.1-8b", "mamba-130m@4", "--on", "h200")
    said = ssmprof(*asked)
    (line,) = (line for line in said.out.splitlines() if line.startswith("llama"))
    assert "4 of 32 layers" in line
    rows = json.loads(ssmprof(*asked, "--json").out)
    assert {row["block"]: row["shortened"] for row in rows} == {
        "llama-3.1-8b": {"layers": 4, "whole": 32}, "mamba-130m@4": None, "total": None,
    }  # fmt: skip
    assert "decided on" not in ssmprof("plan", "crossover", "--on", "h200").out


def test_without_any_run_it_says_how_to_make_one(ssmprof) -> None:
    said = ssmprof("crossover")
    assert said.code == 2
    assert "ssmprof sweep quickstart" in said.err


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ssmprof", "--debug", "report", "no/such/run"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert "Traceback" in done.stderr


def test_a_newer_run_folder_and_a_torn_line_say_what_to_do(ssmprof, run: Path) -> None:
    header = run / "run.json"
    text = header.read_text()
    header.write_text(text.replace(f'"format": {schema.FORMAT}', '"format": 99'))
    said = ssmprof("crossover", run)
    assert said.code == 2
    assert "99" in said.err
    assert "upgrade" in said.err
    header.write_text(text)
    with (run / "outcomes.jsonl").open("ab") as journal:
        journal.write(b'{"type":"measurement","point":{"blo')
    said = ssmprof("crossover", run)
    assert said.code == 0
    assert "torn" in said.err


def test_a_locale_without_unicode_still_gets_its_table(run: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ssmprof", "kernels", str(run)],
        capture_output=True, cwd=ROOT, check=False,
        env={"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PATH": "",
             "PYTHONPATH": str(ROOT), "HOME": str(run)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"us/call" in done.stdout


def test_settings_files_give_defaults_and_flags_win(ssmprof, run: Path) -> None:
    Path("ssmprof.toml").write_text('[crossover]\nphase = "decode"\n')
    assert "this run has no such answer" in ssmprof("crossover", run, "--json").err
    assert json.loads(ssmprof("crossover", run, "--json", "--phase", "prefill").out)
    Path("ssmprof.toml").write_text('phase = "decode"\n')
    said = ssmprof("crossover", run)
    assert said.code == 2
    assert "ssmprof.toml" in said.err


def test_config_show_says_where_each_setting_comes_from(
    ssmprof, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("ssmprof.toml").write_text('[sweep]\nmin_trust = "B"\nrounds = 4\n')
    Path("pyproject.toml").write_text("[tool.ssmprof.sweep]\nrounds = 9\nenergy = true\n")
    monkeypatch.setenv("SSMPROF_SWEEP_ROUNDS", "7")
    monkeypatch.setenv("NO_COLOR", "1")
    said = ssmprof("--quiet", "config", "show", "--json")
    rows = {(row["command"], row["option"]): row for row in json.loads(said.out)}

    def told(command: str, option: str) -> tuple[object, str]:
        return rows[command, option]["value"], rows[command, option]["origin"]

    assert told("sweep", "min_trust") == ("B", "ssmprof.toml")
    assert told("sweep", "rounds") == ("7", "SSMPROF_SWEEP_ROUNDS")
    assert told("sweep", "energy") == (True, "pyproject.toml")
    assert told("compare", "gate") == ("5%", "default")
    assert told("ssmprof", "quiet") == (True, "flag --quiet")
    assert told("ssmprof", "color") == ("never", "NO_COLOR")
    assert ("sweep", "contexts") not in rows
    table = ssmprof("config", "show", "sweep", "--all").out
    assert "contexts" in table
    assert "gate" not in table
    named = ssmprof("--config", "ssmprof.toml", "config", "show", "sweep", "--json").out
    assert ("energy", True) not in {(row["option"], row["value"]) for row in json.loads(named)}


def test_config_show_names_settings_that_nothing_reads(ssmprof) -> None:
    Path("ssmprof.toml").write_text('[sweep]\nmin_trst = "B"\n[swep]\nrounds = 3\n')
    said = ssmprof("config", "show")
    assert said.code == 0
    assert '[sweep] min_trst: no such option; did you mean "min_trust"?' in said.err
    assert '[swep]: no such command; did you mean "sweep"?' in said.err
    assert ssmprof("config", "show", "swep").code == 2


def test_the_scenarios_and_models_are_listed(ssmprof) -> None:
    names = [row["scenario"] for row in json.loads(ssmprof("scenarios", "--json").out)]
    assert {"quickstart", "crossover", "kernel-dominance", "smoke"} <= set(names)
    models = [row["name"] for row in json.loads(ssmprof("models", "--json").out)]
    assert {"mamba2-130m", "llama-3.2-1b", "falcon-h1-0.5b"} <= set(models)
    assert ssmprof("scenarios", "quickstart").out.strip().startswith("#")


def test_memory_is_predicted_for_a_model(ssmprof) -> None:
    said = ssmprof("memory", "mamba2-130m", "--contexts", "1K,2K", "--cap", "8GiB", "--json")
    rows = json.loads(said.out)
    assert [row["context_tokens"] for row in rows] == [1024, 2048]
    assert rows[0]["fits"] == "yes"
    assert rows[0]["kv_bytes"] == 0
    law = json.loads(ssmprof("memory", "--law", "llama-3.2-1b", "--contexts", "1K", "--json").out)
    assert law[0]["weights_bytes"] == 2 * 1_235_814_400
