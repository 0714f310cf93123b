"""Checks that run something on the device: clocks against known durations, copies, routes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from ssmprof.chips import chips, find_chip
from ssmprof.devices.base import Device
from ssmprof.doctor import calibrate
from ssmprof.doctor import host as doctor_host
from ssmprof.measure.attribution import cupti, marks, stream_events
from ssmprof.measure.attribution.intervals import Untraceable
from ssmprof.measure.attribution.mark_cost import CHAIN_TOLERANCE_S, mark_cost
from ssmprof.measure.timing.timers import GraphTimer, L2Flush, WallTimer, Window, capture
from ssmprof.records import Calibration, Check, Level, median

KNOWN_SHARE, KNOWN_S = 0.01, 1e-6
_UNDER_TABLE = 0.25  # of the data sheet's bandwidth: copies reach 80 to 90 % of it on a sound card
_DATA_EFFECT = 0.03
_REPEAT = 0.01
_SPIN_S = 1e-3
_LOAD = 8192  # width of a matmul that keeps every SM at work for milliseconds


def launch(found: Calibration) -> Check:
    """What one launch costs, eager and in a graph."""
    text = f"{_us(found.launch_eager_s)} eager, {_us(found.launch_graph_s)} in a graph"
    return Check(name="launch", level="ok", text=text, value=found.launch_eager_s, unit="s")


def mark(found: Calibration) -> Check:
    """The cost of a mark against the two hops it should consist of."""
    e, m = found.empty_pair_graph_s, found.mark_cost_s
    if e is None or m is None:
        reason = marks.external_events_work()
        return Check(
            name="marks",
            level="warn",
            text=f"no event nodes in graphs ({reason}); per-op times fall back to stream events",
            fix="pip install --upgrade torch  (2.8 or later)",
        )
    cost = mark_cost()
    differ = abs(cost.chain_s - 2 * e) > CHAIN_TOLERANCE_S
    text = f"m = {_us(m)} per mark, {_us(cost.fill_s)} before a fill; "
    text += f"two empty pairs {_us(2 * e)}, chain of small kernels {_us(cost.chain_s)}"
    if differ:
        text += "; they differ, and the chain is used"
    return Check(name="marks", level="warn" if differ else "ok", text=text, value=m, unit="s")


def clocks_at_work(device: Device) -> Check | None:
    """The clock under a large matmul. A board has a check of its own for pinned clocks."""
    if device.onboard is not None and "clocks" in device.onboard.checks():
        return None
    a, b = (torch.randn(_LOAD, _LOAD, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    product = torch.empty_like(a)

    def begin() -> None:
        for _ in range(4):
            torch.mm(a, b, out=product)

    return doctor_host.clocks_at_work(device, begin, torch.cuda.synchronize)


def known_duration() -> Check:
    """A kernel that spins for 1 ms by the device's own timer, as our timers see it."""
    seen_s, spun_s = spin_seen_s(_SPIN_S)
    error = abs(seen_s - spun_s)
    wrong = error > max(KNOWN_SHARE * spun_s, KNOWN_S)
    text = f"a spin of {_us(spun_s)} is measured as {_us(seen_s)} ({seen_s / spun_s - 1:+.2%})"
    level: Level = "error" if wrong else "ok"
    return Check(name="known duration", level=level, text=text, value=error / spun_s)


def spin_seen_s(seconds: float) -> tuple[float, float]:
    """Median duration of a spin as our timer sees it, and as the device's own timer saw it."""
    from ssmprof.measure.timing.spin import Spin

    spin = Spin(seconds)
    spin()
    torch.cuda.synchronize()
    graph, _ = capture(spin)
    timer = GraphTimer(graph, seconds)
    pairs = [(timer.sample(), spin.spun_s()) for _ in range(15)]
    return median(seen for seen, _ in pairs), median(spun for _, spun in pairs)


def bandwidth(found: Calibration, device: Device) -> Check:
    """Copy and read ceilings against the data sheet, which no copy reaches."""
    copied, read = found.copy_bytes_per_s or 0.0, found.read_bytes_per_s or 0.0
    text = f"copy {copied / 1e9:,.0f} GB/s, read {read / 1e9:,.0f} GB/s"
    key = find_chip(device.name) if device.kind == "cuda" else None
    if key is None:
        return Check(name="bandwidth", level="ok", text=text, value=copied, unit="B/s")
    cap_hz = device.onboard.memory_cap_hz if device.onboard is not None else None
    sheet = chips()[key].under_caps(None, cap_hz).mem_bandwidth_bytes_per_s
    share = max(copied, read) / sheet.value
    level: Level = "warn" if share < 1 - _UNDER_TABLE else "ok"
    return Check(
        name="bandwidth",
        level=level,
        text=f"{text}: {share:.0%} of the data sheet's {sheet.value / 1e9:,.0f}",
        value=copied,
        unit="B/s",
        source=sheet.source,
    )


