"""What the analysis finds: frozen values, each with its uncertainty and its conditions.

Seconds, bytes, joules, tokens. The interval of an estimate covers 95 %; it is None for fewer than
three processes, and `spread` then says what was seen.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ssmprof.records import Conditions

Metric = Literal["latency", "hot-latency", "energy", "memory"]
DominanceKind = Literal["from", "up-to", "throughout", "never", "several", "unresolved"]
Denominator = Literal["device", "graph-wall", "eager-wall"]
Grade = Literal["A", "B", "C", "D"]
Interval = tuple[float, float]


class Finding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Base of all findings: none refers back to what holds it."""


class Estimate(Finding, frozen=True, kw_only=True):
    """A value over so many processes: geometric mean of their medians, 95 % interval, spread."""

    value: float
    rounds: int
    interval: Interval | None
    spread: Interval
    method: str


class CurvePoint(Finding, frozen=True, kw_only=True):
    """One contender at one context: what a latency, energy or memory chart draws."""

    conditions: Conditions
    metric: Metric
    block: str
    context: int
    estimate: Estimate
    samples: int
    notes: tuple[str, ...] = ()


class Share(Finding, frozen=True, kw_only=True):
    """Share of one kernel family in one block's time at one context."""

    conditions: Conditions
    block: str
    context: int
    family: str
    of: Denominator
    share: float
    time_s: float
    interval: Interval | None


class Dominance(Finding, frozen=True, kw_only=True):
    """Where a family (or "custom": all kernels of their own) owns more than half of the time.

    from        above the zone from `low_tokens` to `high_tokens`, to the end of what was measured
    up-to       below that zone, from the start of what was measured
    throughout  at every length measured
    never       at none; `peak_share` is the most it takes, at `peak_tokens`
    several     it passes one half more than once, between `low_tokens` and `high_tokens`
    unresolved  no length is certain on one of the sides
    """

    conditions: Conditions
    block: str
    family: str
    of: Denominator
    kind: DominanceKind
    peak_share: float
    peak_tokens: int
    low_tokens: int | None = None
    high_tokens: int | None = None


class Launch(Finding, frozen=True, kw_only=True):
    """Whether the device waits for the host.

    `gap` = 1 - graph/eager (device/eager where no graph exists), `busy` = kernels/eager.
    """

    conditions: Conditions
    block: str
    context: int
    eager_s: float
    graph_s: float | None
    device_s: float | None
    gap: float
    busy: float | None
    verdict: Literal["launch-bound", "mixed", "device-bound"]
    host_s_per_launch: float | None = None


class RooflinePoint(Finding, frozen=True, kw_only=True):
    """A call, or one of its ops, against its ceilings."""

    conditions: Conditions
    block: str
    context: int
    scope: str
    time_s: float
    flops: float
    moved_bytes: float
    floor_s: float
    bound: Literal["bandwidth", "compute", "exponentials", "launch"]
    source: str

    @property
    def intensity(self) -> float:
        """FLOP per byte of minimal traffic."""
        return self.flops / self.moved_bytes if self.moved_bytes else 0.0

    @property
    def achieved(self) -> float:
        """FLOP/s."""
        return self.flops / self.time_s

    @property
    def of_ceiling(self) -> float:
        """Share of the ceiling reached: floor over time."""
        return self.floor_s / self.time_s


class MemoryPoint(Finding, frozen=True, kw_only=True):
    """Peak memory of one block at one context, by owner, or the failure at it."""

    conditions: Conditions
    block: str
    context: int
    fits: bool
    peak_bytes: int | None
    parts: dict[str, int]
    predicted_bytes: int | None = None
    detail: str | None = None


class MemoryLaw(Finding, frozen=True, kw_only=True):
    """peak = fixed + per token * context, fitted over the contexts measured.

    `fits_up_to`, where the law meets the capacity, is a prediction; None if the peak is constant.
    """

    conditions: Conditions
    block: str
    fixed_bytes: float
    bytes_per_token: float
    worst_residual: float
    capacity_bytes: int | None
    fits_up_to: float | None
    measured_up_to: int
    failed_at: int | None


class EnergyPoint(Finding, frozen=True, kw_only=True):
    """Energy of one call; per token read in prefill, per token made in decode.

    `origins` holds each (scope, source) it was read from: values of several share no axis.
    """

    conditions: Conditions
    block: str
    context: int
    energy_j: Estimate
    per_token_j: float
    above_idle_j: float | None
    counter_gap: float | None
    origins: tuple[tuple[str, str], ...]


class ClaimCheck(Finding, frozen=True, kw_only=True):
    """A published claim against this run, and how: measured here, or recomputed from shapes."""

    claim: str
    statement: str
    source: str
    claimed: str
    here: str
    verdict: Literal["holds", "holds-stronger", "not-here", "not-testable"]
    why: str
    test: Literal["measured", "recomputed", "none"]


class Advice(Finding, frozen=True, kw_only=True):
    """What could be changed: the finding, the evidence, and at most how much it gains (a ratio).

    `group` is what several findings have in common and `where` what they do not; `taken` says that
    the run's own answer has the gain already.
    """

    finding: str
    evidence: str
    at_most: float | None = None
    group: str = ""
    where: str = ""
    taken: bool = False
