"""The simulator against the loop: medians of what users see, predicted and measured.

For each contender and number of slots a made trace of requests arrives at such a rate that, as
simulated, half of the slots are in use. The simulator gets its step times from a run, and
once more from the loop's own calls timed one by one: the first says how far a prediction from a run
can be trusted, the second how far the rules of the simulator can.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import torch
from msgspec import Struct

from ssmprof.doctor.accuracy.bench import Quantity, Report
from ssmprof.engine.calls import Calls, served
from ssmprof.engine.loop import Came, Loop
from ssmprof.engine.slots import Slots
from ssmprof.models.recipe import Recipe
from ssmprof.scalars import Dtype, Phase
from ssmprof.serving.requests import Request
from ssmprof.serving.simulator import Server, simulate
from ssmprof.serving.steps import Surface

BAR = 0.1  # of the measured median
USED = 0.5  # of the slots, on average, as simulated
_ENDED = "the command ended before this contender was served"
_WARM = 4  # requests per slot that are served before, all at once, to learn what the host takes
_SLOWER = 1.05  # step times of which a missed median is told, too: how much depends on them
_TIMES = 5  # readings of a call that is timed by itself


class Setting(Struct, frozen=True, kw_only=True):
    """What is served: so many requests, prompts in multiples of `grid_tokens` up to `longest`.

    Outputs are drawn from half to one and a half times `output_tokens`.
    """

    slots: tuple[int, ...] = (8, 64)
    requests: int = 400
    chunk_tokens: int = 1024
    grid_tokens: int = 256
    longest: int = 1792
    output_tokens: int = 64
    seed: int = 0

    @property
    def rows(self) -> int:
        """Tokens that a slot must hold."""
        return self.longest + 3 * self.output_tokens // 2 + 1


class Contender(Struct, frozen=True, kw_only=True):
    """A block, who runs its ops in each phase, and its surface of a run, if there is one."""

    recipe: Recipe
    dtype: Dtype = "bfloat16"
    providers: dict[Phase, dict[str, str]] = {}
    surface: Any = None


def prove(
    contenders: Sequence[Contender],
    setting: Setting,
    device: str,
    name: str,
    folder: Path,
    say: Callable[[str], object] = print,
) -> Report:
    """Serve on a `device` called `name`, simulate, compare; serving.json in the folder is written
    after each contender.

    Raises ConfigError for a block the loop cannot serve; OSError if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if device == "cpu":  # as a sweep does: a thread that waits its turn holds up all others
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - 1))
    began = time.perf_counter()
    found = {one.recipe.name: missing(one, setting) for one in contenders}
    report = _written(folder, name, began, found)
    for one in contenders:
        start = time.perf_counter()
        loop = ready(one, setting, device)
        say(f"{one.recipe.name}: calls made ready in {time.perf_counter() - start:.1f} s")
        mine: list[Quantity] = []
        for quantity in held_against(one, setting, loop, say):
            mine.append(quantity)
            shown = "n/a" if quantity.value is None else f"{quantity.value:.1%}"
            say(f"{quantity.name}: {shown} (bar {quantity.bar:.0%}); {quantity.how}")
        found[one.recipe.name] = mine
        report = _written(folder, name, began, found)
    return report


def missing(one: Contender, setting: Setting) -> list[Quantity]:
    """The quantities of a contender before they are measured: each keeps its place."""
    return [
        _quantity(what, one.recipe.name, slots, source, None, "not measured", _ENDED)
        for slots in setting.slots
        for source in _sources(one)
        for what in ("TTFT", "TPOT")
    ]


def _sources(one: Contender) -> list[str]:
    return ["its own calls"] if one.surface is None else ["the run", "its own calls"]


def _written(
    folder: Path, name: str, began: float, found: Mapping[str, Sequence[Quantity]]
) -> Report:
    """serving.json as far as it is known."""
    report = Report(
        device=name,
        torch=str(torch.__version__),
        seconds=time.perf_counter() - began,
        quantities=tuple(quantity for mine in found.values() for quantity in mine),
    )
    text = msgspec.json.format(msgspec.json.encode(report), indent=2)
    (folder / "serving.json").write_bytes(text + b"\n")
    return report


