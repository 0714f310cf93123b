"""Continuous batching of one model by the rules of `serving.simulator`, on a clock.

An iteration is a step of all sequences that run, and beside it chunks of prompts in the order they
came, as far as the budget of tokens goes. Whoever waits is admitted as soon as a slot is free.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from ssmprof.engine.calls import Calls
from ssmprof.serving.requests import Request

_DOZE_S = 0.0002  # between looks at the clock while nobody is there


@dataclass
class Came:
    """What became of each request, in order of arrival: seconds, and tokens where there are any."""

    ttft_s: list[float] = field(default_factory=list[float])
    tpot_s: list[float] = field(default_factory=list[float])
    made: list[list[int]] = field(default_factory=list[list[int]])
    iterations: int = 0
    largest_batch: int = 0
    wall_s: list[float] = field(default_factory=list[float])  # of each iteration
    device_s: list[float] = field(default_factory=list[float])  # of its calls
    works: list[Work] = field(default_factory=list["Work"])  # what each iteration did


class Work(NamedTuple):
    """What an iteration did: a step of `batch` sequences of `context` tokens on average, and chunks
    of prompts, (tokens done before, tokens)."""

    batch: int
    context: float
    chunks: tuple[tuple[int, int], ...]


@dataclass
class _Running:
    index: int
    tokens: int
    left: int
    first_s: float


class Loop:
    """Serves requests with so many slots, of which `most` are used at once.

    A chunk that does not end its prompt ends on a multiple of `grid_tokens`. `clock` gives seconds,
    `doze` lets some pass.
    """

    def __init__(
        self,
        calls: Calls,
        *,
        chunk_tokens: int,
        grid_tokens: int = 1,
        clock: Callable[[], float] = time.perf_counter,
        doze: Callable[[float], object] = time.sleep,
    ) -> None:
        self.calls, self.chunk_tokens, self.grid_tokens = calls, chunk_tokens, grid_tokens
        self.clock, self.doze = clock, doze
        self.most = calls.slots.count  # at once
        self._cuda = calls.graphs

    def prepare(self, requests: Sequence[Request], *, batches: Sequence[int] = ()) -> None:
        """Capture what these requests may call, with so many at once. Nothing on a CPU."""
        self.calls.slots.prepare(self.calls.alone)
        if not self._cuda:
            return
        longest = max(one.prompt_tokens + one.output_tokens for one in requests)
        shortest = min(one.prompt_tokens for one in requests)
        rooms = {self.calls.room(at) for at in range(shortest + 1, longest + 2)}
        for batch in batches or range(1, self.calls.slots.count + 1):
            for rows in rooms:
                self.calls.step(batch, rows)
        prompts = {one.prompt_tokens for one in requests}
        ends = sorted(prompts | set(range(self.grid_tokens, max(prompts), self.grid_tokens)))
        for done in (0, *ends):
            for end in ends:
                whole = end - done in range(1, self.chunk_tokens + 1)
                if whole and (done == 0 or done % self.grid_tokens == 0):
                    self.calls.chunk(done, end - done)

    def serve(
        self, requests: Sequence[Request], prompts: Sequence[torch.Tensor] | None = None
    ) -> Came:
        """Serve requests as they come, in order of arrival.

        Args:
            prompts: token ids (prompt_tokens) of each, where the model has a vocabulary.
        """
        return _Run(self, requests, prompts).all()


class _Run:
    """One service: the clock, who waits, whose prompt is read and who runs."""

    def __init__(
        self, loop: Loop, requests: Sequence[Request], prompts: Sequence[torch.Tensor] | None
    ) -> None:
        self.loop, self.requests, self.prompts = loop, requests, prompts
        self.calls, self.slots = loop.calls, loop.calls.slots
        count = len(requests)
        self.out = Came([math.nan] * count, [math.nan] * count, [[] for _ in range(count)])
        self.next = 0
        self.waiting: deque[int] = deque()
        self.reading: deque[list[int]] = deque()  # [index, tokens done]
        self.running: list[_Running] = []
        self.events = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if loop._cuda else []

    def all(self) -> Came:
        """Until the last request has left."""
        self.began = self.loop.clock()
        self._wait()
        while self.next < len(self.requests) or self.waiting or self.reading or self.running:
            start = self.loop.clock()
            self._admit()
            if not (self.reading or self.running):
                self.loop.doze(_DOZE_S)
                continue
            self._iteration(start)
        return self.out

    def _now(self) -> float:
        return self.loop.clock() - self.began

    def _wait(self) -> None:
        if self.events:
            torch.cuda.synchronize()

    def _admit(self) -> None:
        now, start = self._now(), self.requests[0].arrival_s
        while self.next < len(self.requests):
            if self.requests[self.next].arrival_s - start > now:
                break
            self.waiting.append(self.next)
            self.next += 1
        while self.waiting and len(self.reading) + len(self.running) < self.loop.most:
            self.reading.append([self.waiting.popleft(), 0])

    def _iteration(self, start: float) -> None:
        calling = self.loop.clock()
        if self.events:
            self.events[0].record()
        stepped = len(self.running)
        context = sum(one.tokens for one in self.running) / max(1, stepped)
        if stepped:
            longest = max(one.tokens for one in self.running)
            self.calls.step(stepped, longest + 1)()
        budget, done = self.loop.chunk_tokens - stepped, list[int]()
        chunks: list[tuple[int, int]] = []
        while self.reading and (tokens := self._piece(max(1, budget))):
            chunks.append((self.reading[0][1], tokens))
            self._read(tokens)
            budget -= tokens
            if self.reading[0][1] == self.requests[self.reading[0][0]].prompt_tokens:
                done.append(self.reading.popleft()[0])
                self._join(done[-1])
            if budget <= 0:
                break
        if self.events:
            self.events[1].record()
        self._wait()
        called_s = self.loop.clock() - calling
        now = self._now()
        self._told(now, stepped, done)
        self.out.iterations += 1
        self.out.works.append(Work(stepped, context, tuple(chunks)))
        self.out.largest_batch = max(self.out.largest_batch, stepped)
        if self.events:
            called_s = self.events[0].elapsed_time(self.events[1]) / 1e3
        self.out.device_s.append(called_s)
        self.out.wall_s.append(self.loop.clock() - start)

    def _piece(self, budget: int) -> int:
        index, done = self.reading[0]
        left, grid = self.requests[index].prompt_tokens - done, self.loop.grid_tokens
        return left if left <= budget else max(0, (done + budget) // grid * grid - done)

    def _read(self, tokens: int) -> None:
        index, done = self.reading[0]
        if not done and self.prompts is not None:
            self.calls.prompt[0, : len(self.prompts[index])].copy_(self.prompts[index])
        self.calls.chunk(done, tokens)()
        self.reading[0][1] += tokens

    def _join(self, index: int) -> None:
        """A prompt that was read runs from the next iteration on; its first token is known."""
        one, slot = self.requests[index], len(self.running)
        self.slots.put(slot, self.calls.alone, one.prompt_tokens)
        if self.calls.has_tokens:
            self.calls.ids[slot : slot + 1].copy_(self.calls.first)
        self.running.append(_Running(index, one.prompt_tokens, one.output_tokens, 0.0))

    def _told(self, now: float, stepped: int, done: Sequence[int]) -> None:
        """A token of everybody who stepped, and the first of those whose prompts ended."""
        tokens = self.calls.ids.tolist() if self.calls.has_tokens else None
        for place, one in enumerate(self.running):
            one.left -= 1
            if place < stepped:
                one.tokens += 1
            else:
                one.first_s = now
                arrival = self.requests[one.index].arrival_s - self.requests[0].arrival_s
                self.out.ttft_s[one.index] = now - arrival
            if tokens is not None:
                self.out.made[one.index].append(tokens[place])
        for place in reversed(range(len(self.running))):
            if self.running[place].left <= 0:
                self._leave(place, now)

    def _leave(self, place: int, now: float) -> None:
        one, last = self.running[place], self.running.pop()
        wanted = self.requests[one.index].output_tokens
        if wanted > 1:
            self.out.tpot_s[one.index] = (now - one.first_s) / (wanted - 1)
        if one is not last:
            self.running[place] = last
            self.slots.move(len(self.running), place, last.tokens)
            self.calls.ids[place].copy_(self.calls.ids[len(self.running)])
