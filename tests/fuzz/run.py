"""`make fuzz`: so many mutated inputs through every door, and what went wrong, as a table and JSON.

Each door runs in a process of its own, with an address space that ends and a deadline per input; a
process that dies or hangs is counted, and the next one goes on behind the input that did it. The
same seed gives the same inputs: `--door run.json --only 4711` repeats one with its traceback.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

from fuzz.doors import DOORS, Door

KINDS = ("tracebacks", "wrong accepts", "hangs", "deaths", "memory exhausted")
DEADLINE_S = 10.0  # of computing: a hundred times what the slowest good input takes
WAITING = 6  # deadlines that an input may take in all, on a machine that does other work, too
MEMORY_BYTES = 4 * 2**30  # of address space beyond what importing took
OUT = Path(__file__).parents[2] / "reports" / "faults" / "fuzz.json"


class _LateError(BaseException):
    """The deadline of an input; no `except Exception` of a reader may swallow it."""


def _late(*_: object) -> None:
    raise _LateError


def one(door: Door, data: bytes, scratch: Path) -> tuple[str, str]:
    """Bring one input in: (kind of fault, or accepted or refused; what it was)."""
    try:
        signal.setitimer(signal.ITIMER_PROF, DEADLINE_S)
        signal.setitimer(signal.ITIMER_REAL, WAITING * DEADLINE_S)
        try:
            wrong = door.enter(data, scratch)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
    except door.refusal as refused:
        return ("refused", "") if "Traceback" not in str(refused) else ("tracebacks", str(refused))
    except _LateError:
        return "hangs", f"longer than {DEADLINE_S:.0f} s"
    except MemoryError:
        return "memory exhausted", "MemoryError"
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        return "tracebacks", f"{type(error).__name__} at {where}: {str(error)[:100]}"
    return ("accepted", "") if wrong is None else ("wrong accepts", wrong)


def _serve(
    name: str,
    seed: int,
    start: int,
    count: int,
    scratch: Path,
    results: Connection,
    read_end: Connection,
) -> None:
    read_end.close()  # or a child would wait for ever for a parent that was killed
    with open("/proc/self/statm") as statm:
        mapped = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES,) * 2)
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, _late)
    for index in range(start, count):
        data = DOORS[name].make(Random(f"{seed} {name} {index}"))
        results.send((index, "begun", "", 0.0))
        began = time.perf_counter()
        kind, text = one(DOORS[name], data, scratch)
        results.send((index, kind, text, time.perf_counter() - began))


def through(name: str, seed: int, count: int) -> dict[str, Any]:
    """All inputs of a door; what came of them, the slowest, and examples by kind."""
    # Of this process: a child that is killed could not remove it.
    with tempfile.TemporaryDirectory(prefix="ssmprof-fuzz-") as scratch:
        return _through(name, seed, count, Path(scratch))


def _through(name: str, seed: int, count: int, scratch: Path) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    examples: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    slowest_s, start = 0.0, 0
    fork = multiprocessing.get_context("fork")
    while start < count:
        results, theirs = fork.Pipe(duplex=False)
        child = fork.Process(
            target=_serve, args=(name, seed, start, count, scratch, theirs, results), daemon=True
        )
        child.start()
        theirs.close()
        index = start
        while start < count:
            kind, text, taken_s = _answer(results, child)
            if isinstance(text, int):  # begun
                index = text
                continue
            counts[kind] += 1
            slowest_s = max(slowest_s, taken_s)
            if kind in KINDS:
                examples[kind].setdefault(text, index)
            start = index + 1
            if kind == "deaths" or (kind == "hangs" and not child.is_alive()):
                break
        results.close()
        child.join(5)
    return {"counts": counts, "examples": examples, "slowest_s": slowest_s}


def _answer(results: Connection, child: Any) -> tuple[str, str | int, float]:
    """The next word of the child; a hang that no signal ends, and a death, are answers, too."""
    most_s = 2 * WAITING * DEADLINE_S
    if not results.poll(most_s):
        child.kill()
        child.join()
        return "hangs", f"no signal ends it; longer than {most_s:.0f} s", most_s
    try:
        index, kind, text, taken_s = results.recv()
    except EOFError:
        child.join()
        return "deaths", f"ended with {child.exitcode}", 0.0
    return (kind, index, 0.0) if kind == "begun" else (kind, text, taken_s)


def quantities(name: str, found: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The faults of a door in the form of accuracy.json; every bar is 0."""
    counts = found["counts"]
    seen = sum(counts.values())
    how = (
        f"{seen:,} mutated inputs: {counts['refused']:,} refused with one clear error, "
        f"{counts['accepted']:,} accepted; slowest {found['slowest_s']:.2f} s"
    )
    rows = {"inputs missing": count - seen} | {kind: counts[kind] for kind in KINDS}
    return [
        {
            "name": f"{name}: {kind}", "value": float(value), "bar": 0.0, "unit": "inputs",
            "how": how, "reason": next(iter(found["examples"].get(kind, ())), None),
        }
        for kind, value in rows.items()
    ]  # fmt: skip


def main() -> int:
    """Run, print, write; 1 where anything is above its bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="per door")
    parser.add_argument("--seed", type=int, default=20_261_129)
    parser.add_argument("--door", choices=list(DOORS), action="append", help="these alone")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="doors")
    parser.add_argument("--only", type=int, help="repeat one input here, with its traceback")
    parser.add_argument("-o", "--output", type=Path, help=f"by default {OUT.name} of all doors")
    asked = parser.parse_args()
    names = asked.door or list(DOORS)
    if asked.only is not None:
        with tempfile.TemporaryDirectory() as scratch:
            data = DOORS[names[0]].make(Random(f"{asked.seed} {names[0]} {asked.only}"))
            print(data[:2000])
            print(DOORS[names[0]].enter(data, Path(scratch)))
        return 0
    rows: list[dict[str, Any]] = []
    began = time.perf_counter()
    print(f"seed {asked.seed}, {asked.inputs:,} inputs per door, deadline {DEADLINE_S:.0f} s each")
    print(f"{'door':12}{'refused':>9}{'accepted':>9}" + "".join(f"{kind:>18}" for kind in KINDS))
    pool = ThreadPoolExecutor(asked.at_once)
    results = pool.map(lambda name: through(name, asked.seed, asked.inputs), names)
    for name, found in zip(names, results, strict=True):
        counts = found["counts"]
        line = f"{name:12}{counts['refused']:9}{counts['accepted']:9}"
        print(line + "".join(f"{counts[kind]:18}" for kind in KINDS), flush=True)
        for kind, texts in found["examples"].items():
            for text, index in list(texts.items())[:10]:
                print(f"    {kind}: --door {name} --only {index}: {text}", flush=True)
        rows += quantities(name, found, asked.inputs)
    report = {
        "device": f"{platform.machine()}, Python {platform.python_version()}",
        "seed": asked.seed,
        "seconds": round(time.perf_counter() - began, 1),
        "quantities": rows,
    }
    if asked.output or not asked.door:
        target = asked.output or OUT
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(report, indent=2) + "\n")
        print(f"wrote {target}")
    return int(any(row["value"] > row["bar"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
