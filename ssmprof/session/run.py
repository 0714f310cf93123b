"""A sweep from its question to its run: plan, measure, keep, look again. Python's door to it.

`sweep` and `resume` are what a person calls; `conduct` is what they share with the command line.
One sweep at a time runs in a process: two would disturb each other's times.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Literal

from ssmprof.errors import SsmprofError
from ssmprof.harmless import slug
from ssmprof.report.redact import recorded_scenario
from ssmprof.session.asking import Axes, What, agree, scenario_of
from ssmprof.session.asking import decided as until_it_is_decided
from ssmprof.session.conducting import measure_run
from ssmprof.session.executors import Executor, Local
from ssmprof.session.loop import End
from ssmprof.session.notebook import progress_here
from ssmprof.session.progress import Progress
from ssmprof.session.result import Run, load
from ssmprof.spec import Scenario
from ssmprof.store import folder as store
from ssmprof.store.folder import RunFolder

_AT_WORK = threading.Lock()


def sweep(
    what: What,
    *,
    output: str | Path | None = None,
    contexts: str | Iterable[int] | None = None,
    batch: str | int | Iterable[int] | None = None,
    phase: str | Iterable[str] | None = None,
    rounds: int | None = None,
    device: Literal["any", "cuda", "cpu"] | None = None,
    time_budget: str | float | None = None,
    energy: bool = False,
    host_profile: bool = False,
    cap: str | int | None = None,
    examine: bool = True,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Run:
    """Measure a scenario, or compare models, and keep every outcome in a new run folder.

    Workers are processes of their own, so nothing of this one is measured; a script needs no
    `if __name__ == "__main__"`. Ctrl-C finishes the point in flight and keeps it.

    Args:
        what: a scenario (its name, a TOML file or a `Scenario`), or models to compare: one or a
            list of presets, paths of a config.json, recipes, or `module:factory`, whose code runs.
        output: the new run folder; `reports/DATE-NAME-DEVICE` without one.
        contexts: lengths in tokens: `"512-32K*2"` or numbers.
        batch: sequences at a time: `"1,4"` or numbers.
        phase: `"prefill"`, `"decode"` or both.
        rounds: so many processes per contender, over the whole grid.
        device: where to measure, if no executor is given.
        time_budget: seconds, or text such as `"20m"`. What is open then is told as open.
        energy: measure joules, too (windows of seconds).
        host_profile: sample where the CPU waits.
        cap: memory limit in bytes, or text such as `"8GiB"`.
        examine: examine the machine first (about a minute); without it no verdict is given.
        executor: where the points are measured; this machine without one. It stays open.
        progress: told how it goes; without one a notebook shows a bar, and a script nothing.

    Raises:
        ConfigError: a name or a value that cannot be used.
        StoreError: the folder is taken, or cannot be written.
        NoDeviceError: no such device.
        SsmprofError: another sweep runs in this process.
        KeyboardInterrupt: it was told to end. What was measured is kept; `resume` goes on.

    Example:
        >>> run = ssmprof.sweep("crossover", contexts="512-32K*2", output="runs/x")
        >>> run.answer.crossings
    """
    axes = Axes(
        contexts=contexts, batch=batch, phase=phase, rounds=rounds, device=device,
        time_budget=time_budget, host_profile=host_profile, energy=energy, cap=cap,
    )  # fmt: skip
    scenario = recorded_scenario(scenario_of(what, axes))
    with ExitStack() as stack:
        stack.enter_context(_alone())
        chosen = executor or stack.enter_context(closing(Local(scenario.device)))
        path = Path(output).expanduser() if output else new_folder(scenario, chosen.name)
        opened = stack.enter_context(store.create(path, scenario))
        end = measure_run(opened, scenario, chosen, progress or progress_here(), examine=examine)
    return _result(path, end)


def resume(
    path: str | Path,
    *,
    models: Sequence[str] = (),
    rerun_noisy: bool = False,
    until_decided: bool = False,
    examine: bool = True,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Run:
    """Go on with a run folder: nothing is measured twice, and what was decided is obeyed.

    Args:
        path: the run folder.
        models: the run's models that are code of your own, named again: only then it runs.
        rerun_noisy: points that stayed noisy, one round more.
        until_decided: measure until it is known who wins where.
        examine, executor, progress: as of `sweep`.

    Raises:
        As `sweep` does; ConfigError for code of the run that `models` does not name.

    Example:
        >>> run = ssmprof.resume("runs/x", until_decided=True)
    """
    path = Path(path).expanduser()
    scenario = store.read_header(path).scenario
    agree(scenario, models, str(path))
    if until_decided:
        scenario = until_it_is_decided(scenario)
    with ExitStack() as stack:
        stack.enter_context(_alone())
        chosen = executor or stack.enter_context(closing(Local(scenario.device)))
        opened = stack.enter_context(store.resume(path))
        told = progress or progress_here()
        end = measure_run(opened, scenario, chosen, told, examine=examine, again=rerun_noisy)
    return _result(path, end)


def conduct(
    opened: RunFolder,
    scenario: Scenario,
    executor: Executor,
    progress: Progress,
    *,
    examine: bool = True,
    again: bool = False,
    decide: bool = True,
) -> End:
    """Measure what a run folder lacks of a scenario, and say how that ended.

    `again` measures noisy points once more; without `decide` the first provider runs
    each op. Raises what `sweep` raises, but for the first request to end, which is an answer here.
    """
    with _alone():
        return measure_run(
            opened, scenario, executor, progress, examine=examine, again=again, decide=decide
        )


def new_folder(scenario: Scenario, device: str) -> Path:
    """reports/<date>-<scenario>-<device>, numbered where that is taken."""
    day = time.strftime("%Y-%m-%d", time.gmtime())
    base = f"{day}-{slug(scenario.name)}-{slug(device)}"
    path, number = Path("reports") / base, 2
    while path.exists():
        path, number = Path("reports") / f"{base}-{number}", number + 1
    return path


def _result(path: Path, end: End) -> Run:
    if end == "interrupted":
        raise KeyboardInterrupt(f"saved; go on with ssmprof.resume({str(path)!r})")
    return load(path)


@contextmanager
def _alone() -> Iterator[None]:
    """The one sweep of this process. Raises SsmprofError where there is one already."""
    if not _AT_WORK.acquire(blocking=False):
        raise SsmprofError(
            "another sweep runs in this process",
            cause="two at once would disturb each other's times",
            fix="wait until it is done; or start the other one after it",
        )
    try:
        yield
    finally:
        _AT_WORK.release()
