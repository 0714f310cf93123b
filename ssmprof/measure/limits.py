"""What is not worth another death: points beyond two that lacked room or time, and fatal passes.

The first failing context of a curve is a fact, one larger context is still tried in case the first
death was an accident, and what lies beyond is skipped with the prediction that explains it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from msgspec import structs

from ssmprof.records import Failure, FailureReason, Job, Outcome, Point
from ssmprof.units import format_bytes, format_context

# Both grow with the context; a crash or an unsupported shape says nothing about a longer one.
_GROWING: tuple[FailureReason, ...] = ("out-of-memory", "timeout")
_WORDS = {"out-of-memory": "ran out of memory", "timeout": "ran past the time limit"}
_ENOUGH = 2

Curve = tuple[object, ...]


def _curve(point: Point) -> Curve:
    """Points that differ in context alone share a curve."""
    return (
        point.block_digest, point.phase, point.batch, point.dtype, point.execution, point.logits,
        point.seed,
    )  # fmt: skip


class Limits:
    """Remembers failures of this run, earlier sessions included, and judges what comes next."""

    def __init__(self, known: Iterable[Outcome] = ()) -> None:
        self._failed: dict[tuple[Curve, str], list[int]] = defaultdict(list)
        for outcome in known:
            self.learn(outcome)

    def learn(self, outcome: Outcome) -> None:
        """Note an outcome."""
        if isinstance(outcome, Failure) and outcome.reason in _GROWING:
            self._failed[_curve(outcome.point), outcome.reason].append(outcome.point.context)

    def verdict(self, point: Point, predicted_bytes: int | None = None) -> str | None:
        """Why the point is skipped, or None where it is worth trying."""
        for reason in _GROWING:
            failed = self._failed.get((_curve(point), reason), [])
            shorter = sorted({context for context in failed if context < point.context})
            if len(shorter) >= _ENOUGH:
                listed = " and ".join(map(format_context, shorter[:2]))
                text = f"{listed} tokens {_WORDS[reason]}"
            elif failed.count(point.context) >= _ENOUGH:
                text = f"{format_context(point.context)} tokens {_WORDS[reason]} in two rounds"
            else:
                continue
            if predicted_bytes is not None:
                text += f"; predicted: {format_bytes(predicted_bytes)}"
            return text
        return None


class Spared:
    """Passes that have killed a worker in this sweep, and are not asked for again.

    A profiler that crashes takes the process along, but the latency was kept before. In the pass
    over the parts the profiler is blamed first, since the parts can do without it.
    """

    def __init__(self) -> None:
        self._fatal: set[str] = set()

    def blame(self, stage: str, job: Job) -> None:
        """Note that a worker died in this pass of this job."""
        profiled = stage == "parts" and job.passes.cupti and "cupti" not in self._fatal
        self._fatal.add("cupti" if profiled else stage)

    def of(self, job: Job) -> Job:
        """The job without the passes that are spared."""
        if not self._fatal:
            return job
        asked = job.passes
        passes = structs.replace(
            asked,
            parts=asked.parts and "parts" not in self._fatal,
            cupti=asked.cupti and "cupti" not in self._fatal,
            energy=asked.energy and "energy" not in self._fatal,
            host=asked.host and "host" not in self._fatal,
            memory="off" if "memory" in self._fatal and asked.memory == "block" else asked.memory,
        )
        return structs.replace(job, passes=passes)
