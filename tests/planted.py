"""Contenders whose true times are known at every length, and the outcomes they would give.

A truth is a set of curves of log seconds over context. `rounds` measures every contender in a
process of its own, `visits` measures two in turns in one process; both return `Measurement`s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import make
import numpy as np

from ssmprof.records import Measurement, Point

Array = Any
Curve = Callable[[Array], Array]  # contexts -> log seconds, elementwise
A, B = "attention", "mamba2"
FINGERPRINT = make.ENVIRONMENT.fingerprint
NAMES = (A, B, "mamba1", "hybrid", "parallel")

# log(T_transformer / T_mamba2) of the prefill of scenarios/crossover.toml on one H200, every 128
# tokens, in two processes with 10 alternating cold replays each; and its mean.
H200_CONTEXTS = np.arange(3840, 6401, 128)
H200_VISITS = (
    [
     -.0399, -.0166, -.0645, -.0328, -.0124, .0127, .0121, .0070, .0021, .0086, .0481,
     .0054, .0064, .0304, .0366, .0175, .0487, .0466, .0493, .0574, .0652,
    ],
    [
     -.0408, -.0178, -.0683, -.0348, -.0117, .0078, .0127, .0058, .0027, .0137, .0391,
     .0044, .0093, .0312, .0314, .0143, .0483, .0490, .0476, .0551, .0624,
    ],
)  # fmt: skip
H200_LOGS = np.mean(H200_VISITS, axis=0)


@dataclass(frozen=True)
class Scatter:
    """How a log ratio varies: standard deviations of one replicate, 1 = 100 %.

    A process moves all of its lengths by a `level` and a `slope` (at the ends of an octave around
    the middle), each length by a `residual` of its own, `short` times that below 2K tokens.
    `drift` is what a process gains from its first to its last length, both contenders alike;
    `drift_one` the same for one of them. A sample scatters by `sample`; one in fifty is `slow`.
    """

    level: float = 0.003
    slope: float = 0.003
    residual: float = 0.002
    sample: float = 0.003
    slow: float = 0.5
    short: float = 1.0
    drift: float = 0.0
    drift_one: float = 0.0

    def times(self, factor: float) -> Scatter:
        """The same with every standard deviation between processes multiplied."""
        return replace(
            self,
            level=self.level * factor,
            slope=self.slope * factor,
            residual=self.residual * factor,
            drift_one=self.drift_one * factor,
        )


@dataclass(frozen=True)
class Truth:
    """Curves by contender; `jumps` are what a second mode adds, run in by half of all processes."""

    curves: Mapping[str, Curve]
    jumps: Mapping[str, float] = field(default_factory=dict[str, float])
    providers: Mapping[str, tuple[str, float]] = field(default_factory=dict[str, Any])

    def logs(self, contexts: Array, modes: Mapping[str, bool] | None = None) -> dict[str, Array]:
        """Log seconds of every contender at these contexts, in these modes."""
        seen = modes or {}
        found = {name: curve(np.asarray(contexts, float)) for name, curve in self.curves.items()}
        return {
            name: logs + (self.jumps.get(name, 0.0) if seen.get(name) else 0.0)
            for name, logs in found.items()
        }


def base(contexts: Array) -> Array:
    """Log seconds of the contender that the others are planted against."""
    return np.log(2e-7 * contexts)


def pair(log_ratio: Curve, **changes: Any) -> Truth:
    """Two contenders with this log ratio."""
    return Truth({A: lambda at: base(at) + log_ratio(at), B: base}, **changes)


def smooth(at: float, steep: float, bend: float = 0.0) -> Curve:
    """Crosses 0 at one length, with this slope over log context; `bend` is its curvature."""
    return lambda contexts: (x := np.log(contexts / at)) * (steep + bend * np.abs(x))


def sawtooth(height: float, period: float, phase: float) -> Curve:
    """Rises slowly and falls at once, as tiles of matrix products do; mean 0."""
    return lambda contexts: height * ((contexts / period + phase) % 1.0 - 0.5)


def step(at: float, jump: float) -> Curve:
    """Another implementation from a length on."""
    return lambda contexts: np.where(contexts >= at, jump, 0.0)


def wave(at: float, ratio: float, height: float) -> Curve:
    """Three crossings, at `at / ratio`, `at` and `at * ratio`."""

    def log_ratio(contexts: Array) -> Array:
        x = np.log(contexts / at) / math.log(ratio)
        inside = -height * np.sin(np.pi * x)
        outside = np.sign(x) * height * (1 + np.abs(x) - 1.5)
        return np.where(np.abs(x) < 1.5, inside, outside)

    return log_ratio


def both(*parts: Curve) -> Curve:
    """The sum of log ratios."""
    return lambda contexts: sum(part(contexts) for part in parts)


def h200(contexts: Array) -> Array:
    """The measured prefill curve; straight beyond its ends, with the slope of the whole."""
    inside = np.interp(contexts, H200_CONTEXTS, H200_LOGS)
    below = np.minimum(np.log(contexts / H200_CONTEXTS[0]), 0.0)
    above = np.maximum(np.log(contexts / H200_CONTEXTS[-1]), 0.0)
    return inside + 0.25 * (below + above)


@cache
def point(name: str, context: int, phase: str, execution: str) -> Point:
    """The point of a block in bfloat16."""
    return make.point(name, context, phase=phase, execution=execution, dtype="bfloat16")


@dataclass
class Device:
    """A virtual device: measures a truth with scatter, and remembers the modes it ran in."""

    truth: Truth
    scatter: Scatter
    rng: np.random.Generator
    phase: str = "prefill"
    execution: str = "graph"
    seen: list[dict[str, bool]] = field(default_factory=list[dict[str, bool]])

    def rounds(
        self, contexts: Sequence[int], count: int, first: int = 0, names: Sequence[str] = ()
    ) -> list[Measurement]:
        """Every contender in a process of its own, `count` times over, short lengths first."""
        found: list[Measurement] = []
        apart = self.scatter.times(math.sqrt(0.5))
        for number in range(first, first + count):
            modes = self._modes()
            logs = self.truth.logs(np.array(contexts), modes)
            for name in names or self.truth.curves:
                away = self._process(contexts, range(len(contexts)), apart, together=True)
                centre = logs[name] + away
                samples = self._samples(centre, 5, contexts)
                found += self._told(name, contexts, samples, number, None)
        return found

    def visits(
        self, contexts: Sequence[int], count: int, first: int = 0, names: tuple[str, str] = (A, B)
    ) -> list[Measurement]:
        """Two contenders in turns in one process, ten times each, from the middle outwards."""
        found: list[Measurement] = []
        a, b = names
        middle = (len(contexts) - 1) / 2
        order = np.argsort(np.abs(np.arange(len(contexts)) - middle), kind="stable")
        for number in range(first, first + count):
            logs = self.truth.logs(np.array(contexts), self._modes())
            away = self._process(contexts, order, self.scatter)
            position = np.argsort(order) / max(len(contexts) - 1, 1)
            alike = self.rng.normal(0, self.scatter.drift) * position
            clock = np.cumsum(self.rng.normal(0, 0.002, (10, len(contexts))), axis=0)
            for name, log in ((a, logs[a] + away), (b, logs[b])):
                samples = self._samples(log + alike, 10, contexts) * np.exp(clock)
                other = b if name == a else a
                found += self._told(name, contexts, samples, number, other)
        return found

    def _modes(self) -> dict[str, bool]:
        modes = {name: bool(self.rng.random() < 0.5) for name in self.truth.jumps}
        self.seen.append(modes)
        return modes

    def _process(
        self, contexts: Sequence[int], order: Any, scatter: Scatter, together: bool = False
    ) -> Array:
        """What one process adds to the log ratio at each length."""
        logs = np.log(np.array(contexts, float))
        span = max(float(logs.max() - logs.min()) / 2, math.log(2) / 2)
        x = (logs - (logs.max() + logs.min()) / 2) / span
        own = self._short(contexts) * scatter.residual
        position = np.argsort(np.array(list(order))) / max(len(contexts) - 1, 1)
        drift = scatter.drift_one + (scatter.drift if together else 0.0)
        return (
            self.rng.normal(0, scatter.level)
            + self.rng.normal(0, scatter.slope) * x
            + self.rng.normal(0, 1, len(contexts)) * own
            + self.rng.normal(0, drift) * position
        )

    def _short(self, contexts: Sequence[int]) -> Array:
        return np.where(np.array(contexts) < 2048, self.scatter.short, 1.0)

    def _samples(self, centre: Array, count: int, contexts: Sequence[int]) -> Array:
        """`count` samples (rows) at each length, some of them slow."""
        scale = self.scatter.sample * self._short(contexts)
        logs = centre + self.rng.normal(0, 1, (count, len(centre))) * scale
        slow = self.rng.random(logs.shape) < 0.02
        return np.exp(logs + slow * self.rng.uniform(0, self.scatter.slow, logs.shape))

    def _told(
        self, name: str, contexts: Sequence[int], samples: Array, number: int, beside: str | None
    ) -> list[Measurement]:
        provider = self.truth.providers.get(name)
        found: list[Measurement] = []
        for index, context in enumerate(contexts):
            providers: dict[str, str] = {}
            if provider is not None:
                op, edge = provider
                providers = {op: "torch" if context < edge else "ssmprof"}
            found.append(
                Measurement(
                    point=point(name, context, self.phase, self.execution),
                    round=number,
                    environment=FINGERPRINT,
                    times_s=tuple(samples[:, index].tolist()),
                    timer="cuda-graph",
                    cold_s=0.0,
                    beside=beside,
                    providers=providers,
                )
            )
        return found


def powers(low: int = 512, high: int = 32768) -> list[int]:
    """A grid of powers of two."""
    return [2**k for k in range(int(math.log2(low)), int(math.log2(high)) + 1)]


def near(context: float, ratio: float = 1.25) -> list[int]:
    """The lengths of a zoom: steps of 1.5 %, 16 tokens at least, multiples of 64 from 4,096."""
    found: list[int] = []
    at = context / ratio
    while at <= context * ratio:
        grain = 64 if at >= 4096 else 1
        length = round(at / grain) * grain
        if not found or length > found[-1]:
            found.append(length)
        at = max(at * 1.015, at + 16, length + grain if grain > 1 else 0)
    return found
