"""`ssmprof plan`: what a sweep would measure, and about how long it takes; nothing is run."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from ssmprof.cli.asking import asked, axis_options
from ssmprof.cli.options import emit, refuse, say, table_options
from ssmprof.errors import EXIT_DONE, ConfigError, NoDeviceError

if TYPE_CHECKING:
    from ssmprof.planning.feasible import Row
    from ssmprof.planning.machine import Machine
    from ssmprof.spec import ForeignSpec, Scenario


_HOW: dict[str, str] = {
    "decide": "a pilot and one round, and visits beside them until it is decided,",
    "dense": "a first look, and three visits of every length around each change of winner,",
    "surface": "first and held-out places, and more where they do not tell what lies between,",
}


@click.command("plan", short_help="What a sweep would measure and cost; nothing is run.")
@click.argument("what", nargs=-1, metavar="SCENARIO | MODEL...")
@click.option("--on", "chip", metavar="NAME", help="Plan for that device: h100, orin-nx, ...")
@click.option("--fleet", metavar="FLEET", help="Ask a fleet who would measure what (as sweep).")
@axis_options
@table_options
def command(
    what: tuple[str, ...],
    chip: str | None,
    fleet: str | None,
    form: str | None,
    output: str | None,
    **axes: Any,
) -> int:
    """Points, what would not fit, and estimated time and energy of a sweep. Nothing is run.

    With --fleet its workers are started, asked for their devices and ended.
    Example: ssmprof plan crossover --on h100
    """
    if chip is not None:
        refuse(("device", "fleet"), "and --on both say where; leave one of them out")
    if fleet is not None and axes["device"] in ("all", "each"):
        refuse(("device",), "and --fleet both say where; leave one of them out")
    if fleet is not None or axes["device"] in ("all", "each"):
        from ssmprof.cli import fleet_plan

        return fleet_plan.show(asked(what, **axes), fleet, form, output, axes["device"])
    return show(asked(what, **axes), form, output, chip)


def show(
    scenario: Scenario,
    form: str | None,
    output: str | None,
    chip: str | None = None,
    *,
    decide: bool = True,
) -> int:
    """Print the plan of a scenario; also what `sweep --dry-run` does."""
    from ssmprof.planning.decided import deciding_s
    from ssmprof.planning.feasible import plan, whole_s
    from ssmprof.planning.left import any_compiled
    from ssmprof.planning.strategies import expected
    from ssmprof.report.contenders import PIECE, facts, has_slices
    from ssmprof.report.decided import SHORT
    from ssmprof.report.tables import Column, Table
    from ssmprof.spec import ForeignSpec
    from ssmprof.units import format_duration

    unknown = [
        f"{block.name}: time and memory unknown; {_opened(block)}"
        for block in scenario.blocks
        if isinstance(block, ForeignSpec)
    ]
    machine = _machine(scenario, chip)
    kind = "cuda" if machine.kind == "cuda" else "cpu"
    compiled = chip is None and any_compiled()
    deciding = deciding_s(scenario, machine, kind, compiled=compiled) if decide else {}
    rows = plan(expected(scenario, kind), machine, deciding)
    short = _shortened(scenario) if deciding else {}
    columns = (
        Column("block", "contender"),
        *([PIECE] if has_slices(scenario.blocks) else []),
        Column("points", "points", numeric=True),
        Column("skipped", "would not fit"),
        *([Column("deciding_s", "deciding", format_duration, numeric=True)] if deciding else []),
        *([SHORT] if any(short.values()) else []),
        Column("time_s", "est. time", format_duration, numeric=True),
        Column("energy_j", "est. energy", lambda joules: f"{joules / 1e3:,.0f} kJ", numeric=True),
    )
    known = {block.name: facts(block) for block in scenario.blocks}
    table = tuple(_row(row, short.get(row.block)) | known[row.block] for row in rows)
    energies = [row["energy_j"] for row in table if row["energy_j"] is not None]
    total = {
        "block": "total",
        "points": sum(row["points"] for row in table),
        "skipped": None,
        "deciding_s": sum(row.deciding_s for row in rows) or None,
        "shortened": None,
        "time_s": whole_s(scenario, rows),
        "energy_j": sum(energies) if energies else None,
    }
    emit(Table("Plan", columns, (*table, total)), form, output)
    say(
        f"{scenario.name}: {_how(scenario)} on {machine.name}. "
        f"{_decided(compiled) if deciding else ''}"
        "±40 %, from ceilings and launches; nothing was run."
    )
    for note in unknown:
        say(note)
    return EXIT_DONE


def _opened(spec: ForeignSpec) -> str:
    """What is known of a model that is not ours. Raises ConfigError where it cannot be there."""
    from pathlib import Path

    kind, _, rest = spec.factory.partition(":")
    if kind != "hf":
        return "its code runs in a sweep only"
    path = Path(rest).expanduser()
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"{spec.factory}: {file}: no such file")
    if find_spec("transformers") is None or find_spec("torch") is None:
        return "nothing was opened, since transformers is not installed"
    import torch

    from ssmprof.models.build import foreign

    built = foreign.build(spec, torch.device("meta"), torch.bfloat16, 0, "none")
    count = sum(one.numel() for one in built.module.parameters())
    return f"{count / 1e6:,.0f} M parameters"


def _how(scenario: Scenario) -> str:
    if scenario.sweep.strategy in _HOW:
        return _HOW[scenario.sweep.strategy]
    extra = scenario.sweep.refine.max_extra if scenario.sweep.refine else 0
    refined = f", up to {extra} contexts more around crossovers," if extra else ""
    return f"{scenario.budget.rounds} rounds{refined}"


def _shortened(scenario: Scenario) -> dict[str, Any]:
    """Block -> how many of its layers decide who runs its ops, where not all do."""
    from msgspec import to_builtins

    from ssmprof.models.recipe import Recipe
    from ssmprof.models.short_form import short_form

    return {
        block.name: to_builtins(short_form(block)[1])
        for block in scenario.blocks
        if isinstance(block, Recipe)
    }


def _decided(compiled: bool) -> str:
    first = "" if compiled else ", with kernels compiled for the first time"
    return f"Est. time holds deciding who runs which op{first}. "


def _row(row: Row, shortened: Any) -> dict[str, Any]:
    from ssmprof.units import format_context

    skipped: dict[str, int] = {}
    for point in row.skipped:
        key = f"{point.phase} b{point.batch}"
        skipped[key] = min(point.context, skipped.get(key, point.context))
    words = "; ".join(f"{key} from {format_context(at)}" for key, at in skipped.items())
    return {
        "block": row.block,
        "points": row.points,
        "skipped": f"{len(row.skipped)}  ({words})" if skipped else "0",
        "deciding_s": row.deciding_s or None,
        "shortened": shortened,
        "time_s": None if row.seconds is None else row.seconds + row.deciding_s,
        "energy_j": row.energy_j,
    }


def _machine(scenario: Scenario, chip: str | None) -> Machine:
    from ssmprof.chips import chips
    from ssmprof.devices import detect
    from ssmprof.errors import nearest
    from ssmprof.planning.machine import Machine

    if chip is not None:
        # `h100` names the first chip of that beginning; anything else must be a name of the table.
        key = next((name for name in chips() if name == chip or name.startswith(f"{chip}-")), None)
        if key is None:
            raise ConfigError(f'--on: no chip is named "{chip}"{nearest(chip, chips())}')
        return Machine.of_device(chips()[key].name, "cuda")
    try:
        device = detect(scenario.device)
    except NoDeviceError as error:
        raise NoDeviceError(error.what, fix="--on h100 plans for a device elsewhere") from None
    with_name = device.name, device.kind, device.memory_bytes()
    device.close()
    return Machine.of_device(*with_name)
