"""Kernel times on a GPU: inside a CUDA graph with a cold L2, eager as the user feels it.

Promises: `graph_ms` is (graph of [flush; op] x k) minus (graph of [flush] x k), over k, so neither
the host nor a warm cache flatters an operation; the flush writes twice the L2. For operations that
update a state in place, `RotatedTimer` walks over copies that together exceed twice the L2 instead.
Needs torch with a CUDA device; nothing here knows an operation.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence

import torch

Op = Callable[[], object]

#: Calls in a graph of rotating buffers, at least.
CALLS = 100

_flush_buffers: dict[int, torch.Tensor] = {}
_flush_graphs: dict[tuple[int, int], torch.cuda.CUDAGraph] = {}
_side_streams: dict[int, torch.cuda.Stream] = {}


def l2_bytes() -> int:
    """L2 size of the current CUDA device in bytes."""
    return int(torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size)


def flush() -> None:
    """Write 2 x L2 bytes on the current stream, so that nothing an operation reads is cached."""
    device = torch.cuda.current_device()
    if device not in _flush_buffers:
        _flush_buffers[device] = torch.empty(2 * l2_bytes(), dtype=torch.int8, device="cuda")
    _flush_buffers[device].zero_()


def capture(calls: Sequence[Op], *, warm_up: int = 3) -> torch.cuda.CUDAGraph:
    """One graph of all `calls` in order, after each distinct one ran `warm_up` times."""
    side = _side_stream()
    side.wait_stream(torch.cuda.current_stream())
    # `torch.cuda.graph` empties the allocator's cache before every capture and so pays for all
    # memory anew; that is needed only where a pool of the graph's own would not fit beside it.
    free, total = torch.cuda.mem_get_info()
    if free < total / 2:
        torch.cuda.empty_cache()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(side):
        for call in dict.fromkeys(calls):
            for _ in range(warm_up):
                call()
        torch.cuda.synchronize()
        graph.capture_begin()
        try:
            for call in calls:
                call()
        except BaseException:
            # Ending a broken capture fails, too; the first error is the one to see.
            with contextlib.suppress(RuntimeError):
                graph.capture_end()
            raise
        graph.capture_end()
    torch.cuda.current_stream().wait_stream(side)
    return graph


def _side_stream() -> torch.cuda.Stream:
    # The allocator keeps memory per stream: a new stream for each graph would keep it over again.
    device = torch.cuda.current_device()
    if device not in _side_streams:
        _side_streams[device] = torch.cuda.Stream()
    return _side_streams[device]


def _flushes(k: int) -> torch.cuda.CUDAGraph:
    key = torch.cuda.current_device(), k
    if key not in _flush_graphs:
        _flush_graphs[key] = capture([flush] * k, warm_up=1)
        replay_ms(_flush_graphs[key])
    return _flush_graphs[key]


def replay_ms(graph: torch.cuda.CUDAGraph) -> float:
    """Device time in milliseconds of one replay."""
    start = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    start.record()
    graph.replay()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


class ColdTimer:
    """Samples one operation with a cold L2; several of them can alternate in random order.

    Args:
        op: the call to time, without arguments; must not change its own inputs.
        k: operations in one graph; by default as many as fill about 2 ms, between 2 and 20.
    """

    def __init__(self, op: Op, *, k: int | None = None) -> None:
        flush()
        if k is None:
            once = replay_ms(capture([op]))
            k = max(2, min(20, int(2.0 / max(once, 1e-3))))
        self.k = k
        self._full = capture([call for _ in range(k) for call in (flush, op)], warm_up=1)
        self._empty = _flushes(k)
        replay_ms(self._full)

    def sample_ms(self) -> float:
        """One sample in milliseconds per operation: a replay with it minus a replay without."""
        return (replay_ms(self._full) - replay_ms(self._empty)) / self.k


class RotatedTimer:
    """Samples calls on rotating buffers, back to back in one graph, without a flush.

    Args:
        ops: one call per buffer set; together the sets should exceed 2 x L2.
        passes: how often one graph walks over all of them; by default until it holds about
            `CALLS` calls, so that what starting a graph takes counts little.
    """

    def __init__(self, ops: Sequence[Op], *, passes: int | None = None) -> None:
        if passes is None:
            passes = -(-CALLS // len(ops))
        self.k = len(ops) * passes
        self._graph = capture(list(ops) * passes, warm_up=1)
        replay_ms(self._graph)

    def sample_ms(self) -> float:
        """One sample in milliseconds per operation."""
        return replay_ms(self._graph) / self.k


def graph_ms(op: Op, *, k: int | None = None, reps: int = 15) -> float:
    """Median cold-L2 device time of `op` in milliseconds over `reps` replays (see `ColdTimer`)."""
    timer = ColdTimer(op, k=k)
    return statistics.median(timer.sample_ms() for _ in range(reps))


def eager_ms(op: Op, *, seconds: float = 0.05, warm_up: int = 5) -> float:
    """Wall time per call in milliseconds, Python and launches included; idle at both ends."""
    for _ in range(warm_up):
        op()
    torch.cuda.synchronize()
    start = time.perf_counter()
    op()
    torch.cuda.synchronize()
    n = max(3, min(500, int(seconds / max(time.perf_counter() - start, 1e-6))))
    start = time.perf_counter()
    for _ in range(n):
        op()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3 / n
