"""Sweeps from Python: what may be asked, what comes back, what is refused."""

from __future__ import annotations

import re
import signal
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import make
import pytest
from msgspec.structs import replace

import ssmprof
from ssmprof.errors import ConfigError, SsmprofError, StoreError
from ssmprof.records import Job, Outcome
from ssmprof.session import run as session
from ssmprof.session.executors import Virtual
from ssmprof.session.notebook import Bar, progress_here
from ssmprof.session.progress import Planned, Progress
from ssmprof.spec import ForeignSpec, Scenario
from ssmprof.store import folder

LAWS = make.power_law(attention=(1.0, 2.0), mamba2=(8000.0, 1.0))
ASKED = make.scenario(contexts=(512, 4096, 32_768), device="cuda")


def formula(job: Job) -> Outcome:
    return next(iter(LAWS([job])))


def virtual(answer: Callable[[Job], Outcome] = formula) -> Virtual:
    return Virtual(answer, make.ENVIRONMENT)


def swept(path: Path, asked: Scenario = ASKED, **changes: Any) -> ssmprof.Run:
    changes = {"executor": virtual(), "examine": False} | changes
    return ssmprof.sweep(asked, output=path, **changes)


def test_a_sweep_gives_the_run_that_its_folder_holds(tmp_path: Path) -> None:
    found = swept(tmp_path / "run")
    assert found.folder == tmp_path / "run"
    assert len(found.outcomes) == len(make.jobs(ASKED))
    assert {one.environment for one in found.outcomes} == {make.ENVIRONMENT.fingerprint}
    again = ssmprof.load(str(tmp_path / "run"))
    assert again == found
    assert again.sha256 == folder.load(tmp_path / "run").sha256


def test_a_run_has_answer_tables_and_page(tmp_path: Path) -> None:
    found = swept(tmp_path / "run")
    assert found.answer is not None
    (crossing,) = found.answer.crossings
    assert (crossing.low_tokens, crossing.high_tokens) == (4096, 32_768)
    assert found.answer in found.answers
    assert found.analysis.answers == found.answers
    assert len(found.points) == len(found.outcomes)
    assert set(found.points["device"]) == {"Virtual GPU"}
    assert len(found.samples) == sum(len(one.times_s) for one in found.measurements())
    assert found.kernels.empty
    assert found.report() == tmp_path / "run" / "report.html"
    assert found.report(str(tmp_path / "page.html")).stat().st_size > 10_000
    with pytest.raises(StoreError, match="cannot be written"):
        found.report(tmp_path / "none" / "page.html")
    with pytest.raises(ConfigError, match="no folder"):
        replace(found, outcomes=()).report()


def test_a_run_says_its_answer_in_a_few_lines_and_shows_its_figure(tmp_path: Path) -> None:
    found = swept(tmp_path / "run")
    said = repr(found)
    assert said.startswith("Run tiny: ") or said.startswith(f"Run {ASKED.name}: ")
    assert "on Virtual GPU" in said
    assert 2 <= len(said.splitlines()) <= 8
    shown = found._repr_html_()
    assert "<svg" in shown
    assert "var(--" not in shown, "a notebook has no style sheet of ours"
    empty = replace(found, outcomes=())
    assert "0 measurements" in repr(empty)
    assert "<svg" not in empty._repr_html_()
    assert empty.answer is None


