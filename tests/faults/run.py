"""The fault run: hundreds of deaths and errors are injected, and nothing may come of them.

    python tests/faults/run.py [--seed N] [--output FILE]

Campaigns run two at a time, each in a process and a folder of its own, with a seed that is printed.
Exit 1 where a quantity is above its bar, which is 0 for all of them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import parents
import storage
import torch_workers
import workers
from ledger import QUANTITIES, Ledger

from ssmprof.devices import detect

CAMPAIGNS = {
    "torch workers struck": torch_workers.struck,
    "torch parents hurt": parents.hurt_torch,
    "parents hurt": parents.hurt,
    "workers dying": workers.dying,
    "workers struck": workers.struck,
    "storage damaged": storage.damaged,
    "bits flipped": storage.flipped,
}
LEAST, LEAST_TORCH = 300, 30
UNIT = "times in the run"
_LIMIT_S = 280.0
ROOT = Path(__file__).resolve().parents[2]


def campaign(name: str, seed: int, folder: Path) -> None:
    """Run one campaign in this process; its ledger is the last line of standard output."""
    (folder / "tmp").mkdir()
    os.environ["TMPDIR"] = str(folder / "tmp")
    tempfile.tempdir = None
    ledger = Ledger()
    CAMPAIGNS[name](folder, seed, ledger)
    print(msgspec.json.encode(ledger).decode())


def started(name: str, seed: int, folder: Path) -> Ledger:
    """A campaign in a process of its own: one that dies or hangs has found something, too."""
    command = [sys.executable, __file__, "--campaign", name, "--seed", str(seed)]
    began = time.monotonic()
    try:
        done = subprocess.run(
            [*command, "--folder", str(folder)], capture_output=True, text=True, timeout=_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return Ledger(wrong={"hangs": [f"{name}: no end within {_LIMIT_S:g} s"]})
    print(f"{name}: seed {seed}, {time.monotonic() - began:.1f} s", flush=True)
    if done.returncode or "Traceback" in done.stderr:
        return Ledger(wrong={"tracebacks": [f"{name}: {done.stderr[-2000:]}"]})
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Ledger)


def quantities(found: Ledger, seed: int, seconds: float) -> list[dict[str, Any]]:
    """Everything that has a bar, in the form of accuracy.json."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.kinds.items()))
    how = f"{found.injected} deaths and errors, {found.torch} of them against torch workers, and "
    how += f"{found.flips:,} flipped bits; seed {seed}, {seconds:.0f} s"
    rows: list[dict[str, Any]] = [
        _row("faults missing from 300", max(0, LEAST - found.injected), kinds),
        _row(
            "faults against torch workers missing from 30", max(0, LEAST_TORCH - found.torch), how
        ),
        _row("flipped bits missing from 20,000", max(0, storage.FLIPS - found.flips), how),
    ]
    for name in QUANTITIES:
        wrong = found.wrong.get(name, [])
        rows.append(_row(name, len(wrong), how, "; ".join(wrong[:5]) or None))
    return rows


def _row(name: str, value: int, how: str, reason: str | None = None) -> dict[str, Any]:
    return {"name": name, "value": value, "bar": 0, "unit": UNIT, "how": how, "reason": reason}


def main() -> int:
    """Run all campaigns, print the table, write it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--output", type=Path, help="where faults.json is to be written")
    parser.add_argument("--campaign", choices=CAMPAIGNS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.campaign:
        campaign(asked.campaign, asked.seed, asked.folder)
        return 0
    found, began = Ledger(), time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="ssmprof-faults-") as folder,
        ThreadPoolExecutor(2) as pool,
    ):
        ends = []
        for turn, name in enumerate(CAMPAIGNS):
            mine = Path(folder, name.replace(" ", "-"))
            mine.mkdir()
            ends.append(pool.submit(started, name, asked.seed + turn, mine))
        for end in ends:
            found.add(end.result())
    rows = quantities(found, asked.seed, time.monotonic() - began)
    for row in rows:
        print(f"{row['value']:>6}  {row['name']}" + (f": {row['reason']}" if row["reason"] else ""))
    print(rows[1]["how"])
    if asked.output:
        text = msgspec.json.encode({"device": detect("cpu").name, "quantities": rows})
        asked.output.parent.mkdir(parents=True, exist_ok=True)
        asked.output.write_bytes(msgspec.json.format(text, indent=2) + b"\n")
    return int(any(row["value"] > row["bar"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
