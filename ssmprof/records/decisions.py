"""What one process finds and all of a run obey: who runs an op where, and passes that kill.

Decided on the block, once per run (`measure.deciding`), and obeyed by every process of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from msgspec import Meta, structs

from ssmprof import limits
from ssmprof.models.recipe import Recipe
from ssmprof.models.short_form import Shortened
from ssmprof.records.base import Count, Record, Time
from ssmprof.records.point import Conditions, Point, Tokens
from ssmprof.spec import Budget

# won: the whole block is faster by more than its error and the least gain. lost: it is not.
# slow: as an op too far behind the best to be tried. small: the op has too little of the block's
# time to matter. refused: it did not take the call. crashed: it took its process along.
TrialOutcome = Literal["won", "lost", "slow", "small", "refused", "crashed"]
PassName = Literal["parts", "cupti", "energy", "host", "memory"]
Share = Annotated[float, Meta(ge=0, le=1)]
Edge = Annotated[float, Meta(gt=0, le=limits.CONTEXT_TOKENS)]


class Trials(Record, frozen=True, kw_only=True):
    """A question to a worker: who runs the ops of this block at these points (ascending lengths).

    The points differ in their context alone, and name the block; `subject` is its short form where
    `shortened` says so.
    """

    subject: Recipe
    points: tuple[Point, ...]
    budget: Budget
    shortened: Shortened | None = None

    @property
    def key(self) -> str:
        """Names the block and the conditions."""
        return f"{self.points[0].block_digest}-{self.points[0].conditions().label()}"

    def label(self) -> str:
        """`transformer prefill b1`, for messages."""
        point = self.points[0]
        return f"{point.block} {point.phase} b{point.batch}"


class Trial(Record, frozen=True, kw_only=True):
    """One challenger of an incumbent at one length in one process (0 or 1).

    `hot_s` and `cold_s` are seconds of the op alone, summed over its calls in one call of the
    block; `log_ratio` is log(block with the challenger / block with the incumbent), negative where
    the challenger is faster, `error` its standard error over `pairs` alternating pairs. Both are
    None where the block was not timed.
    """

    context: Tokens
    process: Count
    provider: str
    incumbent: str
    outcome: TrialOutcome
    hot_s: Time | None = None
    cold_s: Time | None = None
    incumbent_hot_s: Time | None = None
    incumbent_cold_s: Time | None = None
    log_ratio: Annotated[float, Meta(ge=-limits.LOG_RATIO, le=limits.LOG_RATIO)] | None = None
    error: Annotated[float, Meta(ge=0, le=limits.LOG_RATIO)] | None = None
    pairs: Count = 0
    detail: str | None = None


class OpChoice(Record, frozen=True, kw_only=True):
    """What one process found for one op at one length; `share` is of the block's time."""

    context: Tokens
    op: str
    incumbent: str
    provider: str
    share: Share
    trials: tuple[Trial, ...] = ()


class DisabledPass(Record, frozen=True, kw_only=True):
    """A pass that killed its process on the machine `environment`, where it is not tried again."""

    name: PassName
    environment: str
    detail: str


class Span(Record, frozen=True, kw_only=True):
    """Contexts above `above` (None: from the shortest) up to `up_to` (None: to the longest)."""

    provider: str
    above: Edge | None = None
    up_to: Edge | None = None

    def holds(self, context: int) -> bool:
        """Whether a context lies in it."""
        return (self.above is None or context > self.above) and (
            self.up_to is None or context <= self.up_to
        )


