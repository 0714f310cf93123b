"""How long each implementation of an op takes, hot and cold, on the arguments of a real call.

This only says who is worth trying on the whole block, and is no measurement. Equal arguments are
timed once per process, so that blocks which share an op and its shapes share the times.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch

from ssmprof.measure.timing.bench import Bench
from ssmprof.measure.timing.timers import WallTimer, Window
from ssmprof.mixers.ops import Op, table
from ssmprof.records import median

_SAMPLES = 4  # the first one settles the window's hold and is dropped
# A cold call whose submission outlasted the hold is the host's time, and is taken again.
_TRIES = 4
# Calls in a row for a hot sample last about this long.
_HOT_S = 0.3e-3
_MOST_CALLS = 16
_LONG_S = 10e-3  # the same hot and cold to a few thousandths
# This much behind the best needs no second sample.
_HOPELESS = 2.0
_HOPELESS_S = 20e-6

Signature = tuple[Any, ...]


@dataclass(frozen=True)
class OpTime:
    """Seconds of one call, or of several calls together."""

    hot_s: float
    cold_s: float

    def __add__(self, other: OpTime) -> OpTime:
        return OpTime(self.hot_s + other.hot_s, self.cold_s + other.cold_s)


class OpTimes:
    """Times of ops by their arguments; `stage` is told `op provider` before anything runs.

    `excluded` providers (`op provider`) are left alone.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._known: dict[Signature, dict[str, OpTime | str]] = {}
        self._one = self._many = None
        if bench.kind == "cuda":
            self._one, self._many = Window(), Window()

    def look(
        self,
        op: Op,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        stage: Callable[[str], object],
        excluded: Container[str],
    ) -> Signature:
        """Time every implementation of `op` on these arguments, unless that was done before."""
        name = signature(op.op, args, kwargs)
        known = self._known.setdefault(name, {})
        for provider, call in op.found.items():
            if provider not in known and f"{op.op} {provider}" not in excluded:
                stage(f"{op.op} {provider}")
                known[provider] = self._time(call, op.op, args, kwargs, known)
                stage("block")
        return name

    def total(self, calls: Counter[Signature], provider: str) -> OpTime | str | None:
        """The time of all these calls by `provider`; why it refuses; None where it is excluded."""
        total = OpTime(0.0, 0.0)
        for name, count in calls.items():
            found = self._known[name].get(provider)
            if not isinstance(found, OpTime):
                return found
            total += OpTime(count * found.hot_s, count * found.cold_s)
        return total

    def _time(
        self,
        call: Callable[..., Any],
        op: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        known: dict[str, OpTime | str],
    ) -> OpTime | str:
        own = list(args)
        mutated = table()[op].mutates
        if mutated is not None:
            own[mutated] = own[mutated].clone()
        best = min((t.cold_s for t in known.values() if isinstance(t, OpTime)), default=None)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a backend that refuses explains itself at length
                return self._seconds(partial(call, *own, **kwargs), best)
        except Exception as refusal:  # of any library: it takes no part
            if "CUDA error" in str(refusal):
                raise
            return f"{type(refusal).__name__}: {' '.join(str(refusal).split())[:200]}"

    def _seconds(self, call: Callable[[], Any], best_s: float | None) -> OpTime:
        call()
        self._bench.wait()
        if self._one is None or self._many is None:
            taken = median(WallTimer(call).sample() for _ in range(_SAMPLES - 1))
            return OpTime(taken, taken)
        once = self._cold_s(call)
        if best_s is not None and once > _HOPELESS * best_s + _HOPELESS_S:
            return OpTime(once, once)
        if once > _LONG_S:
            taken = min(once, self._cold_s(call))
            return OpTime(taken, taken)
        cold = median([self._cold_s(call) for _ in range(_SAMPLES - 1)])
        calls = max(1, min(_MOST_CALLS, int(_HOT_S / max(cold, 1e-6))))

        def several() -> None:
            for _ in range(calls):
                call()

        hot = [self._many.seconds(several) / calls for _ in range(_SAMPLES)][1:]
        return OpTime(median(hot), cold)

    def _cold_s(self, call: Callable[[], Any]) -> float:
        assert self._one is not None
        taken = []
        for _ in range(_TRIES):
            if self._bench.flush is not None:
                self._bench.flush()
            taken.append(self._one.seconds(call))
            if self._one.held:
                return taken[-1]
        return min(taken)


def signature(op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Signature:
    """What decides the time of a call: the op, shapes, strides and dtypes, and the options."""
    return (op, *map(_shape_of, args), *((k, _shape_of(v)) for k, v in sorted(kwargs.items())))


def _shape_of(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (value.dtype, tuple(value.shape), value.stride())
    if isinstance(value, tuple | list):  # tensors of a state, say, which another layer has, too
        return tuple(map(_shape_of, cast("Iterable[Any]", value)))
    return value
