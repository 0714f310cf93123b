"""What came out: measurements, failures, and the run that holds them."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator
from functools import cached_property
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from ssmprof.records.base import Count, Record, Samples, median
from ssmprof.records.decisions import Decision
from ssmprof.records.machine import Clocks, Environment, TelemetrySample
from ssmprof.records.point import Point
from ssmprof.spec import Budget, Passes, Scenario, Subject
from ssmprof.work import Cost

FailureReason = Literal["out-of-memory", "timeout", "crash", "unsupported", "skipped"]
Route = Literal["graph-events", "stream-events", "cupti", "prefix-replay", "wall-clock"]
# What a note is about, for programs; its text is for people.
Family = Literal[
    "scan", "conv", "attention", "gemm", "norm", "elementwise", "copy", "rope", "moe",
    "embedding", "other", "launch-gap",
]  # fmt: skip


class Job(Record, frozen=True, kw_only=True):
    """A point to be measured in one round; travels to a worker or a fleet as JSON."""

    point: Point
    subject: Subject
    round: Count
    budget: Budget
    passes: Passes = Passes()

    @property
    def key(self) -> str:
        """Names this point in this round."""
        return f"{self.point.key}-{self.round}"

    def jobs(self) -> tuple[Job, ...]:
        """Everything that is asked for, one outcome each."""
        return (self,)

    def remaining(self, done: Container[str]) -> Job | None:
        """What is left of it once these keys are done."""
        return None if self.key in done else self


# Every kind of tag a point may carry; who reads runs looks at the kind, never at the text.
NoteKind = Literal[
    "noisy", "throttled", "power-cap", "clock", "warm-up", "compiled", "swapped", "below-timer",
    "closure", "route", "unnamed", "memory", "energy", "host", "broken-pass", "provider", "apart",
]  # fmt: skip


class Note(Record, frozen=True, kw_only=True):
    """A tag on a result: `kind` for programs, `text` for people.

    `value` is the number behind it: the lowest SM clock over the highest (throttled, power-cap),
    the share missed (closure) or without a family (unnamed).
    """

    kind: NoteKind
    text: str
    value: float | None = None


class KernelTime(Record, frozen=True, kw_only=True):
    """Device time of one op (or kernel) of one call, summed over its repetitions in the call.

    `times_s` holds one value per replay, corrected by the calibrated cost of a mark;
    `cupti_s` is CUPTI's duration of the same kernels, where it was taken.
    """

    scope: str
    op: str
    kernel: str
    family: Family
    calls: Count
    times_s: Samples
    provider: str | None = None
    cupti_s: float | None = None


class Attribution(Record, frozen=True, kw_only=True):
    """Where the time of one call went.

    `whole_s` is the un-instrumented time of the same call; `closure` is
    |whole - sum of parts (and gaps, where the route sees them)| / whole.
    """

    route: Route
    kernels: tuple[KernelTime, ...]
    whole_s: float
    closure: float
    marks: Count = 0
    mark_cost_s: float = 0.0
    gap_s: float | None = None
    fallback: str | None = None


class Memory(Record, frozen=True, kw_only=True):
    """Memory of one call, by owner (docs/how-it-works/memory-and-energy.md). Bytes.

    `allocator_peak_bytes` is the deployment number: the peak of live tensors. `activation` is what
    the peak holds beyond weights, cache, states and logits. `fresh` says that the worker had run
    nothing else, without which reserved and device numbers are history and stay None.
    """

    weights_bytes: int
    kv_bytes: int
    conv_state_bytes: int
    ssm_state_bytes: int
    logits_bytes: int
    allocator_peak_bytes: int
    activation_peak_bytes: int
    predicted_peak_bytes: int | None = None
    allocator_reserved_bytes: int | None = None
    slack_bytes: int | None = None
    context_bytes: int | None = None
    process_used_bytes: int | None = None
    device_used_bytes: int | None = None
    host_rss_bytes: int | None = None
    fresh: bool = False
    missing: dict[str, str] = {}

    @property
    def cache_bytes(self) -> int:
        """Everything a sequence must keep between tokens."""
        return self.kv_bytes + self.conv_state_bytes + self.ssm_state_bytes


class Energy(Record, frozen=True, kw_only=True):
    """Energy of one call. `energy_j` includes idle, `above_idle_j` does not.

    `integral_j` is integrated power over the same window; both per call. `scope` says what the
    number covers: device, module (a board's input) or system (the carrier included).
    """

    energy_j: float
    mean_power_w: float
    window_s: float
    calls: Count
    source: str
    scope: Literal["device", "module", "system", "rail"]
    idle_power_w: float | None = None
    above_idle_j: float | None = None
    integral_j: float | None = None
    windows_j: tuple[float, ...] = ()


class Host(Record, frozen=True, kw_only=True):
    """Where the CPU was during the eager call: share of samples per place, and the stacks' file."""

    shares: dict[str, float]
    samples: Count
    stacks: str | None = None


class Measurement(Record, frozen=True, kw_only=True, tag="measurement"):
    """One point, measured in one round.

    `times_s` are raw samples of one call in the point's execution; `hot_times_s` the same with the
    L2 cache left as the previous call left it. What timing itself costs is taken off, so a call
    below what can be timed has samples of zero or less, and the note `below-timer`.
    `cold_s` is the first call in a fresh process, None only for published results. `launches`
    counts kernel launches of one call.
    `wall_s` is everything this point took, `measuring_s` the part of it spent in timed samples and
    in the passes beside them: building, warming up and capturing are not in it.
    `beside` names the contender (several: joined by ", ") it was measured in turn with:
    `times_s[i]` of each belong to pair i. In mode `sustained` a sample is the mean of
    `calls_per_sample` calls back to back, the cache left as it was, and `sm_clocks_hz` is the
    median clock during each sample; empty where the device does not tell.
    """

    point: Point
    round: Count
    environment: str
    times_s: Samples
    timer: Literal["cuda-graph", "cuda-events", "wall-clock"]
    cold_s: float | None
    calls_per_sample: Annotated[int, Meta(ge=1)] = 1
    hot_times_s: tuple[float, ...] = ()
    launches: Count | None = None
    attribution: Attribution | None = None
    memory: Memory | None = None
    energy: Energy | None = None
    host: Host | None = None
    cost: Cost | None = None
    clocks: Clocks = Clocks()
    providers: dict[str, str] = {}
    notes: tuple[Note, ...] = ()
    started_unix_s: float = 0.0
    wall_s: float = 0.0
    measuring_s: float = 0.0
    beside: str | None = None
    mode: Literal["cold", "sustained"] = "cold"
    sm_clocks_hz: tuple[float, ...] = ()

    @property
    def key(self) -> str:
        """The job this answers."""
        return f"{self.point.key}-{self.round}"

    @property
    def time_s(self) -> float:
        """Median of the samples."""
        return median(self.times_s)


class Failure(Record, frozen=True, kw_only=True, tag="failure"):
    """One point that could not be measured: a result with a reason.

    `transient` says that its process was ended from outside (a signal, a failed fork, a broken
    pipe), each time it was tried: a resumed sweep measures the point again.
    """

    point: Point
    round: Count
    environment: str
    reason: FailureReason
    detail: str
    asked_bytes: int | None = None
    free_bytes: int | None = None
    predicted_bytes: int | None = None
    transient: bool = False
    started_unix_s: float = 0.0
    wall_s: float = 0.0

    @property
    def key(self) -> str:
        """The job this answers."""
        return f"{self.point.key}-{self.round}"


Outcome = Measurement | Failure


class Dropped(Record, frozen=True, kw_only=True):
    """What could not be read and was left out of a run: a line of a file (from 1), or all of it."""

    file: str
    reason: str
    line: int | None = None

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}: line {self.line}"
        return f"{where}: {self.reason}"