def test_names_of_this_machine_are_not_shown_in_a_notebook(tmp_path: Path) -> None:
    asked = replace(ASKED, name="/home/somebody/secret")
    assert "somebody" not in swept(tmp_path / "run", asked)._repr_html_()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"contexts": "12-"}, "contexts: "),
        ({"contexts": [1.5]}, "contexts: "),
        ({"contexts": [0]}, "sweep.contexts"),
        ({"rounds": "three"}, "budget.rounds"),
        ({"phase": "prefil"}, 'phase: "prefil"; did you mean "prefill"'),
        ({"time_budget": "soon"}, "time_budget: "),
        ({"cap": "much"}, "cap: "),
    ],
)
def test_a_value_that_cannot_be_used_is_named(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        swept(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_axes_are_numbers_or_text(tmp_path: Path) -> None:
    text = swept(tmp_path / "a", contexts="512-2K*2", phase="decode", batch="1,2", rounds=1)
    numbers = swept(
        tmp_path / "b", contexts=[2048, 512, 1024], phase=["decode"], batch=[1, 2], rounds=1
    )
    assert text.scenario == numbers.scenario
    assert text.scenario.sweep.batch == (1, 2)


def test_models_are_named_or_given(tmp_path: Path) -> None:
    both = [make.block("attention"), "mamba2-130m"]
    found = ssmprof.sweep(
        both, contexts="64", rounds=1, executor=virtual(plain), examine=False, output=tmp_path / "r"
    )
    assert [block.name for block in found.scenario.blocks] == ["attention", "mamba2-130m"]
    with pytest.raises(ConfigError, match="neither a scenario nor a model"):
        ssmprof.sweep("mamba2-131m", executor=virtual(), output=tmp_path / "n")


def plain(job: Job) -> Outcome:
    return make.measurement(point=job.point, round=job.round)


def test_results_are_never_overwritten(tmp_path: Path) -> None:
    swept(tmp_path / "run")
    with pytest.raises(StoreError, match="never overwritten"):
        swept(tmp_path / "run")


def test_two_sweeps_in_one_process_are_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(job: Job) -> Outcome:
        begun.set()
        assert go.wait(30)
        return formula(job)

    first = threading.Thread(
        target=swept, args=(tmp_path / "a",), kwargs={"executor": virtual(slow)}
    )
    first.start()
    try:
        assert begun.wait(30)
        with pytest.raises(SsmprofError, match="another sweep runs in this process"):
            swept(tmp_path / "b")
        assert not (tmp_path / "b").exists()
    finally:
        go.set()
        first.join(60)
    assert len(ssmprof.load(tmp_path / "a").outcomes) == len(make.jobs(ASKED))
    assert swept(tmp_path / "b").outcomes


def test_a_sweep_that_failed_leaves_the_way_free(tmp_path: Path) -> None:
    def broken(job: Job) -> Outcome:
        raise StoreError("it fails")

    with pytest.raises(StoreError, match="it fails"):
        swept(tmp_path / "a", executor=virtual(broken))
    assert swept(tmp_path / "b").outcomes


def test_ctrl_c_keeps_the_point_and_resume_completes_the_run(tmp_path: Path) -> None:
    asked: list[str] = []

    def interrupted(job: Job) -> Outcome:
        asked.append(job.key)
        if len(asked) == 5:
            signal.raise_signal(signal.SIGINT)
        return formula(job)

    with pytest.raises(KeyboardInterrupt, match=r"ssmprof\.resume"):
        swept(tmp_path / "run", executor=virtual(interrupted))
    assert len(ssmprof.load(tmp_path / "run").outcomes) == 5
    found = ssmprof.resume(tmp_path / "run", executor=virtual(interrupted), examine=False)
    assert sorted(asked) == sorted(job.key for job in make.jobs(ASKED)), "each once"
    assert found.outcomes == swept(tmp_path / "whole").outcomes


def test_a_run_goes_on_until_it_is_decided(tmp_path: Path) -> None:
    grid = swept(tmp_path / "run")
    found = ssmprof.resume(tmp_path / "run", until_decided=True, executor=virtual(), examine=False)
    assert len(found.outcomes) > len(grid.outcomes)
    assert all(one.beside for one in list(found.measurements())[len(grid.outcomes) :])


def test_code_that_a_run_holds_runs_only_where_it_is_named(tmp_path: Path) -> None:
    asked = replace(ASKED, blocks=(ForeignSpec(name="tiny", factory="mine:tiny"),))
    folder.create(tmp_path / "run", asked).close()
    with pytest.raises(ConfigError, match="mine:tiny"):
        ssmprof.resume(tmp_path / "run", executor=virtual(plain))
    with pytest.raises(ConfigError, match="none of its models"):
        ssmprof.resume(tmp_path / "run", models=["mine:tiny", "x:y"], executor=virtual(plain))
    found = ssmprof.resume(tmp_path / "run", models=["mine:tiny"], executor=virtual(plain))
    assert found.outcomes


class Listening(Progress):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def planned(self, plan: Planned) -> None:
        self.told.append(f"{plan.missing} of {plan.points}")

    def outcome(self, outcome: Outcome) -> None:
        self.told.append(outcome.key)


def test_progress_is_told_in_order(tmp_path: Path) -> None:
    listening = Listening()
    found = swept(tmp_path / "run", progress=listening)
    many = len(found.outcomes)
    assert listening.told == [f"{many} of {many}", *(one.key for one in found.outcomes)]


class Screen:
    """A display handle that keeps what it shows."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def update(self, what: Any) -> None:
        self.shown.append(what._repr_html_())


def test_a_notebook_shows_one_bar_and_what_one_should_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen()
    shell = types.SimpleNamespace(kernel=object())
    display = types.ModuleType("IPython.display")
    monkeypatch.setattr(display, "display", lambda *_, **__: screen, raising=False)
    python = types.ModuleType("IPython")
    monkeypatch.setattr(python, "get_ipython", lambda: shell, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", display)

    def failing(job: Job) -> Outcome:
        if job.point.context == 32_768:
            return make.failure(point=job.point, round=job.round, detail="<too> large")
        return formula(job)

    swept(tmp_path / "run", executor=virtual(failing))
    many = len(make.jobs(ASKED))
    assert f"{many} of {many} points, Virtual GPU" in screen.shown[-1]
    assert "machine not examined" in screen.shown[-1]
    assert "&lt;too&gt; large" in screen.shown[-1]


def test_outside_of_a_notebook_nothing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not isinstance(progress_here(), Bar)
    swept(tmp_path / "run")
    assert capsys.readouterr() == ("", "")


def test_a_run_without_a_place_gets_one_with_its_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [swept(None).folder, swept(None).folder]  # type: ignore[arg-type]
    assert [str(name).rpartition("-")[2] for name in names] == ["gpu", "2"]
    assert all(name is not None and name.parent == Path("reports") for name in names)


def test_public_functions_and_classes_are_documented() -> None:
    for name in ssmprof.__all__:
        found = getattr(ssmprof, name)
        assert name == "__version__" or found.__doc__, name
    for name in (session.sweep, session.resume, ssmprof.load):
        assert "Raises:" in (name.__doc__ or "")
        assert "Example:" in (name.__doc__ or "")