def ready(one: Contender, setting: Setting, device: str) -> Loop:
    """The loop of a contender, with every call captured that it may need."""
    model = served(one.recipe, device, one.dtype)
    calls = Calls(model, Slots(model, max(setting.slots), setting.rows), one.providers)
    loop = Loop(calls, chunk_tokens=setting.chunk_tokens, grid_tokens=setting.grid_tokens)
    loop.prepare(made(setting, setting.requests))
    return loop


def held_against(
    one: Contender, setting: Setting, loop: Loop, say: Callable[[str], object]
) -> Iterable[Quantity]:
    """Serve and simulate the same requests, once for each number of slots."""
    own = timed(loop.calls, setting)
    request_s = moved_s(loop.calls, setting)
    known = {"the run": one.surface, "its own calls": own}
    surfaces = {source: known[source] for source in _sources(one)}
    for slots in setting.slots:
        loop.most = slots
        host_s = waited_s(loop, setting)
        say(
            f"{one.recipe.name}: with {slots} slots the host takes {host_s * 1e6:.0f} us between "
            f"two iterations, and a request {request_s * 1e6:.0f} us to get its slot and leave it"
        )
        servers = {
            source: Server(
                surface, None, slots, setting.chunk_tokens, setting.grid_tokens, host_s, request_s
            )
            for source, surface in surfaces.items()
        }
        requests = at_load(made(setting, setting.requests), next(iter(servers.values())), slots)
        came = loop.serve(requests)
        for source, server in servers.items():
            yield from _compared(one.recipe.name, slots, source, requests, came, server)


def waited_s(loop: Loop, setting: Setting) -> float:
    """Seconds of an iteration beside its calls, the median while the slots are in use."""
    asked = [one._replace(arrival_s=0.0) for one in made(setting, _WARM * loop.most)]
    came = loop.serve(asked)
    waits = (wall - busy for wall, busy in zip(came.wall_s, came.device_s, strict=True))
    return max(0.0, median(waits))


