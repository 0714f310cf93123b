"""Memory per context by owner, the law behind it, and the longest context that fits.

The law is a line through the peaks of fresh processes: fixed bytes (weights, state) and bytes per
token (cache, activations, logits). Where it meets the capacity is a prediction and called so; what
ran and what failed is told beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ssmprof.analysis.findings import MemoryLaw, MemoryPoint
from ssmprof.records import Conditions, Environment, Failure, Measurement, Memory, Outcome

OWNERS = ("weights", "kv", "conv_state", "ssm_state", "logits", "activation_peak", "slack")


def points(conditions: Conditions, outcomes: Sequence[Outcome]) -> list[MemoryPoint]:
    """One point per block and context: the peak by owner, or why it did not fit."""
    found: dict[tuple[str, int], MemoryPoint] = {}
    for outcome in outcomes:
        key = (outcome.point.block, outcome.point.context)
        if isinstance(outcome, Failure):
            if outcome.reason in ("out-of-memory", "skipped") and key not in found:
                found[key] = MemoryPoint(
                    conditions=conditions,
                    block=key[0],
                    context=key[1],
                    fits=False,
                    peak_bytes=None,
                    parts={},
                    predicted_bytes=outcome.predicted_bytes or outcome.asked_bytes,
                    detail=outcome.detail,
                )
        elif outcome.memory is not None and (key not in found or not found[key].fits):
            found[key] = MemoryPoint(
                conditions=conditions,
                block=key[0],
                context=key[1],
                fits=True,
                peak_bytes=outcome.memory.allocator_peak_bytes,
                parts=parts(outcome.memory),
                predicted_bytes=outcome.memory.predicted_peak_bytes,
            )
    return sorted(found.values(), key=lambda point: (point.block, point.context))


def parts(memory: Memory) -> dict[str, int]:
    """Bytes per owner, those that are known and not zero."""
    values = {owner: getattr(memory, f"{owner}_bytes") for owner in OWNERS}
    return {owner: value for owner, value in values.items() if value}


def laws(
    found: Sequence[MemoryPoint],
    outcomes: Sequence[Outcome],
    environments: Mapping[str, Environment],
) -> list[MemoryLaw]:
    """The law of every block with at least two measured peaks."""
    ran = _ran(outcomes)
    capacity = _capacity(outcomes, environments)
    laws: list[MemoryLaw] = []
    by_block: dict[str, list[MemoryPoint]] = {}
    for point in found:
        by_block.setdefault(point.block, []).append(point)
    for block, mine in by_block.items():
        peaks = [(point.context, point.peak_bytes) for point in mine if point.peak_bytes]
        if len(peaks) < 2:
            continue
        fixed, slope = _line(peaks)
        failed = [point.context for point in mine if not point.fits]
        worst = max(abs(fixed + slope * context - peak) / peak for context, peak in peaks)
        laws.append(
            MemoryLaw(
                conditions=mine[0].conditions,
                block=block,
                fixed_bytes=fixed,
                bytes_per_token=slope,
                worst_residual=worst,
                capacity_bytes=capacity,
                fits_up_to=(capacity - fixed) / slope if capacity and slope >= 1 else None,
                measured_up_to=ran.get(block, 0),
                failed_at=min(failed, default=None),
            )
        )
    return laws


def _line(peaks: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Intercept and slope with the least relative residuals, so that short contexts count too."""
    weights = [1 / peak**2 for _, peak in peaks]
    total = sum(weights)
    x = sum(w * context for w, (context, _) in zip(weights, peaks, strict=True)) / total
    y = sum(w * peak for w, (_, peak) in zip(weights, peaks, strict=True)) / total
    rows = list(zip(weights, peaks, strict=True))
    spread = sum(w * (context - x) ** 2 for w, (context, _) in rows)
    slope = sum(w * (context - x) * (peak - y) for w, (context, peak) in rows) / spread
    return y - slope * x, slope


def _ran(outcomes: Sequence[Outcome]) -> dict[str, int]:
    found: dict[str, int] = {}
    for outcome in outcomes:
        if isinstance(outcome, Measurement):
            block = outcome.point.block
            found[block] = max(found.get(block, 0), outcome.point.context)
    return found


def _capacity(outcomes: Sequence[Outcome], environments: Mapping[str, Environment]) -> int | None:
    """Memory of the device; None on a CPU, whose memory is shared with everything else."""
    for outcome in outcomes:
        machine = environments.get(outcome.environment)
        if machine is not None and machine.kind == "cuda":
            return machine.memory_bytes
    return None
