"""A run's contenders as a server's models: what fits beside their weights, and what users get.

The workload is made, and its parameters are told with the result: whoever has a trace replays it
(`ssmprof serving replay`).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from ssmprof.errors import ConfigError
from ssmprof.models.recipe import Recipe
from ssmprof.records import Run
from ssmprof.serving.capacity import Asked, Capacity, capacities, pool_of
from ssmprof.serving.generator import Parameters, described, generate
from ssmprof.serving.requests import Request
from ssmprof.serving.rules import engines
from ssmprof.serving.service import Limits, limits_of, serve
from ssmprof.serving.simulator import Server
from ssmprof.serving.steps import Surface, of_run

UTILIZATION = 0.9  # of the device's memory, as engines take it
LIMITS = "ttft=500ms,tpot=50ms"
LOADS = tuple(2.0 ** (step / 2) for step in range(-4, 29))  # factors on one request a second
_REQUESTS = 150
_FEW = 0.5  # share within the limits below which no higher load is looked at
_SHARE = 4  # prompts reach to this part of the longest length that was measured


class Fits(Struct, frozen=True, kw_only=True):
    """What fits of one contender; or why that is not known."""

    model: str
    rows: tuple[Capacity, ...] = ()
    why_not: str | None = None


class Offered(Struct, frozen=True, kw_only=True):
    """Share of requests within the limits, by requests per second; and the step times held."""

    model: str
    shares: tuple[tuple[float, float], ...]
    held: int

    @property
    def most(self) -> float | None:
        """The highest rate at which nine of ten requests are within; None where none is."""
        good = [rate for rate, share in self.shares if share >= 0.9]
        return max(good, default=None)


class Workload(Struct, frozen=True, kw_only=True):
    """What is served: parameters in words, the limits, and what came of it."""

    parameters: str
    prompts: int
    prompt_tokens: int
    answer_tokens: int
    limits: str
    offered: tuple[Offered, ...]


def fits(run: Run, contexts: Sequence[int]) -> list[Fits]:
    """Sequences that fit by each engine's rules in the memory of the run's device."""
    memory = next((one.memory_bytes for one in run.environments.values() if one.memory_bytes), None)
    found: list[Fits] = []
    for block in run.scenario.blocks:
        if memory is None or not isinstance(block, Recipe):
            continue
        try:
            pool = pool_of(block, int(UTILIZATION * memory), 1, "bfloat16")
            asked = Asked(pool_bytes=pool, longest_tokens=max(contexts))
            latest = {one.name: one for one in engines()}
            rows = [
                row for one in latest.values() for row in capacities(block, one, asked, contexts)
            ]
        except ConfigError as error:
            found.append(Fits(model=block.name, why_not=str(error.what)))
        else:
            found.append(Fits(model=block.name, rows=tuple(rows)))
    return found


def offered(run: Run) -> Workload | None:
    """Goodput of every contender over load; None where no decode steps of batches were measured."""
    names = [block.name for block in run.scenario.blocks]
    try:
        surfaces = [one for one in of_run(run, names, None, True) if len(one.decodes) > 1]
    except ConfigError:
        return None
    if not surfaces:
        return None
    longest = min(max(one.prefills) for one in surfaces)
    made = Parameters(
        sessions=_REQUESTS, turns=1, systems=0,
        user_tokens=max(1, longest // (2 * _SHARE)), output_tokens=max(1, longest // 64),
        spread=0.5, branch=0.0, sessions_per_s=1.0,
    )  # fmt: skip
    requests = generate(made).requests
    return Workload(
        parameters=described(made),
        prompts=len(requests),
        prompt_tokens=made.user_tokens,
        answer_tokens=made.output_tokens,
        limits=LIMITS,
        offered=tuple(_offered(one, requests, limits_of(LIMITS)) for one in surfaces),
    )


def _offered(surface: Surface, requests: Sequence[Request], limits: Limits) -> Offered:
    """Loads upwards until nobody is within the limits any more."""
    server = Server(surface, None, max(surface.decodes))
    shares: list[tuple[float, float]] = []
    for load in LOADS:
        row = serve(surface.name, requests, server, limits, load=load)
        shares.append((row.rate_per_s or load, row.goodput_share or 0.0))
        if shares[-1][1] < _FEW:
            break
    return Offered(model=surface.name, shares=tuple(shares), held=surface.held)
