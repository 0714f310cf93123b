"""`make truth`: measure what the table lacks, for so long, and write what is known so far.

    PYTHONPATH=.:kernels:tests python -m truth --seconds 500

Each item is a run folder of its own under reports/truth-DEVICE/, whole or resumed the next time, so
that the table grows over several occasions on the same kind of device.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path

from ssmprof.devices import detect
from ssmprof.harmless import slug
from truth import score
from truth.items import ROOT, Item, every


def measure(table: Path, items: Iterable[Item], seconds: float) -> None:
    """Items that are not whole, until the time is over; none is begun after that."""
    begin = time.monotonic()
    for item in items:
        if item.done(table) is not None:
            continue
        if time.monotonic() - begin > seconds:
            print(f"time is over before {item.name}", flush=True)
            return
        print(f"{time.monotonic() - begin:6.0f} s  {item.name}", flush=True)
        item.run(table)


def write(table: Path, device: str, items: list[Item]) -> None:
    """truth.json, and the same as a table on the terminal."""
    missing = [one.name for one in items if one.done(table) is None]
    found = score.quantities(table, items)
    rows = [one.row() for one in found]
    text = json.dumps({"device": device, "quantities": rows, "missing": missing}, indent=1)
    table.mkdir(parents=True, exist_ok=True)
    (table / "truth.json").write_text(text + "\n", encoding="utf-8")
    for one in found:
        verdict = "met" if one.value <= one.bar else "missed"
        print(f"{one.name:70} {one.value:9.3g} {one.unit:8} bar {one.bar:6.3g}  {verdict}")
    print(f"{len(missing)} of {len(items)} items are missing")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m truth")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin nothing later")
    parser.add_argument("--only", default="", metavar="TEXT", help="items whose name holds it")
    parser.add_argument("--output", type=Path, help="reports/truth-DEVICE")
    args = parser.parse_args()
    name = detect(args.device).name
    table = args.output or ROOT / "reports" / f"truth-{slug(name)}"
    items = list(every(args.device))
    measure(table, [one for one in items if args.only in one.name], args.seconds)
    write(table, name, items)


if __name__ == "__main__":
    main()
