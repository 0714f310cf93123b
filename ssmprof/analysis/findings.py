"""What the analysis finds: frozen values, each with its uncertainty and its conditions.

Seconds, bytes, joules, tokens. An interval covers 95 %; it is None for fewer than three rounds
(processes), and `spread` then says what was seen.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ssmprof.spec import Dtype, Execution, Logits, Phase

Metric = Literal["latency", "hot-latency", "energy", "memory"]
CrossoverKind = Literal["at", "band", "never", "unresolved", "only-one-fits"]
Denominator = Literal["device", "graph-wall", "eager-wall"]
Grade = Literal["A", "B", "C", "D"]
Interval = tuple[float, float]


class _Finding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all findings."""


class Facet(_Finding, frozen=True, kw_only=True, order=True):
    """Conditions within which contenders may be compared."""

    device: str
    phase: Phase
    batch: int
    dtype: Dtype
    execution: Execution
    logits: Logits

    def label(self) -> str:
        """`prefill, batch 1, bfloat16, graph`."""
        head = "" if self.logits == "none" else f", {self.logits} logits"
        return f"{self.phase}, batch {self.batch}, {self.dtype}, {self.execution}{head}"


class Estimate(_Finding, frozen=True, kw_only=True):
    """A value over `rounds` processes: geometric mean of their medians, 95 % interval, spread."""

    value: float
    rounds: int
    interval: Interval | None
    spread: Interval
    method: str


class CurvePoint(_Finding, frozen=True, kw_only=True):
    """One contender at one context: what a latency, energy or memory chart draws."""

    facet: Facet
    metric: Metric
    block: str
    context: int
    estimate: Estimate
    samples: int
    notes: tuple[str, ...] = ()


class RatioPoint(_Finding, frozen=True, kw_only=True):
    """Metric of `block` over that of `other` at one context, from medians of the same rounds.

    `certain` is the sign of the difference: -1 `block` is lower, 1 it is higher, 0 a tie. `cycles`
    is the same ratio of latencies in SM cycles, where the clocks are known.
    """

    facet: Facet
    metric: Metric
    block: str
    other: str
    context: int
    estimate: Estimate
    certain: Literal[-1, 0, 1]
    cycles: Estimate | None = None
    notes: tuple[str, ...] = ()


class Crossover(_Finding, frozen=True, kw_only=True):
    """Where one contender overtakes another.

    at             `winner` is lower from `context` on; `low` and `high` are the nearest measured
                   contexts at which the lower one is certain; `interval` that of the root
    band           no difference from `low` to `high`; `ahead_below` and `ahead_above` say who is
                   lower outside, where anything was measured there
    never          `winner` is lower at every context from `low` to `high`
    only-one-fits  `loser` fits up to `low` and failed at `high`, where `winner` still ran
    unresolved     no answer; `why` says what is missing
    A pair with several sign changes has several records; `crossings` counts them."""

    metric: Metric
    facet: Facet
    winner: str
    loser: str
    kind: CrossoverKind
    context: float | None = None
    low: float | None = None
    high: float | None = None
    interval: Interval | None = None
    spread: Interval | None = None
    ahead_below: str | None = None
    ahead_above: str | None = None
    crossings: int = 1
    rounds: int = 0
    step: str | None = None
    why: str | None = None
    providers: dict[str, dict[str, str]] = {}
    notes: tuple[str, ...] = ()

    @property
    def wide(self) -> bool:
        """Whether the bracket is wider than a factor of two: say "between", not a number."""
        return self.low is None or self.high is None or self.high > 2 * self.low


class ClockCheck(_Finding, frozen=True, kw_only=True):
    """Two contenders' latencies in seconds against the same in SM cycles.

    agree              both name the same winners, and switches within each other's intervals
    depends-on-clocks  they do not: at `contexts` (none where only the switch moves), and `text`
                       holds both figures
    unknown            the clock of some samples is not known; `text` says why
    `cycles` holds the ratio `block` over `other` in cycles, by context.
    """

    facet: Facet
    block: str
    other: str
    verdict: Literal["agree", "depends-on-clocks", "unknown"]
    text: str = ""
    contexts: tuple[int, ...] = ()
    cycles: dict[int, Estimate] = {}


class Share(_Finding, frozen=True, kw_only=True):
    """Share of one kernel family in one block's time at one context."""

    facet: Facet
    block: str
    context: int
    family: str
    of: Denominator
    share: float
    time_s: float
    interval: Interval | None


