"""`make scale`: runs of 1,000 to 100,000 outcomes along three axes, and what commands take.

Writes `reports/scale/scale.json` (bars and reasons) and `reports/scale/table.json` (all figures).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from scale import measure
from scale.synthetic import Shape, write
from ssmprof.devices.cpu import cpu_name

# Axis -> shapes of about 1,000, 10,000 and 100,000 outcomes that differ along it.
AXES: dict[str, list[Shape]] = {
    "contexts": [Shape(contexts=25), Shape(contexts=250), Shape(contexts=2500)],
    "contenders": [
        Shape(contexts=40, contenders=2),
        Shape(contexts=40, contenders=25),
        Shape(contexts=40, contenders=250),
    ],
    "rounds and conditions": [
        Shape(),
        Shape(batches=5, phases=("prefill", "decode")),
        Shape(rounds=10, batches=25, phases=("prefill", "decode")),
    ],
}
BARS_S = {"report": 40.0, "crossover": 10.0, "export": 20.0}
MEMORY_BYTES = 1e9
LINEAR = 1.1  # exponent of growth from 10,000 outcomes to 100,000; 0.1 for what times scatter
OUTPUT = measure.ROOT / "reports" / "scale"


def measured(axis: str, shape: Shape, scratch: Path, only: list[str]) -> list[dict[str, Any]]:
    """A row per command for one shape."""
    run = scratch / f"{axis}-{shape.outcomes}".replace(" ", "-")
    size = write(run, shape)
    rows: list[dict[str, Any]] = []
    for command in only:
        out = scratch / f"out-{axis}-{shape.outcomes}-{command}".replace(" ", "-")
        out.mkdir()
        taken = measure.run(command, run, out)
        page = out / "report.html"
        rows.append(
            {
                "axis": axis,
                "outcomes": shape.outcomes,
                "shape": shape._asdict(),
                "lines_bytes": size,
                **taken._asdict(),
                "page_bytes": page.stat().st_size if command == "report" else None,
            }
        )
        print(_line(rows[-1]), flush=True)
        _remove(out)
    _remove(run)
    return rows


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


def _line(row: dict[str, Any]) -> str:
    page = f"{row['page_bytes'] / 1e6:8.2f} MB page" if row["page_bytes"] else ""
    return (
        f"{row['axis']:22} {row['outcomes']:>8,} {row['command']:10} {row['wall_s']:8.2f} s wall "
        f"{row['cpu_s']:8.2f} s CPU {row['peak_bytes'] / 1e6:8.0f} MB{page}"
    )


def exponents(rows: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """(axis, command) -> exponent of processor time over outcomes, between the largest two."""
    found: dict[tuple[str, str], float] = {}
    for axis in dict.fromkeys(row["axis"] for row in rows):
        for command in BARS_S:
            mine = [row for row in rows if (row["axis"], row["command"]) == (axis, command)]
            for small, large in pairwise(mine):
                more = math.log(large["outcomes"] / small["outcomes"])
                found[axis, command] = math.log(large["cpu_s"] / small["cpu_s"]) / more
    return found


def quantities(rows: list[dict[str, Any]], reasons: dict[str, str]) -> list[dict[str, Any]]:
    """What has a bar, worst first of each kind: met where value <= bar."""
    found: list[dict[str, Any]] = []

    def add(name: str, value: float, bar: float, unit: str, how: str) -> None:
        reason = reasons.get(name) if value > bar else None
        found.append(
            {"name": name, "value": round(value, 3), "bar": bar, "unit": unit, "how": how,
             "reason": reason}
        )  # fmt: skip

    for row in rows:
        if row["outcomes"] < 50_000:
            continue
        what = f"{row['command']}, {row['outcomes']:,} outcomes, more {row['axis']}"
        how = f"wall of one process; {row['cpu_s']:.1f} s of a processor"
        add(f"{what}: time", row["wall_s"], BARS_S[row["command"]], "s", how)
        if row["command"] == "report":
            how = "largest resident set of the process"
            add(f"{what}: memory", row["peak_bytes"], MEMORY_BYTES, "bytes", how)
            add(f"{what}: page", row["page_bytes"], 20e6, "bytes", "size of the file")
    for (axis, command), value in exponents(rows).items():
        how = "d log CPU seconds / d log outcomes, between the two largest runs"
        add(f"{command}: growth with {axis}", value, LINEAR, "exponent", how)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scale", description=__doc__)
    parser.add_argument("--largest", type=int, default=100_000, help="outcomes of the largest run")
    parser.add_argument("--axis", action="append", choices=list(AXES), help="this axis only")
    parser.add_argument("--command", action="append", choices=list(BARS_S), help="this only")
    parser.add_argument("--output", type=Path, help=f"folder of the results, as {OUTPUT}")
    parser.add_argument("--scratch", type=Path, help="where runs are written and removed")
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="ssmprof-scale-", dir=asked.scratch) as scratch:
        for axis in asked.axis or AXES:
            for shape in AXES[axis]:
                if shape.outcomes <= asked.largest * 1.3:
                    rows += measured(axis, shape, Path(scratch), asked.command or list(BARS_S))
    for (axis, command), value in exponents(rows).items():
        print(f"{command:10} grows with {axis:22} to the power of {value:.2f}")
    reasons_file = OUTPUT / "reasons.json"
    reasons = json.loads(reasons_file.read_text()) if reasons_file.is_file() else {}
    found = quantities(rows, reasons)
    for one in found:
        if one["value"] > one["bar"]:
            print(f"above its bar: {one['name']}: {one['value']:g} {one['unit']} ({one['bar']:g})")
    if asked.output:
        asked.output.mkdir(parents=True, exist_ok=True)
        device = f"{cpu_name()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        body = {"device": device, "quantities": found}
        for name, value in (("scale.json", body), ("table.json", rows)):
            (asked.output / name).write_text(json.dumps(value, indent=1) + "\n")
    return any(one["value"] > one["bar"] for one in found)


if __name__ == "__main__":
    raise SystemExit(main())
