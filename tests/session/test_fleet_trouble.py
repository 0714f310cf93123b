"""What goes wrong in a fleet: it is said in words that help; no outcome is lost or doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakes
import make
import pytest

import ssmprof
from ssmprof.errors import ConfigError, NoDeviceError
from ssmprof.records import Outcome
from ssmprof.session.executors import Virtual
from ssmprof.session.progress import Progress
from ssmprof.store.journal import read

pytest.importorskip("distributed", reason="the extra `fleet` is not installed")

import crew
from camp import Camp, Proxy

from ssmprof.session.executors.fleet.dask import Dask

ASKED = make.scenario(contexts=(64, 128, 256, 512), device="cpu")
KEYS = sorted(job.key for job in make.jobs(ASKED))


@pytest.fixture
def camp(tmp_path: Path) -> Iterator[Camp]:
    (tmp_path / "camp").mkdir()
    found = Camp(tmp_path / "camp", **{fakes.NAP: "0.05"})
    found.start_scheduler()
    yield found
    found.close()


def swept(fleet: Dask, path: Path, **changes: Any) -> ssmprof.Run:
    return ssmprof.sweep(ASKED, executor=fleet, examine=False, output=path, **changes)


def whole(path: Path, times: int = 1) -> None:
    """Every job is answered so often, and no more."""
    counts = Counter(one.key for one in read(path / "outcomes.jsonl").outcomes)
    assert counts == dict.fromkeys(KEYS, times)


def test_devices_of_two_names_answer_side_by_side_in_one_run(camp: Camp, tmp_path: Path) -> None:
    for card in "012":
        camp.start_worker(card)
    fleet = Dask.at(camp.address, crew.by_card, workers=3)
    try:
        assert [one.name for one in fleet.kinds] == ["Fast GPU", "Slow GPU"]
        found = swept(fleet, tmp_path / "run")
    finally:
        fleet.close()
    whole(tmp_path / "run", times=2)
    machines = {name: one.device for name, one in found.environments.items()}
    for device in ("Fast GPU", "Slow GPU"):
        mine = [one.key for one in found.outcomes if machines[one.environment] == device]
        assert sorted(mine) == KEYS


def test_a_kind_whose_only_worker_dies_goes_on_with_the_next_one(
    camp: Camp, tmp_path: Path
) -> None:
    for card in "01":
        camp.start_worker(card)
    fleet = Dask.at(camp.address, crew.by_card, workers=2)
    (camp.folder / "mamba2").write_text("1")

    def replace() -> None:
        while all(camp.alive(card) for card in "01"):
            time.sleep(0.02)
        for card in "01":
            if not camp.alive(card):
                camp.start_worker(card)

    watch = threading.Thread(target=replace)
    watch.start()
    try:
        found = swept(fleet, tmp_path / "run")
    finally:
        fleet.close()
        watch.join()
    whole(tmp_path / "run", times=2)
    assert not list(found.failures())


def test_a_client_that_is_killed_is_resumed(camp: Camp, tmp_path: Path) -> None:
    camp.start_worker("0")
    script = (
        "import crew, make, ssmprof\n"
        "from ssmprof.session.executors.fleet.dask import Dask\n"
        f"fleet = Dask.at({camp.address!r}, crew.napping)\n"
        "asked = make.scenario(contexts=(64, 128, 256, 512), device='cpu')\n"
        f"ssmprof.sweep(asked, executor=fleet, examine=False, output={str(tmp_path / 'run')!r})\n"
    )
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    client = subprocess.Popen([sys.executable, "-c", script], env=environ)
    journal = tmp_path / "run" / "outcomes.jsonl"
    end = time.monotonic() + 40
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 3):
        assert time.monotonic() < end
        assert client.poll() is None, "the client ended"
        time.sleep(0.01)
    client.send_signal(signal.SIGKILL)
    client.wait()
    kept = read(journal).outcomes
    assert 3 <= len(kept) < len(KEYS)
    fleet = Dask.at(camp.address, crew.napping)
    try:
        found = ssmprof.resume(tmp_path / "run", executor=fleet, examine=False)
    finally:
        fleet.close()
    whole(tmp_path / "run")
    assert found.outcomes[: len(kept)] == kept


def test_a_worker_without_a_gpu_is_named(camp: Camp) -> None:
    for card in "01":
        camp.start_worker(card)
    with pytest.raises(NoDeviceError, match=r"worker tcp://.* has no device") as raised:
        Dask.at(camp.address, crew.one_without, workers=2)
    assert "no GPU found" in str(raised.value)
    assert "ssmprof doctor" in str(raised.value)


def test_a_worker_with_another_version_is_refused_and_both_are_named(camp: Camp) -> None:
    camp.start_worker("0", "--preload", "crew", **{crew.WRONG: "version"})
    with pytest.raises(ConfigError) as raised:
        Dask.at(camp.address, crew.by_formula)
    assert "has ssmprof 0.0.9" in str(raised.value)
    assert f"this is {ssmprof.__version__}" in str(raised.value)


def test_a_worker_of_another_version_that_comes_later_gets_no_job(
    camp: Camp, tmp_path: Path
) -> None:
    camp.start_worker("0")
    fleet = Dask.at(camp.address, crew.by_formula)
    camp.start_worker("1", "--preload", "crew", **{crew.WRONG: "version"})
    fleet._client.wait_for_workers(2, timeout=20)
    try:
        found = swept(fleet, tmp_path / "run")
    finally:
        fleet.close()
    assert {one.cpu for one in found.environments.values()} == {"half 0"}
    whole(tmp_path / "run")


@pytest.mark.parametrize("wrong", ["rubbish", "pickle"])
def test_rubbish_becomes_failures_that_a_resume_measures_again(
    camp: Camp, tmp_path: Path, wrong: str
) -> None:
    camp.start_worker("0", "--preload", "crew", **{crew.WRONG: wrong})
    fleet = Dask.at(camp.address, crew.by_formula)
    try:
        found = swept(fleet, tmp_path / "run", rounds=1)
    finally:
        fleet.close()
    assert not (camp.folder / "unpickled").exists()
    told = ("gave no valid answer", "gave other outcomes")
    assert all(one.transient and any(t in one.detail for t in told) for one in found.failures())
    assert not list(found.measurements())
    here = Virtual(fakes.formula, make.ENVIRONMENT)
    again = ssmprof.resume(tmp_path / "run", executor=here, examine=False)
    assert not list(again.failures())


@pytest.mark.parametrize("whom", ["client", "worker"])
@pytest.mark.parametrize("cut", [False, True])
def test_a_network_that_pauses_loses_and_doubles_nothing(
    camp: Camp, tmp_path: Path, whom: str, cut: bool
) -> None:
    """A pause that is survived, and one after which connections are given up.

    Dask gives up after 30 s of silence (`distributed.comm.timeouts.tcp`): here it happens at once.
    """
    proxy = Proxy(camp.port)
    through = f"tcp://127.0.0.1:{proxy.port}"
    camp.start_worker("0", at=through if whom == "worker" else None)
    if whom == "worker":
        camp.start_worker("1")
    told: list[str] = []

    class Pausing(Progress):
        paused = False

        def outcome(self, outcome: Outcome) -> None:
            if not self.paused:
                self.paused = True
                proxy.pause()
                if cut:
                    proxy.cut()
                threading.Timer(2.0, proxy.go_on).start()

        def warned(self, text: str) -> None:
            told.append(text)

    at = through if whom == "client" else camp.address
    fleet = Dask.at(at, crew.napping, workers=1 + (whom == "worker"))
    try:
        found = swept(fleet, tmp_path / "run", progress=Pausing())
    finally:
        fleet.close()
        proxy.close()
    whole(tmp_path / "run")
    assert not list(found.failures())
    assert told == (["the scheduler does not answer; waiting for it"] * (cut and whom == "client"))


def test_a_scheduler_that_is_started_again_goes_on(camp: Camp, tmp_path: Path) -> None:
    """It knows nothing of the sweep, and its workers are new."""
    camp.start_worker("0")
    killed: list[float] = []

    class Killing(Progress):
        def outcome(self, outcome: Outcome) -> None:
            if not killed:
                killed.append(time.monotonic())
                camp.kill_scheduler()
                camp.start_scheduler()
                camp.start_worker("1")

    fleet = Dask.at(camp.address, crew.napping)
    try:
        found = swept(fleet, tmp_path / "run", progress=Killing())
    finally:
        fleet.close()
    whole(tmp_path / "run")
    assert not list(found.failures())
    assert {one.cpu for one in found.environments.values()} == {"host of 0", "host of 1"}
