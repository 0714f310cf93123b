"""A board's one memory: weighed before a point, watched during it, judged after it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boards
import fakes
import make
import pytest

from ssmprof.devices import NullDevice
from ssmprof.devices.jetson import checks
from ssmprof.devices.jetson.device import JetsonDevice, detect
from ssmprof.devices.jetson.memory import REGRESSED_L4T, Watchdog, margin_bytes, watchdog_bytes
from ssmprof.devices.jetson.replay import VARIABLE
from ssmprof.devices.sysfs import Sysfs
from ssmprof.doctor import examination as doctor
from ssmprof.measure import environment
from ssmprof.measure.board import loosened, suspected, unswapped
from ssmprof.measure.passes import energy
from ssmprof.measure.workers.worker import classify
from ssmprof.records import Calibration, Check, Energy, Failure, Measurement, Note
from ssmprof.store import folder

TOTAL_KB = 7_802_640


class Meminfo:
    """/proc/meminfo whose numbers change between reads; other files are absent."""

    def __init__(self, *available_kb: int, swap_used_kb: tuple[int, ...] = (0,)) -> None:
        self.available, self.swap = list(available_kb), list(swap_used_kb)

    def read(self, path: str) -> bytes:
        if path != "/proc/meminfo":
            raise FileNotFoundError(2, "absent", path)
        available = self.available.pop(0) if len(self.available) > 1 else self.available[0]
        used = self.swap.pop(0) if len(self.swap) > 1 else self.swap[0]
        return (
            f"MemTotal: {TOTAL_KB} kB\nMemAvailable: {available} kB\n"
            f"SwapTotal: 1000000 kB\nSwapFree: {1_000_000 - used} kB\n"
        ).encode()

    def glob(self, pattern: str) -> list[str]:
        return []

    def realpath(self, path: str) -> str:
        return path


def board(files: Any) -> JetsonDevice:
    found = detect(boards.sysfs(boards.nano()))
    assert found is not None
    found.sysfs = Sysfs(files)
    return found


def test_the_watchdog_ends_a_worker_below_its_floor_and_not_above() -> None:
    floor_kb = watchdog_bytes(TOTAL_KB * 1024) // 1024
    assert floor_kb == int(0.04 * TOTAL_KB * 1024) // 1024
    watch = Watchdog(Sysfs(Meminfo(floor_kb + 1000, floor_kb - 1000)))
    assert watch(1) is None
    assert "ended by the watchdog" in (watch(1) or "")
    assert Watchdog(boards.sysfs({}))(1) is None  # unknown is not low


def test_room_is_asked_when_memory_of_the_last_worker_has_come_back() -> None:
    files = Meminfo(1_000_000, 3_000_000, 6_000_000, 6_000_100)
    slept: list[float] = []
    watch = Watchdog(Sysfs(files), clock=lambda: 0.0, sleep=slept.append)
    margin = margin_bytes(TOTAL_KB * 1024)
    assert watch.room_bytes() == 6_000_100 * 1024 - margin
    assert len(slept) == 3


def test_room_is_not_waited_for_longer_than_a_few_seconds() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    class Rising(Meminfo):
        def read(self, path: str) -> bytes:
            self.available = [int(1e6 + 1e6 * now[0] / 0.05)]
            return super().read(path)

    Watchdog(Sysfs(Rising(0)), clock=lambda: now[0], sleep=sleep).room_bytes()
    assert 5.0 <= now[0] < 5.2


def test_only_a_board_has_a_guard() -> None:
    assert NullDevice("card", "x", "cuda").onboard is None
    one = board(Meminfo(1))
    assert one.onboard is one
    assert one.onboard.guard().period_s > 0


def test_a_timing_during_which_the_board_swapped_is_taken_again() -> None:
    calls: list[int] = []

    def time_it() -> int:
        calls.append(1)
        return len(calls)

    device = board(Meminfo(1, swap_used_kb=(0, 50_000, 50_000, 50_000)))
    result, notes = unswapped(device, time_it)
    assert result == 2
    assert [note.kind for note in notes] == ["swapped"]
    assert "48.8 MiB" in notes[0].text


def test_a_board_that_swaps_again_gives_no_timing_but_a_lack_of_memory() -> None:
    device = board(Meminfo(1, swap_used_kb=(0, 50_000, 50_000, 90_000)))
    with pytest.raises(MemoryError, match="swapped") as caught:
        unswapped(device, lambda: 1)
    assert classify(caught.value)[0] == "out-of-memory"


def test_a_page_or_two_of_swap_and_other_devices_change_nothing() -> None:
    assert unswapped(board(Meminfo(1, swap_used_kb=(0, 8))), lambda: 7) == (7, ())
    assert unswapped(NullDevice("card", "x", "cuda"), lambda: 7) == (7, ())


def test_clocks_that_came_loose_during_the_samples_are_told() -> None:
    assert loosened("pinned", "pinned") == ()
    assert loosened("free", "free") == ()
    assert loosened("pinned", None) == ()
    assert "pinned before" in loosened("pinned", "free")[0].text


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory",
        "NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp:1131",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)",
        "cudaErrorMemoryAllocation",
    ],
)
def test_every_way_torch_says_it_on_a_tegra_is_a_lack_of_memory(message: str) -> None:
    assert classify(RuntimeError(message))[0] == "out-of-memory"


def test_shared_memory_of_a_kernel_is_not_memory() -> None:
    class OutOfResources(Exception):
        """Named as Triton names it."""

    assert classify(OutOfResources("out of resource: shared memory"))[0] == "unsupported"


def failure(**changes: Any) -> Failure:
    values: dict[str, Any] = {
        "point": make.point(), "round": 0, "environment": "x", "reason": "out-of-memory",
        "detail": "NvMapMemAllocInternalTagged: error 12", "predicted_bytes": 2**30,
    }  # fmt: skip
    return Failure(**{**values, **changes})


@pytest.mark.parametrize("release", sorted(REGRESSED_L4T))
def test_memory_refused_although_it_was_free_names_the_driver(release: str) -> None:
    machine = make.environment(l4t=release)
    found = suspected(failure(), machine, free=4 * 2**30)
    assert "suspect driver_regression" in found.detail
    assert release in found.detail


def test_the_driver_is_not_suspected_where_memory_was_short_or_the_release_is_sound() -> None:
    plain = failure()
    old = make.environment(l4t="36.4.7")
    assert suspected(plain, old, free=2**29) == plain
    assert suspected(plain, old, free=None) == plain
    assert suspected(plain, make.environment(l4t="36.4.4"), free=2**40) == plain
    assert suspected(failure(reason="crash"), old, free=2**40).detail == plain.detail


def test_what_is_predicted_to_need_more_than_the_board_can_give_is_not_tried(
    tmp_path: Path,
) -> None:
    todo = make.jobs(make.scenario(contexts=(64, 128, 256)))[:3]
    sizes = {job.key: job.point.context * 2**20 for job in todo}
    rooms = iter([200 * 2**20] * 10)
    with fakes.client(
        {}, tmp_path, predict=lambda job: sizes[job.key], room=lambda: next(rooms)
    ) as client:
        found = list(client(todo))
    assert [isinstance(one, Measurement) for one in found] == [True, True, False]
    last = found[2]
    assert isinstance(last, Failure)
    assert (last.reason, last.predicted_bytes) == ("skipped", 256 * 2**20)
    assert "the board can give 200" in last.detail


def test_the_drivers_last_words_name_the_lack_of_memory_and_the_suspect(tmp_path: Path) -> None:
    todo = make.jobs(make.scenario(contexts=(64,)))[:1]
    with fakes.client(
        {todo[0].key: "tegra"}, tmp_path, predict=lambda job: 2**20, room=lambda: 2**30
    ) as client:
        (found,) = client(todo)
    assert isinstance(found, Failure)
    assert found.reason == "out-of-memory"
    assert "nvmap-12" in found.detail


def test_a_worker_that_eats_the_boards_memory_is_ended_and_the_next_one_runs(
    tmp_path: Path,
) -> None:
    floor_kb = watchdog_bytes(TOTAL_KB * 1024) // 1024
    # Plenty at first, then below the floor for one look, then back.
    files = Meminfo(6_000_000, 6_000_000, floor_kb - 1, 6_000_000)
    todo = make.jobs(make.scenario(contexts=(64, 128)))[:2]
    with fakes.client({todo[0].key: "hang"}, tmp_path, watch=Watchdog(Sysfs(files))) as client:
        first, second = client(todo)
    assert isinstance(first, Failure)
    assert first.reason == "out-of-memory"
    assert "ended by the watchdog" in first.detail
    assert isinstance(second, Measurement)


class Meter(NullDevice):
    """A monitor that moves every `period_s` between two readings; no counter."""

    power_source = "ina3221:VDD_IN"
    power_scope = "module"
    least_power_updates = 20
    power_resolution_w = 0.04

    def __init__(self, period_s: float) -> None:
        super().__init__("meter", "not supported", "cuda")
        self.period_s = period_s

    def power_w(self) -> float:
        return 10.0 + 0.04 * (int(time.perf_counter() / self.period_s) % 2)


@pytest.fixture
def _no_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = energy.idle_power_w
    monkeypatch.setattr(energy, "idle_power_w", lambda device, _: quick(device, 0.05, 0.0))
    monkeypatch.setattr(energy, "_SAMPLES_HZ", 100.0)


@pytest.mark.usefixtures("_no_settling")
def test_a_monitor_that_moves_gives_energy_with_its_scope() -> None:
    found = energy.measure(
        lambda: time.sleep(0.002), device=Meter(0.012), call_s=2e-3, window_s=0.4, idle_s=0.05
    )
    assert isinstance(found, Energy)
    assert (found.scope, found.source) == ("module", "ina3221:VDD_IN, steps of 0.04 W")
    assert found.mean_power_w == pytest.approx(10.02, abs=0.03)


@pytest.mark.usefixtures("_no_settling")
def test_a_monitor_that_hardly_moves_gives_no_energy_after_longer_windows() -> None:
    found = energy.measure(
        lambda: time.sleep(0.002), device=Meter(10.0), call_s=2e-3, window_s=0.1, idle_s=0.05
    )
    assert isinstance(found, Note)
    assert "20 are needed" in found.text


def test_doctor_on_a_board_gives_its_checks_and_none_of_the_general_ones_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(boards.write(boards.nano(), tmp_path / "nano.tsv")))
    monkeypatch.setattr(checks.power, "__defaults__", (0.0,))
    monkeypatch.setattr(doctor, "_on_cpu", lambda device, thorough: (Calibration(), []))
    found = doctor.examine("cpu")
    names = [check.name for check in found.checks]
    for name in ("torch", "board", "driver", "power mode", "clocks", "power", "memory", "swap"):
        assert names.count(name) == 1, name
    assert "others" not in names
    assert not [check for check in found.checks if check.level == "error"]


def test_doctor_tells_the_rest_of_a_board_without_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(boards.write(boards.nano(), tmp_path / "nano.tsv")))
    monkeypatch.setattr(checks.power, "__defaults__", (0.0,))
    absent = Check(name="torch", level="error", text="not installed", fix="pip install torch")
    monkeypatch.setattr(doctor.doctor_host, "torch_build", lambda: absent)
    found = doctor.examine("cpu")
    assert found.checks[0].level == "error"
    assert "https://pypi.jetson-ai-lab.io/jp6/cu126" in (found.checks[0].fix or "")
    assert "board" in [check.name for check in found.checks]
    assert doctor.grade(found) == "D"


SCENARIO = """\
question = "Does the whole way work?"
device = "cpu"
[sweep]
contexts = [64, 128]
phase = ["prefill", "decode"]
dtype = "float32"
execution = ["eager"]
[budget]
rounds = 1
min_samples = 3
min_time_s = 0.0
point_s = 0.5
[passes]
parts = true
memory = "fresh"
cupti = false
[[blocks]]
name = "attention"
layers = "attention mlp"
d_model = 64
attention = { heads = 4, kv_heads = 2, head_dim = 16 }
mlp = { d_ff = 128 }
[[blocks]]
name = "mamba2"
layers = "mamba2"
d_model = 64
mamba2 = { d_inner = 128, d_state = 16, headdim = 32 }
"""


def test_a_sweep_runs_end_to_end_on_a_simulated_orin(tmp_path: Path) -> None:
    """Telemetry, clocks and the memory budget from a captured tree, compute on the processor."""
    tree = boards.write(boards.nano(), tmp_path / "nano.tsv")
    (tmp_path / "s.toml").write_text(SCENARIO)
    environ = {**os.environ, VARIABLE: str(tree), **fakes.ENVIRON, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "ssmprof", "sweep", "s.toml", "-o", "run", "--no-doctor"],
        capture_output=True, text=True, timeout=240, env=environ, cwd=tmp_path, check=False,
    )  # fmt: skip
    run = folder.load(tmp_path / "run")
    assert not list(run.failures()), done.stderr
    assert len(run.outcomes) == 8
    (machine,) = run.environments.values()
    assert (machine.board, machine.l4t) == ("Orin Nano 8GB devkit (p3767-0005)", "36.4.3")
    assert (machine.power_mode, machine.chip) == ("MAXN_SUPER", None)
    assert (machine.sm_cap_hz, machine.memory_cap_hz) == (1020e6, 3199e6)
    assert machine.clocks_locked is False
    for one in run.measurements():
        assert (one.clocks.sm_before_hz, one.clocks.sm_after_hz) == (306e6, 306e6)
        assert one.clocks.temperature_c == 48.562
        assert one.clocks.power_w == pytest.approx(7.544, abs=1e-3)
        assert one.clocks.pinned == "free"
        assert "power_w from ina3221:VDD_IN" in (one.clocks.source or "")
        assert "root" in one.clocks.missing["memory_hz"]
    assert run.telemetry
    assert all(sample.power_w == pytest.approx(7.544, abs=1e-3) for sample in run.telemetry)
    assert {sample.used_bytes for sample in run.telemetry} == {(TOTAL_KB - 6_000_000) * 1024}


def test_a_board_without_room_skips_every_point_with_its_prediction(tmp_path: Path) -> None:
    meminfo = f"MemTotal: {TOTAL_KB} kB\nMemAvailable: 600000 kB\n"
    tree = boards.write(boards.nano(**{"/proc/meminfo": meminfo}), tmp_path / "nano.tsv")
    (tmp_path / "s.toml").write_text(SCENARIO)
    environ = {**os.environ, VARIABLE: str(tree), **fakes.ENVIRON, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "ssmprof", "sweep", "s.toml", "-o", "run", "--no-doctor"],
        capture_output=True, text=True, timeout=240, env=environ, cwd=tmp_path, check=False,
    )  # fmt: skip
    lines = (tmp_path / "run" / "outcomes.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert len(found) == 8
    assert {one["type"] for one in found} == {"failure"}
    assert {one["reason"] for one in found} == {"skipped"}
    assert all(one["predicted_bytes"] > 0 for one in found)


def test_a_board_is_known_by_its_number_and_one_that_is_not_has_no_peaks() -> None:
    def chip_of(tree: dict[str, str]) -> str | None:
        found = detect(boards.sysfs(tree))
        assert found is not None
        return environment._common(found, "cuda")["chip"]

    assert chip_of(boards.nano()) == "orin-nano-8gb"
    assert chip_of(boards.orin_nx()) == "orin-nx-16gb"
    thor = boards.rows(boards.THOR_FILE)  # its tree names no module: T4000 or T5000
    assert chip_of(thor) is None


def test_a_board_whose_power_is_integrated_needs_no_counter() -> None:
    found = detect(boards.sysfs(boards.nano()))
    assert found is not None
    assert [check.level for check in doctor.doctor_host.telemetry(found)] == ["ok"]
