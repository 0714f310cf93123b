"""The loop and the simulator obey the same rules: on a virtual device they agree to the dot."""

from __future__ import annotations

import random
import re
from types import SimpleNamespace
from typing import Any

import pytest

from ssmprof.engine.loop import Loop
from ssmprof.engine.proof import paces
from ssmprof.serving.requests import Request
from ssmprof.serving.simulator import Server, simulate
from ssmprof.serving.steps import Surface

LENGTHS = [2**k for k in range(14)]
SURFACE = Surface(
    "virtual",
    {n: 1e-3 + n * 1e-5 for n in LENGTHS},
    {b: dict.fromkeys(LENGTHS, 0.001 + b * 0.0001) for b in (1, 16, 64)},
    chunk_tokens=1024,
)


class Virtual:
    """Calls that take what the surface says, on a clock of their own."""

    graphs = has_tokens = False

    def __init__(self, slots: int) -> None:
        self.now = 0.0
        self.slots: Any = SimpleNamespace(count=slots, put=_nothing, move=self._move)
        self.alone = None
        self.lengths: dict[int, int] = {}
        self.ids = [SimpleNamespace(copy_=_nothing)] * slots

    def _move(self, source: int, slot: int, tokens: int) -> None:
        assert slot < source

    def doze(self, seconds: float) -> None:
        self.now += 1e-6

    def step(self, batch: int, rows: int) -> Any:
        return lambda: self._take(SURFACE.decode(batch, 1))

    def chunk(self, done: int, tokens: int) -> Any:
        return lambda: self._take(SURFACE.chunk(done, tokens))

    def _take(self, seconds: float) -> None:
        self.now += seconds


def _nothing(*_: Any) -> None:
    pass


@pytest.mark.parametrize("slots", [1, 4, 16])
def test_the_simulator_tells_what_the_loop_does(slots: int) -> None:
    draw, at, requests = random.Random(slots), 0.0, []
    for _ in range(80):
        at += draw.expovariate(60.0)
        requests.append(Request(at, 128 * draw.randint(1, 12), draw.randint(1, 40)))
    calls: Any = Virtual(slots)
    loop = Loop(calls, chunk_tokens=512, grid_tokens=128, clock=lambda: calls.now, doze=calls.doze)
    came = loop.serve(requests)
    told = simulate(requests, Server(SURFACE, None, slots, 512, 128))
    ratios = [a / b for a, b in zip(told.ttft_s, came.ttft_s, strict=True)]
    assert ratios == pytest.approx([1.0] * 80, rel=0.02)
    pairs = [(a, b) for a, b in zip(told.tpot_s, came.tpot_s, strict=True) if a == a]
    assert [a / b for a, b in pairs] == pytest.approx([1.0] * len(pairs), rel=0.02)
    assert came.iterations == told.iterations
    assert came.largest_batch == told.largest_batch
    said = paces(came, Server(SURFACE, None, slots, 512, 128))
    assert re.findall(r"take ([\d.]+) of", said) == ["1.00", "1.00"]
