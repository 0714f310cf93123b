"""A fleet on Dask: real schedulers and worker processes on this host, on virtual devices."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, Popen
from types import SimpleNamespace
from typing import Any

import fakes
import make
import pytest
from msgspec.structs import replace

import ssmprof
from ssmprof.cli import main
from ssmprof.errors import EXIT_NO_DEVICE, ConfigError, NoDeviceError, SsmprofError
from ssmprof.records import Failure, Measurement, Outcome
from ssmprof.session import executors
from ssmprof.session.executors import Virtual, executor_for
from ssmprof.session.progress import Progress
from ssmprof.spec import Passes

pytest.importorskip("distributed", reason="the extra `fleet` is not installed")

import fleets

from ssmprof.session.executors import dask
from ssmprof.session.executors.post import Description, Request, Terms

ASKED = make.scenario(contexts=(64, 128, 256), device="cpu")
KEYS = sorted(job.key for job in make.jobs(ASKED))


@pytest.fixture(scope="module")
def deaths(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deaths")


@pytest.fixture(scope="module")
def fleet(deaths: Path) -> Iterator[dask.Dask]:
    found = dask.Dask.local(["0", "1"], fleets.by_formula, **{fleets.DEATHS: str(deaths)})
    yield found
    found.close()


def swept(fleet: dask.Dask, path: Path, **changes: Any) -> ssmprof.Run:
    return ssmprof.sweep(ASKED, executor=fleet, examine=False, output=path, **changes)


def timed(run: ssmprof.Run) -> dict[str, Any]:
    return {one.key: getattr(one, "times_s", None) for one in run.outcomes}


def test_a_fleet_measures_what_one_device_does_each_point_once(
    fleet: dask.Dask, tmp_path: Path
) -> None:
    found = swept(fleet, tmp_path / "run")
    assert sorted(one.key for one in found.outcomes) == KEYS
    alone = ssmprof.sweep(
        ASKED, executor=Virtual(fakes.formula, make.ENVIRONMENT), examine=False,
        output=tmp_path / "alone",
    )  # fmt: skip
    assert timed(found) == timed(alone)


def test_every_worker_measures_and_its_machine_is_kept(fleet: dask.Dask, tmp_path: Path) -> None:
    found = swept(fleet, tmp_path / "run")
    assert {one.cpu for one in found.environments.values()} == {"half 0", "half 1"}
    assert {one.environment for one in found.outcomes} == set(found.environments)


def test_a_visit_is_one_job(fleet: dask.Dask, tmp_path: Path) -> None:
    asked = replace(ASKED, sweep=replace(ASKED.sweep, strategy="decide"))
    found = ssmprof.sweep(asked, executor=fleet, examine=False, output=tmp_path / "run")
    assert any(one.beside for one in found.measurements())
    for number in {one.round for one in found.measurements() if one.beside}:
        machines = {one.environment for one in found.outcomes if one.round == number}
        assert len(machines) == 1, "contenders of a visit are compared on one device"


@pytest.mark.parametrize("many", [1, 2])
def test_a_worker_that_dies_gives_its_job_back(
    fleet: dask.Dask, deaths: Path, tmp_path: Path, many: int
) -> None:
    (deaths / "mamba2").write_text(str(many))
    found = swept(fleet, tmp_path / "run")
    assert (deaths / "mamba2").read_text() == "0"
    assert sorted(one.key for one in found.outcomes) == KEYS
    assert list(found.failures()) == []


def test_the_third_death_over_a_job_is_a_failure_that_a_resume_measures_again(
    fleet: dask.Dask, deaths: Path, tmp_path: Path
) -> None:
    (deaths / "mamba2").write_text("3")
    first = swept(fleet, tmp_path / "run", rounds=1)
    lost = list(first.failures())
    assert {one.point.block for one in lost} == {"mamba2"}
    assert len(lost) == 3
    assert all(one.transient and "3 workers of the fleet died" in one.detail for one in lost)
    here = Virtual(fakes.formula, make.ENVIRONMENT)
    again = ssmprof.resume(tmp_path / "run", executor=here, examine=False)
    assert list(again.failures()) == []
    assert sorted(one.key for one in again.outcomes) == sorted(one.key for one in first.outcomes)


def test_a_run_that_began_here_is_completed_by_a_fleet(fleet: dask.Dask, tmp_path: Path) -> None:
    here = Virtual(fakes.formula, make.ENVIRONMENT)
    whole = ssmprof.sweep(ASKED, executor=here, examine=False, output=tmp_path / "run")
    journal = tmp_path / "run" / "outcomes.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:5]))
    found = ssmprof.resume(tmp_path / "run", executor=fleet, examine=False)
    assert timed(found) == timed(whole)
    assert found.outcomes[:5] == whole.outcomes[:5]


def test_real_processes_of_a_fleet_decide_once_and_leave_nothing(tmp_path: Path) -> None:
    tag = f"tag-fleet-{tmp_path.name}"
    asked = replace(ASKED, passes=Passes(parts=False, memory="off", energy=False, cupti=False))
    environ = {**fakes.ENVIRON, "SSMPROF_TEST_TAG": tag}
    two = dask.Dask.local(["0", "1"], fleets.of_processes, **environ)
    try:
        found = ssmprof.sweep(asked, executor=two, examine=False, output=tmp_path / "run")
    finally:
        two.close()
    assert sorted(one.key for one in found.outcomes) == KEYS
    assert all(isinstance(one, Measurement) for one in found.outcomes)
    assert [one.block for one in found.decisions] == ["attention", "mamba2"]
    assert fakes.gone(tag) == []


@pytest.fixture
def outside(tmp_path: Path, deaths: Path) -> Iterator[tuple[str, Popen[bytes]]]:
    """A scheduler of its own with a worker: its address, and the process to kill."""
    where, streams = tmp_path / "scheduler.json", {"stderr": DEVNULL, "stdout": DEVNULL}
    environ = os.environ | fakes.ENVIRON | {fleets.DEATHS: str(deaths), "CUDA_VISIBLE_DEVICES": "0"}
    environ |= {"PYTHONPATH": os.pathsep.join(sys.path), fakes.NAP: "0.05"}
    python = [sys.executable, "-m"]
    at = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(where)]
    scheduler = Popen([*python, "distributed.cli.dask_scheduler", *at], env=environ, **streams)
    mine = ["--nthreads", "1", "--resources", "ssmprof-device=1", "--death-timeout", "5"]
    mine += ["--scheduler-file", str(where)]
    worker = Popen([*python, "distributed.cli.dask_worker", *mine], env=environ, **streams)
    end = time.monotonic() + 60
    while not (where.exists() and where.read_text()):
        assert time.monotonic() < end, "the scheduler does not start"
        time.sleep(0.05)
    yield json.loads(where.read_text())["address"], scheduler
    scheduler.kill()
    scheduler.wait()
    worker.terminate()
    worker.wait(30)


def test_when_the_scheduler_is_killed_outcomes_stay_and_a_resume_completes_them(
    outside: tuple[str, Popen[bytes]], tmp_path: Path
) -> None:
    address, scheduler = outside
    remote = dask.Dask.at(address, fleets.of_processes)

    class Killing(Progress):
        def outcome(self, outcome: Outcome) -> None:
            scheduler.kill()

    try:
        with pytest.raises(SsmprofError, match="the scheduler of the fleet is gone") as raised:
            swept(remote, tmp_path / "run", progress=Killing())
    finally:
        remote.close()
    assert f"--resume {tmp_path / 'run'}" in str(raised.value)
    kept = ssmprof.load(tmp_path / "run").outcomes
    assert 0 < len(kept) < len(KEYS)
    here = Virtual(fakes.formula, make.ENVIRONMENT)
    found = ssmprof.resume(tmp_path / "run", executor=here, examine=False)
    assert sorted(one.key for one in found.outcomes) == KEYS
    assert found.outcomes[: len(kept)] == kept


HERE = Description(version=ssmprof.__version__, device="Virtual GPU", kind="cuda", memory_bytes=80)


def test_workers_agree_on_the_smallest_memory() -> None:
    found = dask._agreed({"a": HERE, "b": replace(HERE, memory_bytes=40)})
    assert (found.device, found.memory_bytes) == ("Virtual GPU", 40)


@pytest.mark.parametrize(
    ("other", "error", "said"),
    [
        (replace(HERE, version="0.0.9"), ConfigError, f"0.0.9, and this is {ssmprof.__version__}"),
        (replace(HERE, device="Other GPU"), ConfigError, "Other GPU, Virtual GPU"),
        (replace(HERE, missing="no GPU"), NoDeviceError, "worker b has no device"),
    ],
)
def test_a_worker_that_does_not_fit_is_refused(
    other: Description, error: type[SsmprofError], said: str
) -> None:
    with pytest.raises(error, match=said):
        dask._agreed({"a": HERE, "b": other})


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.7:8786", "10.0.0.7:8786", "node:8786", "ws://node:80"]
)
def test_a_scheduler_that_anybody_can_reach_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="without TLS"):
        executor_for("any", fleet=address)


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:1", "localhost:1", "tcp://[::1]:1", "tls://node:8786"]
)
def test_this_host_and_tls_are_accepted(address: str) -> None:
    dask.refuse_open(address)


@pytest.mark.parametrize("letter", [b"", b"rubbish", b'{"outcomes":[{}]}', b'{"more":1}', object()])
def test_rubbish_is_a_failure_of_its_job_and_reaches_no_journal(letter: object) -> None:
    job = make.job()
    met: list[object] = []
    desk: Any = SimpleNamespace(
        outcomes=(), decisions=(), disabled=(), meet=met.append, folder="run", examine=False
    )
    bench = dask.FleetBench(None, desk, "cuda", 1)  # type: ignore[arg-type]
    future = SimpleNamespace(status="finished", result=lambda: letter)
    request = Request(terms=Terms(folder="run", examine=False), jobs=(job,))
    (found,) = bench._outcomes(future, request)
    assert isinstance(found, Failure)
    assert found.transient
    assert "gave no valid answer" in found.detail
    assert found.key == job.key
    assert len(met) == 1


def test_outcomes_of_a_scheduler_that_is_gone_are_kept_and_the_way_on_is_named() -> None:
    desk: Any = SimpleNamespace(outcomes=(), decisions=(), disabled=(), folder="runs/x")
    bench = dask.FleetBench(None, desk, "cuda", 1)  # type: ignore[arg-type]
    request = Request(terms=Terms(folder="run", examine=False), jobs=(make.job(),))
    with pytest.raises(SsmprofError, match="scheduler of the fleet is gone"):
        list(bench._outcomes(SimpleNamespace(status="cancelled"), request))


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from dask import config

    with (
        config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(ConfigError, match=r"127\.0\.0\.1:9: no scheduler answers"),
    ):
        executor_for("any", fleet="tcp://127.0.0.1:9")


def test_a_running_scheduler_is_used_and_left_running(fleet: dask.Dask, tmp_path: Path) -> None:
    address = fleet._client.scheduler.address
    other = dask.Dask.at(address, fleets.by_formula)
    found = swept(other, tmp_path / "run")
    other.close()
    assert sorted(one.key for one in found.outcomes) == KEYS
    assert swept(fleet, tmp_path / "again").outcomes


def test_all_devices_without_a_gpu_are_no_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SystemExit) as end:
        main(["sweep", "smoke", "--device", "all", "-o", "run"])
    assert end.value.code == EXIT_NO_DEVICE
    assert "no GPU found" in capsys.readouterr().err
    assert not Path("run").exists()


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ssmprof.session.executors.dask")
    monkeypatch.delattr(executors, "dask")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match="several devices need Dask") as raised:
        executor_for("any", every=True)
    assert "ssmprof[fleet]" in str(raised.value)


def test_visible_gpus_are_those_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-1")
    assert dask.visible_gpus() == ["3", "GPU-1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(NoDeviceError):
        dask.visible_gpus()