class Dominance(_Finding, frozen=True, kw_only=True):
    """Where a family exceeds half of the time of a block.

    from         above `context` (bracket `low`, `high`), up to the end of what was measured
    up-to        below `context`, from the start of what was measured
    throughout   at every context measured
    not-reached  at none; `peak_share` is the most it takes
    several      more than one change
    """

    facet: Facet
    block: str
    family: str
    of: Denominator
    kind: Literal["from", "up-to", "throughout", "not-reached", "several"]
    peak_share: float
    peak_context: int
    context: float | None = None
    low: int | None = None
    high: int | None = None
    interval: Interval | None = None


class Launch(_Finding, frozen=True, kw_only=True):
    """Whether the device waits for the host (measurement.md, section 7).

    `gap` = 1 - graph/eager (device/eager where no graph exists), `busy` = kernels/eager.
    """

    facet: Facet
    block: str
    context: int
    eager_s: float
    graph_s: float | None
    device_s: float | None
    gap: float
    busy: float | None
    verdict: Literal["launch-bound", "mixed", "device-bound"]
    host_s_per_launch: float | None = None


class RooflinePoint(_Finding, frozen=True, kw_only=True):
    """A call, or one of its ops, against its ceilings."""

    facet: Facet
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


class MemoryPoint(_Finding, frozen=True, kw_only=True):
    """Peak memory of one block at one context, by owner, or the failure at it."""

    facet: Facet
    block: str
    context: int
    fits: bool
    peak_bytes: int | None
    parts: dict[str, int]
    predicted_bytes: int | None = None
    detail: str | None = None


class MemoryLaw(_Finding, frozen=True, kw_only=True):
    """peak = fixed + per token * context, fitted over the contexts measured.

    `fits_up_to`, where the law meets the capacity, is a prediction; None if the peak is constant.
    """

    facet: Facet
    block: str
    fixed_bytes: float
    bytes_per_token: float
    worst_residual: float
    capacity_bytes: int | None
    fits_up_to: float | None
    measured_up_to: int
    failed_at: int | None


class EnergyPoint(_Finding, frozen=True, kw_only=True):
    """Energy of one call; per token read in prefill, per token made in decode."""

    facet: Facet
    block: str
    context: int
    energy_j: Estimate
    per_token_j: float
    above_idle_j: float | None
    counter_gap: float | None
    source: str
    scope: str


class Warning(_Finding, frozen=True, kw_only=True):
    """Something a reader must know: `kind` is for programs, `fix` mends it."""

    kind: str
    text: str
    points: int = 0
    fix: str | None = None


class Trust(_Finding, frozen=True, kw_only=True):
    """How far the run can be believed.

    `limits` are the rules applied, to be printed beside the grade; D withholds the verdict.
    """

    grade: Grade
    reasons: tuple[str, ...]
    limits: tuple[str, ...]
    withheld: str | None = None


class ClaimCheck(_Finding, frozen=True, kw_only=True):
    """A published claim against this run."""

    claim: str
    statement: str
    source: str
    claimed: str
    here: str
    verdict: Literal["holds", "holds-stronger", "not-here", "not-testable"]
    why: str


class Advice(_Finding, frozen=True, kw_only=True):
    """What could be changed: the finding, the evidence, and at most how much it gains (a ratio)."""

    finding: str
    evidence: str
    at_most: float | None = None


class Analysis(_Finding, frozen=True, kw_only=True):
    """Everything found in a run."""

    curves: tuple[CurvePoint, ...] = ()
    ratios: tuple[RatioPoint, ...] = ()
    crossovers: tuple[Crossover, ...] = ()
    clocks: tuple[ClockCheck, ...] = ()
    shares: tuple[Share, ...] = ()
    dominances: tuple[Dominance, ...] = ()
    launches: tuple[Launch, ...] = ()
    roofline: tuple[RooflinePoint, ...] = ()
    memory: tuple[MemoryPoint, ...] = ()
    memory_laws: tuple[MemoryLaw, ...] = ()
    energy: tuple[EnergyPoint, ...] = ()
    claims: tuple[ClaimCheck, ...] = ()
    advice: tuple[Advice, ...] = ()
    warnings: tuple[Warning, ...] = ()
    trust: Trust
