"""`ssmprof doctor --accuracy`: the timers against known quantities, as numbers with their bars."""

from __future__ import annotations

import json
from pathlib import Path

from ssmprof.cli.options import emit, say, write
from ssmprof.errors import NoDeviceError
from ssmprof.harmless import slug

# Its blocks cover attention, both scans and hybrids.
_SCENARIO = "crossover"


def show(kind: str, name: str, *, as_json: bool, output: str | None, folder: str | None) -> bool:
    """Measure, print the table (or JSON), and say whether any quantity misses its bar."""
    import msgspec

    from ssmprof.doctor.host import need_torch

    if kind != "cuda":
        raise NoDeviceError(
            "accuracy is held against a CUDA device", fix="ssmprof doctor examines this machine"
        )
    need_torch()
    from ssmprof.doctor import accuracy
    from ssmprof.models.recipe import Recipe
    from ssmprof.planning import library, scenario
    from ssmprof.report.tables import Column, Table

    target = Path(folder or f"reports/accuracy-{slug(name)}")
    asked = scenario.load(library.find(_SCENARIO))
    bench = accuracy.Bench(
        blocks=tuple(block for block in asked.blocks if isinstance(block, Recipe)),
        folder=target,
        memory_contexts=asked.sweep.contexts,
    )
    found = accuracy.run(bench, say)
    table = target / "ops.txt"
    if table.is_file():
        say(table.read_text(encoding="utf-8"))
    say(f"raw data: {target}")
    if as_json:
        write(json.dumps(msgspec.to_builtins(found), ensure_ascii=False, indent=1) + "\n", output)
    else:
        columns = (
            Column("name", "quantity"),
            Column("value", "value", lambda value: f"{value:.4g}", numeric=True),
            Column("bar", "bar", lambda value: f"{value:g}", numeric=True),
            Column("unit", "unit"),
            Column("how", "how"),
            Column("reason", "why not"),
        )
        rows = tuple(msgspec.to_builtins(one) for one in found.quantities)
        emit(Table("Accuracy", columns, rows), None, output)
    return any(one.value is not None and one.value > one.bar for one in found.quantities)
