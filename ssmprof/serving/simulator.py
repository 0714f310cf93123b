"""A server of one model, iteration by iteration: continuous batching with chunked prefill.

In every iteration each running sequence makes one token, and prompts that were admitted are
computed in the order they came, as far as the token budget goes. What is assumed stands in
`ASSUMED`, and is printed with every result.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ssmprof.serving.requests import Request
from ssmprof.serving.steps import Surface

ASSUMED = (
    "first come, first served; a sequence gets the memory of its whole length when it is admitted; "
    "none is preempted",
    "an iteration takes what a decode step of its batch at its mean context takes, and beside it "
    "what each of its chunks of prompts takes; nothing is gained by doing both at once",
    "a first token comes with the end of its prompt, the others one per iteration",
    "reused prefixes are those of the cache by itself, in the order of arrival, never in flight",
)
# Steps in a row take the time of their mean context as long as it grows by less than this.
_ALIKE = 0.01


@dataclass(frozen=True)
class Room:
    """Memory for caches in units of an engine, and how many a sequence of so many tokens takes."""

    units: int
    needs: Callable[[int], int]


@dataclass(frozen=True)
class Server:
    """Step times, memory, and how much is done at once. `room` None is memory without end.

    A chunk that does not end its prompt ends on a multiple of `grid_tokens`, as with vLLM's prefix
    caching of states. `host_s` is what the host needs between two iterations, `request_s` what a
    request adds to the one that ends its prompt: its caches are put in their place.
    """

    surface: Surface
    room: Room | None = None
    max_batch: int | None = None
    chunk_tokens: int = 2_048
    grid_tokens: int = 1
    host_s: float = 0.0
    request_s: float = 0.0

    def __post_init__(self) -> None:
        if self.chunk_tokens < self.grid_tokens:
            raise ValueError("a chunk must reach the next end on the grid")


@dataclass
class Served:
    """What became of each request, in the order of arrival; seconds from its arrival on.

    NaN stands for a request too long for the memory, and for the time between tokens of one that
    made a single one. `busy_s` is the sum of all iterations, `ends_s` when the last request left.
    """

    ttft_s: list[float] = field(default_factory=list[float])
    tpot_s: list[float] = field(default_factory=list[float])
    rejected: int = 0
    iterations: int = 0
    busy_s: float = 0.0
    ends_s: float = 0.0
    largest_batch: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0


@dataclass
class Patience:
    """Ends a simulation early: once more than `most` first tokens came after `limit_s`."""

    limit_s: float
    most: int

    def ends(self, ttft_s: float) -> bool:
        """Whether this one was too many."""
        self.most -= ttft_s > self.limit_s
        return self.most < 0


@dataclass
class _Prompt:
    """A request that is being computed."""

    index: int
    tokens: int
    done: int
    units: int


class _Run:
    """One simulation: the clock, who waits, who is computed and who makes tokens."""

    def __init__(
        self, requests: Sequence[Request], server: Server, arrivals: list[float],
        reused: list[int], patience: Patience | None,
    ) -> None:  # fmt: skip
        self.requests, self.server, self.arrivals, self.reused = requests, server, arrivals, reused
        self.patience, self.ended = patience, False
        count = len(requests)
        self.out = Served([math.nan] * count, [math.nan] * count)
        self.now, self.step = arrivals[0], 0
        self.next = 0
        self.waiting: deque[int] = deque()
        self.prompts: deque[_Prompt] = deque()
        self.running: list[tuple[int, int, int]] = []  # (last step, index, units)
        self.first_s = [0.0] * count
        self.used = 0
        self.offset = 0  # sum over running sequences of their context less the step

    def done(self) -> bool:
        """Whether everything that came has left, or patience has ended."""
        self._admit()
        return self.ended or not (self.prompts or self.running)

    def advance(self) -> None:
        """The next iteration, or several that differ in nothing but a little context."""
        if self.prompts:
            self._mixed()
        else:
            self._steps()
        while self.running and self.running[0][0] <= self.step:
            _, index, units = heapq.heappop(self.running)
            self._leave(index, units)

    def _admit(self) -> None:
        while True:
            while self.next < len(self.arrivals) and self.arrivals[self.next] <= self.now:
                self._arrive(self.next)
                self.next += 1
            while self.waiting and self._starts(self.waiting[0]):
                self.waiting.popleft()
            if self.prompts or self.running or self.next == len(self.arrivals):
                return
            self.now = self.arrivals[self.next]  # idle until somebody comes

    def _arrive(self, index: int) -> None:
        room = self.server.room
        if room is not None and self._units(index) > room.units:
            self.out.rejected += 1
        else:
            self.waiting.append(index)

    def _units(self, index: int) -> int:
        room, one = self.server.room, self.requests[index]
        return room.needs(one.prompt_tokens + one.output_tokens) if room is not None else 0

    def _starts(self, index: int) -> bool:
        server, units = self.server, self._units(index)
        if server.room is not None and self.used + units > server.room.units:
            return False
        if server.max_batch is not None and self._at_once() >= server.max_batch:
            return False
        self.used += units
        tokens = self.requests[index].prompt_tokens
        self.prompts.append(_Prompt(index, tokens, self.reused[index], units))
        return True

    def _at_once(self) -> int:
        return len(self.prompts) + len(self.running)

    def _decode_s(self, ahead: float = 0.0) -> float:
        batch = len(self.running)
        if not batch:
            return 0.0
        self.out.largest_batch = max(self.out.largest_batch, batch)
        return self.server.surface.decode(batch, self.offset / batch + self.step + ahead)

    def _mixed(self) -> None:
        """A decode step of those that run, and chunks of prompts up to the token budget."""
        took = self._decode_s()
        budget = max(1, self.server.chunk_tokens - len(self.running))
        finished: list[_Prompt] = []
        while self.prompts and budget > 0:
            prompt = self.prompts[0]
            tokens = self._piece(prompt, budget)
            if not tokens:
                break
            took += self.server.surface.chunk(prompt.done, tokens)
            prompt.done += tokens
            budget -= tokens
            self.out.prompt_tokens += tokens
            if prompt.done == prompt.tokens:
                finished.append(self.prompts.popleft())
        self._pass(1, took + self.server.host_s + len(finished) * self.server.request_s)
        for prompt in finished:
            self._first(prompt)

    def _piece(self, prompt: _Prompt, budget: int) -> int:
        """Tokens of its next chunk; 0 where the budget does not reach the next end on the grid."""
        left, grid = prompt.tokens - prompt.done, self.server.grid_tokens
        if left <= budget:
            return left
        return max(0, (prompt.done + budget) // grid * grid - prompt.done)

    def _steps(self) -> None:
        """Decode steps until somebody leaves, somebody may come, or the context has grown."""
        batch = len(self.running)
        count = self.running[0][0] - self.step
        count = min(count, 1 + int(_ALIKE * (self.offset / batch + self.step)))
        each = self._decode_s((count - 1) / 2) + self.server.host_s
        if not self.waiting and self.next < len(self.arrivals):
            until = self.arrivals[self.next] - self.now
            count = min(count, max(1, math.ceil(until / each)))
        self._pass(count, count * each)

    def _pass(self, steps: int, took: float) -> None:
        self.step += steps
        self.now += took
        self.out.iterations += steps
        self.out.busy_s += took
        self.out.output_tokens += steps * len(self.running)

    def _first(self, prompt: _Prompt) -> None:
        one, index = self.requests[prompt.index], prompt.index
        self.first_s[index] = self.now
        self.out.ttft_s[index] = self.now - self.arrivals[index]
        if self.patience is not None and self.patience.ends(self.out.ttft_s[index]):
            self.ended = True
        self.out.output_tokens += 1
        if one.output_tokens <= 1:
            self.used -= prompt.units
            self.out.ends_s = self.now
            return
        self.offset += one.prompt_tokens + 1 - self.step
        heapq.heappush(self.running, (self.step + one.output_tokens - 1, index, prompt.units))

    def _leave(self, index: int, units: int) -> None:
        one = self.requests[index]
        self.used -= units
        self.offset -= one.prompt_tokens + 1 - (self.step - one.output_tokens + 1)
        self.out.tpot_s[index] = (self.now - self.first_s[index]) / (one.output_tokens - 1)
        self.out.ends_s = self.now


def simulate(
    requests: Sequence[Request],
    server: Server,
    *,
    load: float = 1.0,
    reused: list[int] | None = None,
    progress: Callable[[int], None] | None = None,
    patience: Patience | None = None,
) -> Served:
    """Serve these requests, `load` times as fast as they came.

    Args:
        reused: tokens of each prompt that need not be computed.
        progress: called now and then with the number of requests that have come so far.
        patience: ends early; those not served by then have NaN for a first token.

    Raises:
        ConfigError: a step that was not measured.
    """
    start = requests[0].arrival_s
    arrivals = [(one.arrival_s - start) / load for one in requests]
    run = _Run(requests, server, arrivals, reused or [0] * len(requests), patience)
    turn = 0
    while not run.done():
        run.advance()
        turn += 1
        if progress is not None and turn % 1_000 == 0:
            progress(run.next)
    return run.out
