"""What a fleet must reach and needs no GPU: `python -m fleet`; adds to reports/fleet/fleet.json."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

from fleet import kills, local, many, results
from ssmprof.devices.cpu import cpu_name


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fleet", description=__doc__)
    parser.add_argument("--output", type=Path, default=results.FOLDER)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=["kills", "many", "local"], action="append")
    asked = parser.parse_args()
    only = asked.only or ["kills", "many", "local"]
    device = f"{cpu_name()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    asked.output.mkdir(parents=True, exist_ok=True)
    missed = 0
    for name in only:
        if name == "kills":
            found = kills.measure(seed=asked.seed)
        elif name == "many":
            rows = many.measure()
            (asked.output / "many.json").write_text(json.dumps(rows, indent=1) + "\n")
            found = many.quantities(rows)
        else:
            found = local.measure()
        for row in found:
            print(results.show(row), flush=True)
            missed += row["value"] > row["bar"]
        results.keep(asked.output / "fleet.json", device, found)
    return missed > 0


if __name__ == "__main__":
    raise SystemExit(main())
