"""The race between implementations of one op, on the arguments it was called with.

Device time decides, not launch cost: candidates replay in a CUDA graph where they can be captured.
This picks a provider and is no measurement; the sweep times the whole block afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

ROUNDS = 3
# Long calls need no averaging; short ones are replayed until a round lasts about this long.
ROUND_MS = 1.0


def fastest(
    found: Mapping[str, Callable[..., Any]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    mutated: int | None,
) -> str:
    """Name of the fastest candidate that accepts these arguments.

    `mutated` is the index of an argument that the op overwrites: each candidate gets a copy. Raises
    the error of the last candidate where none accepts them.
    """
    times, error = device_times(found, args, kwargs, mutated)
    if not times:
        assert error is not None
        raise error
    return min(times, key=times.__getitem__)


def device_times(
    found: Mapping[str, Callable[..., Any]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    mutated: int | None,
) -> tuple[dict[str, float], Exception | None]:
    """Milliseconds of each candidate that accepts these arguments, and the last refusal."""
    times: dict[str, float] = {}
    error: Exception | None = None
    for name, call in found.items():
        own = list(args)
        if mutated is not None:
            own[mutated] = own[mutated].clone()
        try:
            times[name] = _device_ms(partial(call, *own, **kwargs))
        except (RuntimeError, ValueError, NotImplementedError, AssertionError) as refusal:
            error = refusal
    return times, error


def _device_ms(call: Callable[[], Any]) -> float:
    """Median device time of one call in milliseconds."""
    call()
    torch.cuda.synchronize()
    replay = _captured(call)
    once = _elapsed_ms(replay, 1)
    repeats = max(1, min(50, int(ROUND_MS / max(once, 1e-3))))
    return sorted(_elapsed_ms(replay, repeats) for _ in range(ROUNDS))[ROUNDS // 2]


def _captured(call: Callable[[], Any]) -> Callable[[], Any]:
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
    except RuntimeError:
        torch.cuda.synchronize()
        return call
    return graph.replay


def _elapsed_ms(call: Callable[[], Any], repeats: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / repeats