class Run(Record, frozen=True, kw_only=True, gc=True, dict=True):
    """A whole run: what was asked, where, and every outcome of it.

    Lengths below `comparable_from` tokens are shown and decide nothing (some published runs).
    `dropped_lines` counts the lines of the journal that could not be read, each a point to be
    measured again; `dropped` names them, and what was left out of the files beside the journal.
    """

    scenario: Scenario
    environments: dict[str, Environment]
    outcomes: tuple[Outcome, ...]
    telemetry: tuple[TelemetrySample, ...] = ()
    decisions: tuple[Decision, ...] = ()
    created_unix_s: float = 0.0
    command: str | None = None
    origin: Literal["measured", "published"] = "measured"
    source: str | None = None
    comparable_from: Count = 0
    dropped_lines: Count = 0
    dropped: tuple[Dropped, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the whole run as JSON, in hex, made an outcome at a time."""
        ends = replace(self, outcomes=())
        mark = b'"environments":' + msgspec.json.encode(self.environments) + b',"outcomes":['
        head, _, tail = msgspec.json.encode(ends).partition(mark)
        found = hashlib.sha256(head + mark)
        for number, outcome in enumerate(self.outcomes):
            found.update((b"," if number else b"") + msgspec.json.encode(outcome))
        found.update(tail)
        return found.hexdigest()

    def measurements(self) -> Iterator[Measurement]:
        """The points that were measured, in the order of the journal."""
        return (outcome for outcome in self.outcomes if isinstance(outcome, Measurement))

    def failures(self) -> Iterator[Failure]:
        """The points that were not, in the order of the journal."""
        return (outcome for outcome in self.outcomes if isinstance(outcome, Failure))
