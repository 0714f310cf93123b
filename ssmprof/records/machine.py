"""What was measured on: the machine, its checks and error bars, and its state at work."""

from __future__ import annotations

from typing import Literal

import msgspec

from ssmprof.records.base import Count, Record
from ssmprof.scalars import digest

Level = Literal["ok", "warn", "error"]


class Check(Record, frozen=True, kw_only=True):
    """One finding of `doctor`: what was looked at, what was seen, and the command that mends it."""

    name: str
    level: Level
    text: str
    fix: str | None = None
    value: float | None = None
    unit: str | None = None
    source: str | None = None


class Calibration(Record, frozen=True, kw_only=True):
    """The machine's own error bars, measured by `doctor` (docs/how-it-works/trust.md)."""

    empty_pair_graph_s: float | None = None
    empty_pair_stream_s: float | None = None
    mark_cost_s: float | None = None
    launch_eager_s: float | None = None
    launch_graph_s: float | None = None
    copy_bytes_per_s: float | None = None
    read_bytes_per_s: float | None = None
    matmul_flops: float | None = None
    exps_per_s: float | None = None
    repeat_noise: float | None = None
    energy_period_s: float | None = None
    checks: tuple[Check, ...] = ()


class Environment(Record, frozen=True, kw_only=True):
    """The machine and the software a measurement belongs to. `fingerprint` names it.

    `sm_cap_hz` and `memory_cap_hz` are what a board's power mode allows: its peaks scale with them.
    """

    device: str
    kind: Literal["cuda", "cpu"]
    ssmprof: str
    python: str
    platform: str
    chip: str | None = None
    compute_capability: str | None = None
    sm_count: int | None = None
    memory_bytes: int | None = None
    l2_bytes: int | None = None
    unified_memory: bool = False
    driver: str | None = None
    cuda: str | None = None
    torch: str | None = None
    triton: str | None = None
    cpu: str | None = None
    cpu_threads: int | None = None
    board: str | None = None
    l4t: str | None = None
    power_mode: str | None = None
    sm_cap_hz: float | None = None
    memory_cap_hz: float | None = None
    clocks_locked: bool | None = None
    providers: dict[str, str] = {}
    kernel_tables: str | None = None
    git: str | None = None
    calibration: Calibration | None = None
    missing: dict[str, str] = {}

    @property
    def fingerprint(self) -> str:
        """12 hex digits of everything but the calibration, which differs from run to run."""
        return digest(msgspec.structs.replace(self, calibration=None))


class TelemetrySample(Record, frozen=True, kw_only=True):
    """One reading beside the run (telemetry.jsonl). Clocks in hertz, power in watts."""

    unix_s: float
    sm_hz: float | None = None
    memory_hz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    used_bytes: int | None = None
    load: float | None = None
    throttle: tuple[str, ...] = ()


class Spread(Record, frozen=True, kw_only=True):
    """Readings of one quantity during a pass: extremes, median, and how many there were."""

    min: float
    median: float
    max: float
    readings: Count


class Violations(Record, frozen=True, kw_only=True):
    """Seconds of the latency pass, `window_s` long, in which a limit held the clock down.

    By the driver's counters. None is one that the device lacks, and `Clocks.missing` says why under
    `violations.` and the field's name; `application_clocks_s` and `base_clocks_s` count all time
    below those clocks, whatever the reason.
    """

    window_s: float
    power_s: float | None = None
    thermal_s: float | None = None
    sync_boost_s: float | None = None
    board_limit_s: float | None = None
    low_utilization_s: float | None = None
    reliability_s: float | None = None
    application_clocks_s: float | None = None
    base_clocks_s: float | None = None


class Clocks(Record, frozen=True, kw_only=True):
    """State of the device around the timed samples. Hertz, watts, degrees Celsius.

    `sm_clock_hz` is read beside `times_s`, between one sample and the next: the clock that turns
    their seconds into cycles. Before and after are single readings at the edges of the pass, and
    the rest is of its end. `missing` says why a reading is None.
    """

    sm_clock_hz: Spread | None = None
    sm_before_hz: float | None = None
    sm_after_hz: float | None = None
    memory_hz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    throttle: tuple[str, ...] = ()
    violations: Violations | None = None
    pinned: Literal["pinned", "capped", "free"] | None = None
    source: str | None = None
    missing: dict[str, str] = {}