def flush_works() -> Check:
    """A call whose data fits the L2 cache is slower after a flush, or the flush does nothing."""
    words = torch.randint(99, (2**20,), dtype=torch.int32, device="cuda")
    graph, _ = capture(lambda: torch.amax(words, 0))
    cold, hot = (GraphTimer(graph, 10e-6, flush) for flush in (L2Flush.of_device(), None))
    cold_s = median(cold.sample() for _ in range(9))
    hot_s = median(hot.sample() for _ in range(9))
    works = cold_s > hot_s
    return Check(
        name="L2 flush",
        level="ok" if works else "error",
        text=f"4 MiB are read in {_us(cold_s)} cold and {_us(hot_s)} hot",
        value=cold_s / hot_s,
    )


def data_effect(found: Calibration) -> Check:
    """How much faster a matmul runs on zeros: why inputs are random, and how near the power cap."""
    random, zeros = found.matmul_flops or 0.0, calibrate.matmul_flops(random=False)
    effect = zeros / random - 1
    return Check(
        name="data",
        level="warn" if effect > _DATA_EFFECT else "ok",
        text=f"bf16 matmul {random / 1e12:,.0f} TFLOP/s on random data, "
        f"{zeros / 1e12:,.0f} on zeros ({effect:+.1%})",
        value=effect,
    )


def repeat(found: Calibration) -> Check | None:
    """A/A: the same call twice is the noise no comparison can go below."""
    noise = found.repeat_noise
    if noise is None:
        return None
    level: Level = "warn" if noise > _REPEAT else "ok"
    fix = "lock the clocks and end other processes" if level == "warn" else None
    text = f"the same call measured twice differs by {noise:.2%}"
    return Check(name="A/A", level=level, text=text, fix=fix, value=noise)


def routes() -> Check:
    """Which timing routes this machine has, best first."""
    have: list[str] = []
    lacks: list[str] = []
    reason = marks.external_events_work()
    (have if reason is None else lacks).append("graph-events")
    try:
        stream_events.stream_mark_cost_s()
        have.append("stream-events")
    except Untraceable as error:
        lacks.append(f"stream-events ({error})")
    text = f"per-op times by {have[0] if have else 'the profiler alone'}"
    if lacks:
        text += f"; not available: {', '.join(lacks)}"
    return Check(name="routes", level="ok" if "graph-events" in have else "warn", text=text)


def attention_backends() -> Check:
    """Which attention backends run here; the strongest decides comparisons."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    q = torch.randn(1, 8, 256, 128, device="cuda", dtype=torch.bfloat16)
    named = {
        "cuDNN": SDPBackend.CUDNN_ATTENTION,
        "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
    }

    def runs(backend: SDPBackend) -> bool:
        with sdpa_kernel(backend), warnings.catch_warnings(), suppress(RuntimeError):
            warnings.simplefilter("ignore")  # a backend that declines explains itself in warnings
            scaled_dot_product_attention(q, q, q, is_causal=True)
            return True
        return False

    have = [name for name, backend in named.items() if runs(backend)]
    text = ", ".join(have) or "only the mathematical one"
    return Check(name="attention", level="ok" if have else "warn", text=f"backends: {text}")


def cupti_probe() -> tuple[int, int]:
    """Kernels launched and kernels CUPTI saw; to be run in a process of its own, it may crash."""
    cell = torch.ones(1024, device="cuda")

    def call() -> None:
        for _ in range(20):
            cell.add_(1.0)

    return 20, len(cupti.profile(call, 2)[0])


def median_seconds(make: Callable[[], Callable[[], Any]], samples: int = 40) -> float:
    """Median of one call in this process, on a graph's clock; for comparing processes."""
    with torch.inference_mode():
        call = make()
        call()
        torch.cuda.synchronize()
        wall = WallTimer(call, torch.cuda.synchronize)
        wall.sample()
        graph, _ = capture(call)
        rough = Window()
        rough.seconds(graph.replay)
        timer = GraphTimer(graph, rough.seconds(graph.replay))
        for _ in range(5):
            timer.sample()
        return median(timer.sample() for _ in range(samples))


def _us(seconds: float | None) -> str:
    if seconds is None:
        return "n/a"
    return f"{seconds * 1e6:.2f} µs" if seconds < 1e-4 else f"{seconds * 1e6:,.1f} µs"
