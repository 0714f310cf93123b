"""The race between implementations of one op, on the arguments it was called with.

Device time decides, not launch cost: candidates replay in a CUDA graph where they can be captured.
This picks a provider and is no measurement; the sweep times the whole block afterwards.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

ROUNDS = 5
# A replay of one short kernel would time the launch of the graph, so that many calls are captured
# together that a replay lasts about this long.
REPLAY_MS = 0.3
MOST_CALLS = 32
# Candidates this close are equal: the one expected to be stronger runs, in every process alike.
TIE = 0.03


def fastest(
    found: Mapping[str, Callable[..., Any]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    mutated: int | None,
) -> str:
    """Name of the fastest candidate that accepts these arguments; the first of a tie.

    `mutated` is the index of an argument that the op overwrites: each candidate gets a copy. Raises
    the error of the last candidate where none accepts them.
    """
    times, error = device_times(found, args, kwargs, mutated)
    if not times:
        assert error is not None
        raise error
    best = min(times.values())
    return next(name for name, ms in times.items() if ms <= best * (1 + TIE))


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
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a backend that refuses explains itself at length
                times[name] = _device_ms(partial(call, *own, **kwargs))
        except Exception as refusal:  # of any library: it does not take part
            error = refusal
    return times, error


def _device_ms(call: Callable[[], Any]) -> float:
    """Median device time of one call in milliseconds."""
    call()
    torch.cuda.synchronize()
    once = _elapsed_ms(call)
    calls = max(1, min(MOST_CALLS, int(REPLAY_MS / max(once, 1e-3))))
    replay = _captured(call, calls)
    replay()
    return sorted(_elapsed_ms(replay) for _ in range(ROUNDS))[ROUNDS // 2] / calls


def _captured(call: Callable[[], Any], calls: int) -> Callable[[], Any]:
    """`calls` calls as one graph, or one after the other where they cannot be captured."""

    def repeat() -> None:
        for _ in range(calls):
            call()

    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            repeat()
    except RuntimeError:
        torch.cuda.synchronize()
        return repeat
    return graph.replay


def _elapsed_ms(call: Callable[[], Any]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)
