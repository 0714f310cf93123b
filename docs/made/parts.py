"""What stands between markers: parts of pages that people write, filled by the script."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from made import cast
from made.index import REPORTS
from made.markdown import filled, table
from made.runs import ROOT
from ssmprof.units import format_time, three_digits

_ACCURACY = REPORTS / "accuracy-h100-80gb-hbm3/accuracy.json"
_KERNELS = REPORTS / "kernels-nvidia-h200/totals.json"
_FLEET = REPORTS / "fleet/many.json"


def accuracy() -> str:
    """Every quantity of the H100 against its bar."""
    rows = [
        (one["name"], _share(one, one["value"]), _share(one, one["bar"]), one["unit"],
         "yes" if one["value"] <= one["bar"] else "**no**")
        for one in _read(_ACCURACY)["quantities"]
        if one["value"] is not None
    ]  # fmt: skip
    return table(("quantity", "measured", "bar", "of what", "met"), rows)


def _share(one: dict[str, Any], value: float) -> str:
    """A share in per cent; of an allowance, and a thing counted, as it is."""
    if one["unit"].startswith("of the allowance"):
        return three_digits(value)
    return f"{three_digits(100 * value)} %"


def kernels() -> str:
    """Every total of the H200: geometric mean of its cells, the worst one, and its bars."""
    rows = [
        (f"`{one['op']}`{_form(one)}", one["against"], _where(one), one["cells"],
         f"{one['reached']:.2f} ({one['worst']:.2f})", _bar(one, "floor"), _bar(one, "aim"))
        for one in _read(_KERNELS)
    ]  # fmt: skip
    heads = ("operation", "against", "where", "cells", "reached (worst)", "at least", "aim")
    return table(heads, rows)


def _form(one: dict[str, Any]) -> str:
    """How an update begins, where it could begin before the kernel ahead of it has ended."""
    if one["early"] is None:
        return ""
    return ", early" if one["early"] else ", waits"


def _where(one: dict[str, Any]) -> str:
    limits = [f"{key.replace('_', ' ')} {value:,}" for key, value in one["where"].items()]
    return ", ".join([*(["eager"] if one["mode"] == "eager" else []), *limits])


def _bar(one: dict[str, Any], name: str) -> str:
    if not one.get(name):  # a floor of 0 is no bar
        return ""
    return f"{one[name]:g} {'met' if one[f'{name}_met'] else '**missed**'}"


def fleet() -> str:
    """What a thousand virtual devices cost the process that asks them."""
    rows = [
        (f"{one['points']:,}", format_time(one["client_cpu_s"] / one["points"]),
         format_time(one["wall_s"] / one["points"]), f"{one['client_peak_bytes'] / 1e6:,.0f} MB")
        for one in _read(_FLEET)
    ]  # fmt: skip
    return table(("points", "this process, per point", "all, per point", "memory"), rows)


def _read(file: Any) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


# Page -> marker -> what is written there.
PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"cast": cast.short},
    "docs/how-it-works/accuracy.md": {"accuracy": accuracy, "kernels": kernels},
    "docs/guide/fleets.md": {"fleet": fleet},
}


def pages() -> dict[str, str]:
    """Path below the checkout -> the page with its parts as they are today."""
    made: dict[str, str] = {}
    for name, parts in PARTS.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        made[name] = filled(text, {part: write() for part, write in parts.items()})
    return made
