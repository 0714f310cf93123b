"""`ssmprof plan --fleet`: which devices would measure what, and about how long that takes."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from ssmprof.cli.options import emit, say
from ssmprof.errors import EXIT_DONE

if TYPE_CHECKING:
    from ssmprof.session.executors import Executor
    from ssmprof.spec import Scenario


def show(
    scenario: Scenario,
    fleet: str | None,
    form: str | None,
    output: str | None,
    device: str | None,
    *,
    decide: bool = True,
) -> int:
    """Ask the fleet who is there, and print what each of its devices would measure."""
    from ssmprof.report.tables import Column, Table
    from ssmprof.session.executors import devices_of, executor_for
    from ssmprof.units import format_duration

    executor = executor_for(
        scenario.device, every=device == "all", each=device == "each", fleet=fleet
    )
    with closing(executor):
        rows = [row for one in devices_of(executor) for row in _rows(scenario, one, decide)]
    totals = [row for row in rows if row["block"] == "total"]
    columns = (
        Column("device", "device"),
        Column("workers", "workers", numeric=True),
        Column("block", "contender"),
        Column("points", "points", numeric=True),
        Column("skipped", "would not fit", numeric=True),
        Column("time_s", "est. time", format_duration, numeric=True),
    )
    emit(Table("Plan of the fleet", columns, tuple(rows)), form, output)
    known = [row["time_s"] for row in totals if row["time_s"] is not None]
    longest = format_duration(max(known)) if len(known) == len(totals) else "unknown"
    say(
        f"{scenario.name}: {len(totals)} devices at the same time, {longest} in all. Each answers "
        "for itself, its workers share its points. ±40 %, from ceilings and launches; nothing was "
        "run."
    )
    return EXIT_DONE


def _rows(scenario: Scenario, executor: Executor, decide: bool) -> list[dict[str, Any]]:
    """One device's contenders; times are of all its workers together."""
    from ssmprof.planning.decided import deciding_s
    from ssmprof.planning.feasible import plan, whole_s
    from ssmprof.planning.machine import Machine
    from ssmprof.planning.strategies import expected

    workers = getattr(executor, "workers", 1)
    machine = Machine.of_device(executor.name, executor.kind, executor.memory_bytes)
    kind = executor.kind
    deciding = deciding_s(scenario, machine, kind, compiled=False) if decide else {}
    found = plan(expected(scenario, kind), machine, deciding)
    in_all_s = whole_s(scenario, found)
    shared = {"device": executor.name, "workers": workers}
    rows = [
        shared
        | {
            "block": row.block,
            "points": row.points,
            "skipped": len(row.skipped),
            "time_s": None if row.seconds is None else (row.seconds + row.deciding_s) / workers,
        }
        for row in found
    ]
    total = {
        "block": "total",
        "points": sum(row.points for row in found),
        "skipped": sum(len(row.skipped) for row in found),
        "time_s": None if in_all_s is None else in_all_s / workers,
    }
    return [*rows, shared | total]
