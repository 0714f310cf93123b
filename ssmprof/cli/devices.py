"""`ssmprof devices`: what can be measured on, and what each device can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ssmprof.cli.options import emit, table_options
from ssmprof.errors import EXIT_DONE, EXIT_NO_DEVICE, NoDeviceError

if TYPE_CHECKING:
    from ssmprof.devices.base import Device


@click.command("devices", short_help="Devices, and what each can tell.")
@table_options
def command(form: str | None, output: str | None) -> int:
    """List the devices of this machine: memory, clocks, power, and where readings come from.

    Example: ssmprof devices --json
    """
    from ssmprof.devices import detect
    from ssmprof.report.tables import Column, Table
    from ssmprof.units import format_bytes

    rows: list[dict[str, Any]] = []
    for kind in ("cuda", "cpu"):
        try:
            device = detect(kind)
        except NoDeviceError:
            continue
        rows.append(_row(kind, device))
        device.close()
    columns = (
        Column("id", "id"),
        Column("name", "name"),
        Column("memory_bytes", "memory", format_bytes, numeric=True),
        Column("sm_hz", "clock", lambda hz: f"{hz / 1e6:,.0f} MHz", numeric=True),
        Column("pinned", "clocks"),
        Column("power_w", "power", lambda watts: f"{watts:,.0f} W", numeric=True),
        Column("energy_source", "energy from"),
        Column("missing", "cannot tell", ", ".join),
    )
    emit(Table("Devices", columns, tuple(rows)), form, output)
    return EXIT_DONE if rows else EXIT_NO_DEVICE


def _row(kind: str, device: Device) -> dict[str, Any]:
    from ssmprof.chips import find_chip

    row = {
        "id": kind,
        "name": device.name,
        "chip": find_chip(device.name),
        "memory_bytes": device.memory_bytes(),
        "sm_hz": device.sm_hz(),
        "max_sm_hz": device.max_sm_hz(),
        "pinned": device.pinned(),
        "power_w": device.power_w(),
        "power_limit_w": device.power_limit_w(),
        "temperature_c": device.temperature_c(),
        "energy_source": device.energy_source,
    }
    device.energy_j()
    return row | {"missing": sorted(device.missing), "why": dict(device.missing)}
