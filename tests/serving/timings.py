"""How long replays take on one core: python -m serving.timings [TRACE...] prints a table.

Without a trace one is made of the size of Mooncake's conversations: 12,000 prompts, 24 blocks each.
Seconds are those of this process alone, whatever else the machine does.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from serving.models import published

from ssmprof.serving.generator import generate, parameters
from ssmprof.serving.layout import Sharing, caches
from ssmprof.serving.policies import POLICIES
from ssmprof.serving.requests import Trace, read
from ssmprof.serving.reuse import in_trace_blocks, replay
from ssmprof.serving.service import Limits, breaking, serve
from ssmprof.serving.simulator import Server
from ssmprof.serving.steps import Surface

LIKE_MOONCAKE = (
    "sessions=3000,turns=4,systems=4,system_tokens=2000,user_tokens=4000,output_tokens=400,"
    "sessions_per_s=0.85"
)
GIB = 2**30


def took(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of a call, and what it gave."""
    start = time.process_time()
    found = call()
    return time.process_time() - start, found


def surface() -> Surface:
    """Times of the size of an 8-billion model's on a large card."""
    lengths = [2**k for k in range(6, 18)]
    return Surface(
        "x",
        {n: 5e-3 + n * 2e-5 + n * n * 1e-11 for n in lengths},
        {b: {n: 6e-3 + b * 2e-5 + b * n * 2e-8 for n in lengths} for b in (1, 4, 16, 64, 256)},
        hold=True,
    )


def rows(trace: Trace) -> Iterator[tuple[str, str, float, str]]:
    """(trace, what, seconds, result) of every replay."""
    if trace.block_tokens is not None:
        recipe = published("nemotron-3-nano-30b-a3b")
        seen = in_trace_blocks(recipe, caches(recipe, Sharing()), trace)
        for pool in (None, 40 * GIB):
            for policy in POLICIES:
                seconds, found = took(lambda p=policy, size=pool: replay(seen, p, size))
                name = f"reuse {policy}, {'endless' if pool is None else '40 GiB'}"
                yield (trace.name, name, seconds,
                       f"{found.reused_share:.1%}, {found.states_kept:,} states")  # fmt: skip
    requests = trace.requests[:10_000]
    server, limits = Server(surface(), max_batch=256), Limits(2.0, 0.1)
    for load in (0.5, 1.0, 4.0):
        seconds, found = took(lambda x=load: serve("x", requests, server, limits, load=x))
        yield (trace.name, f"replay of {len(requests):,} requests, load {load}", seconds,
               f"{found.iterations:,} iterations")  # fmt: skip
    seconds, load = took(lambda: breaking(requests, server, limits))
    yield trace.name, "where it breaks", seconds, f"load {load}"


def main() -> None:
    """Print the table."""
    traces = [read(Path(name)) for name in sys.argv[1:]] or [generate(parameters(LIKE_MOONCAKE))]
    for trace in traces:
        for name, what, seconds, result in rows(trace):
            print(f"{name:32}  {what:40}  {seconds:6.2f} s  {result}")


if __name__ == "__main__":
    main()