def made(setting: Setting, count: int) -> list[Request]:
    """Requests that come one a second on average."""
    draw, at, found = random.Random(setting.seed), 0.0, list[Request]()
    for _ in range(count):
        at += draw.expovariate(1.0)
        prompt = setting.grid_tokens * draw.randint(1, setting.longest // setting.grid_tokens)
        half = setting.output_tokens // 2
        found.append(Request(at, prompt, draw.randint(half, 3 * half)))
    return found


def timed(calls: Calls, setting: Setting) -> Surface:
    """Step times of the calls by themselves, over the batches and lengths that are served."""
    most, step = max(setting.slots), setting.chunk_tokens
    batches = range(1, most + 1) if calls.graphs else powers_of_two(most)
    contexts = sorted({setting.grid_tokens, step, setting.longest, setting.rows - 2})
    decodes: dict[int, dict[int, float]] = {}
    for batch in batches:
        for context in contexts:
            call = calls.step(batch, context + 1)
            decodes.setdefault(batch, {})[context] = _median_s(
                call, calls.graphs, lambda context=context: calls.slots.stand(context)
            )
    grid, prefills = setting.grid_tokens, dict[int, float]()
    for end in range(grid, setting.longest + 1, grid):
        if end <= step or end == setting.longest or (end - step) % step == 0:
            prefills[end] = _median_s(
                calls.chunk(max(0, end - step), min(end, step)), calls.graphs, lambda: None
            )
    return Surface("own", prefills, decodes, "the loop's own calls", True, step)


def powers_of_two(most: int) -> list[int]:
    """Batches up to `most`, which is the last one whatever it is."""
    return sorted({min(most, 2**k) for k in range(most.bit_length() + 1)})


def moved_s(calls: Calls, setting: Setting) -> float:
    """Seconds to copy a prompt's caches into a slot, and those of another one into its place."""
    tokens = setting.grid_tokens * (1 + setting.longest // setting.grid_tokens) // 2
    taken: list[float] = []
    for _ in range(_TIMES + 1):
        start = time.perf_counter()
        calls.slots.put(calls.slots.count - 1, calls.alone, tokens)
        calls.slots.move(calls.slots.count - 1, 0, tokens)
        if calls.graphs:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return median(taken[1:])


def _median_s(call: Callable[[], object], cuda: bool, before: Callable[[], object]) -> float:
    taken: list[float] = []
    for _ in range(_TIMES + 1):
        before()
        if cuda:
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            call()
            last.record()
            torch.cuda.synchronize()
            taken.append(first.elapsed_time(last) / 1e3)
        else:
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return median(taken[1:])


def at_load(base: Sequence[Request], server: Server, slots: int) -> list[Request]:
    """The requests so fast that, as simulated, a share of the slots is in use on average."""
    low, high = 2.0**-10, 2.0**20
    for _ in range(30):
        load = (low * high) ** 0.5
        told = simulate(base, server, load=load)
        stays = (
            first + (between * (one.output_tokens - 1) if between == between else 0.0)
            for one, first, between in zip(base, told.ttft_s, told.tpot_s, strict=True)
        )
        used = sum(stays) / told.ends_s
        low, high = (load, high) if used < USED * slots else (low, load)
    return [Request(one.arrival_s / low, one.prompt_tokens, one.output_tokens) for one in base]


def _compared(
    name: str, slots: int, source: str, requests: Sequence[Request], came: Came, server: Server
) -> list[Quantity]:  # fmt: skip
    span = requests[-1].arrival_s - requests[0].arrival_s
    rate = (len(requests) - 1) / span
    told = simulate(requests, server)
    later = simulate(requests, replace(server, surface=server.surface.slower(_SLOWER)))
    found: list[Quantity] = []
    for what, mine, slower, measured in (
        ("TTFT", told.ttft_s, later.ttft_s, came.ttft_s),
        ("TPOT", told.tpot_s, later.tpot_s, came.tpot_s),
    ):
        ours, longer, theirs = (
            median(t for t in times if t == t) for times in (mine, slower, measured)
        )
        value = abs(ours / theirs - 1)
        how = (
            f"{len(requests)} requests, {rate:.3g} per second, at most {came.largest_batch} at "
            f"once, {came.iterations:,} iterations; simulated {ours * 1e3:.3g} ms, measured "
            f"{theirs * 1e3:.3g} ms; host {server.host_s * 1e6:.0f} us per iteration, "
            f"{server.request_s * 1e6:.0f} us per request"
            f"{paces(came, server)}"
        )
        reason = None
        if value > BAR:
            reason = (
                f"the simulator is {'above' if ours > theirs else 'below'} what was measured; step "
                f"times {_SLOWER - 1:.0%} longer make it {longer / ours - 1:+.0%}"
            )
        found.append(_quantity(what, name, slots, source, value, how, reason))
    return found


def paces(came: Came, server: Server) -> str:
    """How long the calls of iterations took, over what the step times say of the same work: a rule
    that is wrong shows elsewhere."""
    spent = {"only step": [0.0, 0.0], "read prompts": [0.0, 0.0]}
    for work, device_s in zip(came.works, came.device_s, strict=True):
        told_s = server.surface.decode(work.batch, work.context) if work.batch else 0.0
        told_s += sum(server.surface.chunk(done, tokens) for done, tokens in work.chunks)
        both = spent["read prompts" if work.chunks else "only step"]
        both[0] += device_s
        both[1] += told_s
    return "".join(
        f"; calls of iterations that {what} take {took / told:.2f} of their step times"
        for what, (took, told) in spent.items()
        if told
    )


def _quantity(
    what: str, name: str, slots: int, source: str, value: float | None, how: str,
    reason: str | None,
) -> Quantity:  # fmt: skip
    return Quantity(
        name=f"{what}, median, {name}, {slots} slots, step times of {source}",
        value=value, bar=BAR, unit="of the measured median", how=how, reason=reason,
    )  # fmt: skip
