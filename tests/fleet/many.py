"""A thousand virtual devices behind a real scheduler: what the client takes per point, as a table.

Scheduler, workers (hundreds in a process) and client are processes of their own on the loopback, so
that what the client takes is counted apart. The law over 1,000, 10,000 and 100,000 points tells
what more would take.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import fakes
import make
from camp import Camp, end

from fleet.results import quantity
from ssmprof.session.executors import Virtual
from ssmprof.spec import Scenario

DEVICES = 1000
POINTS = (1_000, 10_000, 100_000)
OVERHEAD_S, MEMORY_BYTES = 2e-3, 2e9
_LENGTHS = tuple(64 * (step + 1) for step in range(50))  # one visit: 50 points
_START_S = 600.0
_HOSTS = 4  # processes that hold the workers


def scenario(points: int) -> Scenario:
    """Two contenders at 50 lengths, in as many rounds as it takes."""
    found = make.scenario(contexts=_LENGTHS, device="cpu")
    from msgspec.structs import replace

    rounds = points // (2 * len(_LENGTHS))
    return replace(found, budget=replace(found.budget, rounds=rounds))


def device() -> Virtual:
    """What each worker holds."""
    return Virtual(fakes.formula, make.ENVIRONMENT)


async def workers(address: str, many: int, folder: str) -> None:
    """So many workers in this process, until it is killed."""
    from dask import config
    from distributed import Worker

    # What a host watches of its one worker would be watched a thousand times here.
    config.set(
        {
            "distributed.worker.profile.enabled": False,
            "distributed.admin.tick.interval": "10s",
            "distributed.admin.system-monitor.interval": "60s",
        }
    )
    made: list[Any] = []
    for first in range(0, many, 50):
        batch = [
            Worker(
                address, nthreads=1, resources={"ssmprof-device": 1}, memory_limit=0,
                host="127.0.0.1", dashboard=False, local_directory=folder,
            )
            for _ in range(min(50, many - first))
        ]  # fmt: skip
        made += await asyncio.gather(*batch)
    await asyncio.gather(*(one.finished() for one in made))


def client(address: str, many: int, points: int, folder: str) -> dict[str, Any]:
    """One sweep; what this process took for it."""
    from distributed import Client

    import fleet.many as here
    from ssmprof.session.executors.fleet.dask import Dask
    from ssmprof.session.run import sweep

    with Client(address, set_as_default=False) as waiting:
        waiting.wait_for_workers(many, timeout=_START_S)
    executor = Dask.at(address, here.device)
    asked = scenario(points)
    before, began = time.process_time(), time.monotonic()
    start_bytes = _peak_bytes()
    run = sweep(asked, executor=executor, examine=False, output=Path(folder) / f"run-{points}")
    spent_s, wall_s = time.process_time() - before, time.monotonic() - began
    journal = Path(folder) / f"run-{points}" / "outcomes.jsonl"
    found = {
        "points": points, "devices": sum(one.workers for one in executor.kinds),
        "outcomes": len(run.outcomes), "distinct": len({one.key for one in run.outcomes}),
        "client_cpu_s": spent_s, "wall_s": wall_s, "client_start_bytes": start_bytes,
        "client_peak_bytes": _peak_bytes(), "line_bytes": journal.stat().st_size / points,
    }  # fmt: skip
    executor.close()
    return found


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(many: int = DEVICES, points: tuple[int, ...] = POINTS) -> list[dict[str, Any]]:
    """A row per number of points; printed as they come."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="ssmprof-fleet-") as scratch:
        camp = Camp(Path(scratch))
        camp.start_scheduler()
        python = [sys.executable, "-m", "fleet.many", "--folder", scratch]
        environ = {**camp.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        quiet = subprocess.DEVNULL
        shares = [many // _HOSTS + (number < many % _HOSTS) for number in range(_HOSTS)]
        hosts = [
            subprocess.Popen(
                [*python, "--host", camp.address, "--devices", str(share)],
                env=environ, stdout=quiet, stderr=quiet,
            )
            for share in shares
        ]  # fmt: skip
        try:
            for count in points:
                asked = [*python, "--client", camp.address, "--points", str(count)]
                asked += ["--devices", str(many)]
                done = subprocess.run(asked, env=environ, capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(done.stderr[-2000:])
                rows.append(json.loads(done.stdout.splitlines()[-1]))
                print(line(rows[-1]), flush=True)
        finally:
            for host in hosts:
                end(host.pid)
            camp.close()
    return rows


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    return (
        f"{row['points']:>8,} points on {row['devices']:,} devices: client "
        f"{row['client_cpu_s'] / row['points'] * 1e3:6.3f} ms of a processor per point, "
        f"{row['wall_s'] / row['points'] * 1e3:6.3f} ms in all, peak "
        f"{row['client_peak_bytes'] / 1e6:,.0f} MB (from {row['client_start_bytes'] / 1e6:,.0f}), "
        f"{row['line_bytes']:,.0f} bytes a line; {row['distinct']:,} distinct outcomes"
    )


def law(rows: list[dict[str, Any]]) -> str:
    """How time and memory grow from one number of points to the next, and to a million."""
    said: list[str] = []
    for small, large in pairwise(rows):
        more = math.log(large["points"] / small["points"])
        power = math.log(large["client_cpu_s"] / small["client_cpu_s"]) / more
        said.append(f"time to the power {power:.2f} up to {large['points']:,}")
    small, large = rows[-2:]
    more = large["points"] - small["points"]
    each = (large["client_peak_bytes"] - small["client_peak_bytes"]) / more
    million = large["client_peak_bytes"] + each * (1_000_000 - large["points"])
    said.append(f"{each:,.0f} bytes a point; extrapolated: {million / 1e9:.1f} GB for a million")
    return ", ".join(said)


def quantities(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with their bars, of the largest run."""
    large = rows[-1]
    where = f"{large['devices']:,} virtual devices, {large['points']:,} points"
    wrong = abs(large["outcomes"] - large["points"]) + abs(large["distinct"] - large["points"])
    return [
        quantity(
            f"client overhead, {where}", large["client_cpu_s"] / large["points"] * 1e3,
            OVERHEAD_S * 1e3, "ms of a processor per point", line(large) + "; " + law(rows),
        ),
        quantity(
            f"client memory, {where}", large["client_peak_bytes"], MEMORY_BYTES, "bytes",
            "largest resident set of the client's process",
        ),
        quantity(f"outcomes lost or doubled, {where}", wrong, 0, "outcomes", "counted by key"),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fleet.many", description=__doc__)
    parser.add_argument("--devices", type=int, default=DEVICES)
    parser.add_argument("--points", type=int)
    parser.add_argument("--folder")
    parser.add_argument("--host", help="of the workers' process: the scheduler's address")
    parser.add_argument("--client", help="of the client's process: the same")
    asked = parser.parse_args()
    if asked.host:
        asyncio.run(workers(asked.host, asked.devices, asked.folder))
    elif asked.client:
        print(json.dumps(client(asked.client, asked.devices, asked.points, asked.folder)))
    else:
        rows = measure(asked.devices, (asked.points,) if asked.points else POINTS)
        if len(rows) > 1:
            print(law(rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
