"""Quantities with their bars, kept in one file: met where value <= bar."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "reports" / "fleet"


def quantity(
    name: str, value: float, bar: float, unit: str, how: str, reason: str | None = None
) -> dict[str, Any]:
    """One row; the reason stands only where the bar is missed."""
    missed = value > bar
    return {
        "name": name, "value": round(value, 5), "bar": bar, "unit": unit, "how": how,
        "reason": reason if missed else None,
    }  # fmt: skip


def keep(file: Path, device: str, found: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Add quantities to a file in the place of those of the same name; returns what it holds."""
    old = json.loads(file.read_text()) if file.exists() else {"device": "", "quantities": []}
    rows = {row["name"]: row for row in old["quantities"]}
    for row in found:
        known = rows.get(row["name"])
        if known and known["reason"] and row["value"] > row["bar"] and not row["reason"]:
            row = {**row, "reason": known["reason"]}
        rows[row["name"]] = row
    devices = [name for name in old["device"].split("; ") if name and name != device]
    body = {"device": "; ".join([*devices, device]), "quantities": list(rows.values())}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(body, indent=1) + "\n")
    return body


def show(row: dict[str, Any]) -> str:
    """One line for a terminal."""
    met = "met   " if row["value"] <= row["bar"] else "MISSED"
    return f"{met} {row['name']}: {row['value']:g} {row['unit']} (bar {row['bar']:g}); {row['how']}"