class Decision(Record, frozen=True, kw_only=True):
    """Who runs one op of one block, under all executions of these conditions.

    `providers` and `shares` belong to `contexts`, the lengths at which it was decided; `spans` say
    the same for every length. `disagreed` are the lengths at which two processes differed, where
    the incumbent stays. `shortened` says how many of the block's layers it was decided on, where
    not on all. Raises ValueError where lengths have not one provider and share each.
    """

    block: str
    block_digest: str
    conditions: Conditions
    op: str
    incumbent: str
    contexts: Annotated[tuple[Tokens, ...], Meta(min_length=1)]
    providers: tuple[str, ...]
    shares: tuple[Share, ...]
    spans: Annotated[tuple[Span, ...], Meta(min_length=1)]
    trials: tuple[Trial, ...] = ()
    disagreed: tuple[Tokens, ...] = ()
    shortened: Shortened | None = None
    environment: str
    decided_unix_s: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not len(self.contexts) == len(self.providers) == len(self.shares):
            raise ValueError("a decision needs one provider and one share for each length")

    @property
    def agreed(self) -> bool:
        """Whether both processes found the same at every length."""
        return not self.disagreed

    def provider(self, context: int) -> str:
        """Who runs the op at this context; the incumbent where no span holds."""
        held = (span.provider for span in self.spans if span.holds(context))
        return next(held, self.incumbent)

    def holds_for(self, point: Point, device: str) -> bool:
        """Whether it speaks of this point's block and conditions, whatever the execution."""
        return self.block_digest == point.block_digest and self.holds_under(
            point.conditions(device)
        )

    def holds_under(self, conditions: Conditions) -> bool:
        """Whether it was made for these conditions, whatever the execution and the swept axes."""
        free: dict[str, Any] = {"execution": conditions.execution, "context": conditions.context}
        if conditions.batch is None:
            free["batch"] = None
        return structs.replace(self.conditions, **free) == conditions


def providers_at(decisions: Iterable[Decision], point: Point, device: str) -> dict[str, str]:
    """Op -> provider that the decisions name for this point.

    Of a batch that nothing was decided for those of the nearest one hold.
    """
    nearest: dict[str, tuple[float, str]] = {}
    for found in decisions:
        batch = found.conditions.batch or point.batch
        if found.holds_for(structs.replace(point, batch=batch), device):
            far = abs(math.log(batch / point.batch))
            if found.op not in nearest or far < nearest[found.op][0]:
                nearest[found.op] = far, found.provider(point.context)
    return {op: provider for op, (_, provider) in nearest.items()}


def decision_rows(decisions: Iterable[Decision]) -> list[dict[str, Any]]:
    """One row per trial, with the decision it belongs to: for tables and exports.

    `ratio` is the block's time with the challenger over that with the incumbent, `ratio_error` its
    standard error; an op nobody challenged has one row without a challenger.
    """
    return [row for decision in decisions for row in _rows(decision)]


def _rows(decision: Decision) -> list[dict[str, Any]]:
    conditions = decision.conditions
    head = {
        "block": decision.block,
        "phase": conditions.phase,
        "batch": conditions.batch,
        "dtype": conditions.dtype,
        "op": decision.op,
        "incumbent": decision.incumbent,
        "decided": spans_text(decision.spans),
        "agreed": decision.agreed,
        "layers": decision.shortened and decision.shortened.layers,
        "of_layers": decision.shortened and decision.shortened.whole,
    }
    if not decision.trials:
        return [head]
    shares = dict(zip(decision.contexts, decision.shares, strict=True))
    return [
        head
        | {
            "context": trial.context,
            "process": trial.process,
            "share": shares.get(trial.context),
            "challenger": trial.provider,
            "against": trial.incumbent,
            "outcome": trial.outcome,
            "ratio": None if trial.log_ratio is None else math.exp(trial.log_ratio),
            "ratio_error": trial.error,
            "pairs": trial.pairs,
            "op_hot_s": trial.hot_s,
            "op_cold_s": trial.cold_s,
            "against_hot_s": trial.incumbent_hot_s,
            "against_cold_s": trial.incumbent_cold_s,
            "detail": trial.detail,
        }
        for trial in decision.trials
    ]


def spans_text(spans: tuple[Span, ...]) -> str:
    """`torch up to 2,896, ssmprof above`; the provider alone where it runs everywhere."""
    if len(spans) == 1:
        return spans[0].provider
    parts = [
        f"{span.provider} up to {int(span.up_to):,}" if span.up_to else f"{span.provider} above"
        for span in spans
    ]
    return ", ".join(parts)
