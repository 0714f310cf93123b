"""What users see of a simulated server: percentiles, goodput, and the load at which it breaks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec import Struct

from ssmprof.errors import ConfigError, nearest
from ssmprof.serving.requests import Request
from ssmprof.serving.simulator import Patience, Served, Server, simulate
from ssmprof.units import parse_duration

# A load breaks a server where fewer than this share of the requests stay within the limits.
WITHIN = 0.9
_OCTAVES = 10  # loads looked at: from the trace's own down or up by so many factors of two
_HALVINGS = 4  # of the octave in which a server breaks: to 4 %


@dataclass(frozen=True)
class Limits:
    """Seconds to the first token, and between tokens; None is no limit."""

    ttft_s: float | None = None
    tpot_s: float | None = None

    def met(self, served: Served) -> int:
        """Requests within both."""
        return sum(
            not math.isnan(first)
            and (self.ttft_s is None or first <= self.ttft_s)
            and (self.tpot_s is None or math.isnan(between) or between <= self.tpot_s)
            for first, between in zip(served.ttft_s, served.tpot_s, strict=True)
        )


class Service(Struct, frozen=True, kw_only=True):
    """What a trace's users get from one contender at one load.

    Times are seconds at 50, 90 and 99 % of the requests that were served; `rejected` were too long
    for the memory. `goodput_share` is the part of all requests within the limits. `breaks_at_load`
    is the highest load (as a factor on the trace's own) at which 90 % are: 0 where none is low
    enough, None where no limit is given or no load breaks it. `held` counts the times for which the
    nearest measured length or batch stood in.
    """

    model: str
    load: float
    requests: int
    rejected: int
    rate_per_s: float | None
    ttft_s_p50: float | None
    ttft_s_p90: float | None
    ttft_s_p99: float | None
    tpot_s_p50: float | None
    tpot_s_p90: float | None
    tpot_s_p99: float | None
    goodput_share: float | None
    goodput_per_s: float | None
    breaks_at_load: float | None
    breaks_at_rate_per_s: float | None
    prompt_tokens: int
    output_tokens: int
    reused_tokens: int
    busy_share: float
    largest_batch: int
    iterations: int
    duration_s: float
    held: int


def limits_of(text: str | None) -> Limits:
    """`ttft=500ms,tpot=50ms` -> limits. Raises ConfigError with the part at fault."""
    found: dict[str, float] = {}
    for part in text.split(",") if text else ():
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in ("ttft", "tpot"):
            raise ConfigError(f'--limit: unknown "{name[:40]}"{nearest(name, ("ttft", "tpot"))}')
        try:
            found[f"{name}_s"] = parse_duration(value)
        except ValueError as error:
            raise ConfigError(f"--limit: {error}", fix="--limit ttft=500ms,tpot=50ms") from None
    return Limits(**found)


def serve(
    name: str,
    requests: Sequence[Request],
    server: Server,
    limits: Limits,
    *,
    load: float = 1.0,
    reused: list[int] | None = None,
    breaks: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Service:
    """Serve a trace at one load. `breaks` is the load found by `breaking`."""
    before = server.surface.held
    served = simulate(requests, server, load=load, reused=reused, progress=progress)
    arriving_s = (requests[-1].arrival_s - requests[0].arrival_s) / load
    count = len(requests)
    rate = (count - 1) / arriving_s if arriving_s else None
    limited = limits != Limits()
    good = limits.met(served)
    return Service(
        model=name,
        load=load,
        requests=count,
        rejected=served.rejected,
        rate_per_s=rate,
        **_percentiles("ttft_s", served.ttft_s),
        **_percentiles("tpot_s", served.tpot_s),
        goodput_share=good / count if limited else None,
        goodput_per_s=good / served.ends_s if limited and served.ends_s else None,
        breaks_at_load=breaks,
        breaks_at_rate_per_s=None if breaks is None or rate is None else breaks * rate / load,
        prompt_tokens=served.prompt_tokens,
        output_tokens=served.output_tokens,
        reused_tokens=sum(reused or ()),
        busy_share=served.busy_s / served.ends_s if served.ends_s else 0.0,
        largest_batch=served.largest_batch,
        iterations=served.iterations,
        duration_s=served.ends_s,
        held=server.surface.held - before,
    )


def _percentiles(name: str, values: Sequence[float]) -> dict[str, float | None]:
    """Nearest ranks of those that are numbers."""
    known = sorted(value for value in values if not math.isnan(value))
    return {
        f"{name}_p{percent}": known[math.ceil(len(known) * percent / 100) - 1] if known else None
        for percent in (50, 90, 99)
    }


def breaking(
    requests: Sequence[Request],
    server: Server,
    limits: Limits,
    *,
    reused: list[int] | None = None,
    progress: Callable[[float, bool], None] | None = None,
) -> float | None:
    """The highest load at which enough requests stay within the limits, to 4 %.

    None where even a load of 2^10 keeps them, 0 where one of 2^-10 does not. `progress` hears of
    each load that was tried, and whether it holds.
    """
    most = int((1 - WITHIN) * len(requests))

    def holds(load: float) -> bool:
        patience = None if limits.ttft_s is None else Patience(limits.ttft_s, most)
        served = simulate(requests, server, load=load, reused=reused, patience=patience)
        enough = limits.met(served) >= WITHIN * len(requests)
        if progress is not None:
            progress(load, enough)
        return enough

    good, bad = _octave(holds)
    if good is None or bad is None:
        return good
    for _ in range(_HALVINGS):
        middle = math.sqrt(good * bad)
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return good


def _octave(holds: Callable[[float], bool]) -> tuple[float | None, float | None]:
    """A load that holds and the double of it that does not; 0 where none holds."""
    first = holds(1.0)
    for octave in range(1, _OCTAVES + 1):
        load = 2.0 ** (octave if first else -octave)
        if holds(load) != first:
            return (load / 2, load) if first else (load, load * 2)
    return (None, None) if first else (0.0, None)
