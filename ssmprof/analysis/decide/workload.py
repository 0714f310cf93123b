"""A mix of requests on the run's own times: seconds, tokens per second and cost per contender.

A request is a prompt and an answer of so many tokens: its time is that of the prompt, and per token
of the answer that of a decode at the prompt's length. Times between measured lengths are
interpolated on log axes; nothing is extrapolated. The page computes the same from the same curves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from ssmprof.analysis.compare.answer import Answer
from ssmprof.analysis.compare.curve import between
from ssmprof.analysis.decide.question import gain
from ssmprof.analysis.findings import MemoryPoint
from ssmprof.errors import ConfigError
from ssmprof.units import format_bytes, format_context, format_time

CLOSE = 1e-6  # weights that add up to this of 1 are whole
Curve = dict[int, float]


class Workload(Struct, frozen=True, kw_only=True):
    """Prompts by length (weights add up to 1), tokens of an answer, limits and a price per hour."""

    mix: Mapping[int, float]
    answer_tokens: int = 0
    ttft_s: float | None = None
    memory_bytes: float | None = None
    price_per_hour: float | None = None


class Curves(Struct, frozen=True, kw_only=True):
    """What a contender takes by length: seconds of a prompt, of a token after it, peak bytes."""

    block: str
    prompt_s: Curve
    token_s: Curve
    peak_bytes: Curve


class Served(Struct, frozen=True, kw_only=True):
    """One contender under a workload, or why it is out."""

    block: str
    first_s: float | None = None
    request_s: float | None = None
    tokens_per_s: float | None = None
    cost_per_million: float | None = None
    out: str | None = None


def phases(answers: Sequence[Answer]) -> tuple[Answer, Answer | None] | None:
    """The first prefill of whole prompts, and the decode that differs in phase and logits alone."""
    prefill = next((one for one in answers if one.conditions.reads_whole), None)
    if prefill is None:
        return None
    wanted = replace(prefill.conditions, phase="decode", logits="none")
    decodes = (one for one in answers if one.conditions.phase == "decode")
    found = (one for one in decodes if replace(one.conditions, logits="none") == wanted)
    return prefill, next(found, None)


def curves(
    prefill: Answer, decode: Answer | None, memory: Iterable[MemoryPoint]
) -> tuple[Curves, ...]:
    """Every contender's curves."""
    peaks: dict[str, Curve] = {}
    for point in memory:
        if point.conditions == prefill.conditions and point.peak_bytes is not None:
            peaks.setdefault(point.block, {})[point.context] = float(point.peak_bytes)
    times = [_times(prefill), _times(decode) if decode else {}]
    return tuple(
        Curves(
            block=block,
            prompt_s=times[0][block],
            token_s=times[1].get(block, {}),
            peak_bytes=peaks.get(block, {}),
        )
        for block in prefill.contenders
        if block in times[0]
    )


def _times(answer: Answer) -> dict[str, Curve]:
    found: dict[str, Curve] = {}
    for one in answer.curves:
        found.setdefault(one.block, {})[one.context] = one.estimate.value
    return found


def whole(mix: Mapping[int, float]) -> dict[int, float]:
    """The mix, whose weights must add up to 1. Raises ConfigError."""
    total = math.fsum(mix.values())
    if not mix or any(weight <= 0 for weight in mix.values()):
        raise ConfigError("the mix is empty", fix="--mix 4K:70%,32K:30%")
    if abs(total - 1) > CLOSE:
        raise ConfigError(
            f"the mix adds up to {total * 100:g} %, not 100 %", fix="--mix 4K:70%,32K:30%"
        )
    return dict(mix)


def serve(found: Iterable[Curves], asked: Workload, batch: int = 1) -> list[Served]:
    """Every contender under a workload, the fastest whole request first, then those that are out.

    Raises ConfigError for a mix that does not add up.
    """
    mix = whole(asked.mix)
    served = [_served(one, mix, asked, batch) for one in found]
    return sorted(served, key=lambda one: (one.out is not None, one.request_s or math.inf))


def _served(one: Curves, mix: Mapping[int, float], asked: Workload, batch: int) -> Served:
    first_s = token_s = 0.0
    for context, weight in mix.items():
        prompt, token = between(one.prompt_s, context), between(one.token_s, context)
        if prompt is None or (asked.answer_tokens and token is None):
            why = f"no measurement at {format_context(context)}"
            return Served(block=one.block, out=why)
        first_s += weight * prompt
        token_s += weight * (token or 0.0)
    request_s = first_s + asked.answer_tokens * token_s
    prompt_tokens = math.fsum(weight * context for context, weight in mix.items())
    tokens = batch * (asked.answer_tokens or prompt_tokens)
    price = asked.price_per_hour
    return Served(
        block=one.block,
        first_s=first_s,
        request_s=request_s,
        tokens_per_s=tokens / request_s,
        cost_per_million=None if price is None else price / 3600 * request_s / tokens * 1e6,
        out=_out(one, mix, asked),
    )


def _out(one: Curves, mix: Mapping[int, float], asked: Workload) -> str | None:
    """The first limit that a contender breaks, from the shortest length on."""
    for context in sorted(mix):
        prompt = between(one.prompt_s, context)
        if asked.ttft_s is not None and prompt is not None and prompt > asked.ttft_s:
            return f"{format_time(prompt)} at {format_context(context)}"
        if asked.memory_bytes is not None:
            peak = between(one.peak_bytes, context)
            if peak is None:
                return f"memory at {format_context(context)} is not known"
            if peak > asked.memory_bytes:
                return f"{format_bytes(peak)} at {format_context(context)}"
    return None


def ahead(
    best: str, other: str, found: Iterable[Curves], asked: Workload,
    prefill: Answer, decode: Answer | None,
) -> bool:  # fmt: skip
    """Whether `best` is certainly faster than `other` over the workload.

    The difference is bounded length by length with the intervals of the answers; between measured
    lengths with the wider of both neighbours'.
    """
    mine = next(one for one in found if one.block == best)
    least = 0.0
    for context, weight in asked.mix.items():
        for answer, curve, times in (
            (prefill, mine.prompt_s, 1),
            (decode, mine.token_s, asked.answer_tokens),
        ):
            if answer is None or not times:
                continue
            time_s, low = between(curve, context), _bound(answer, best, other, context)
            if time_s is None or low is None:
                return False
            least += weight * times * time_s * (low - 1)
    return least > 0


def _bound(answer: Answer, best: str, other: str, context: int) -> float | None:
    """The least that `other` takes, as a multiple of `best`, at a length or at its neighbours."""
    pair = answer.pair(best, other)
    if pair is None:
        return None
    lengths = [one.context for one in pair.points]
    below = [one for one in lengths if one <= context][-1:]
    above = [one for one in lengths if one >= context][:1]
    if not below or not above:
        return None
    return min(gain(pair, other, one).interval[0] for one in (*below, *above))
