"""`ssmprof models`: what real models weigh and keep, and whether they can be run here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ssmprof.cli.options import emit, refuse, say, table_options
from ssmprof.errors import ConfigError

if TYPE_CHECKING:
    from ssmprof.models.recipe import Recipe


@click.command("models", short_help="What models weigh and keep: presets, or any config.json.")
@click.argument("what", nargs=-1, metavar="[PRESET | FILE | FOLDER | ID]...")
@click.option(
    "--family", type=click.Choice(["transformer", "ssm", "hybrid"]), help="One architecture."
)
@click.option("--device", type=click.Choice(["any", "cuda", "cpu"]), default="any")
@table_options
def command(
    what: tuple[str, ...], family: str | None, device: str, form: str | None, output: str | None
) -> None:
    """Parameters, bytes kept per token and per sequence, and layers of models: all presets, or
    those named: a preset, the first layers of one (NAME@8), a config.json, a folder with one, or
    an id of the Hugging Face hub.

    Example: ssmprof models path/to/config.json mamba2-780m
    """
    from ssmprof.models import zoo
    from ssmprof.models.find import find

    if not what:
        refuse(("device",), "says where named models would run", "ssmprof models mamba2-780m")
        named = [(entry.recipe, entry) for entry in map(zoo.entry, zoo.names(family))]  # type: ignore[arg-type]
        rows = [_row(recipe) | _source(entry) for recipe, entry in named]
        _show(rows, form, output)
        return
    if family is not None:
        raise ConfigError("--family chooses among presets; leave it out where models are named")
    rows = []
    for name in what:
        recipe = find(name)
        row = _row(recipe)
        row["providers"] = None if row["missing"] else _providers(recipe, device)
        rows.append(row)
    _show(rows, form, output)
    for row in rows:
        say(_runs(row))


def _row(recipe: Recipe) -> dict[str, Any]:
    import msgspec

    from ssmprof.models.facts import facts

    row = msgspec.to_builtins(facts(recipe))
    return row | {"slice": msgspec.to_builtins(recipe.slice)}


def _source(entry: Any) -> dict[str, Any]:
    return {"source": entry.source, "note": entry.note}


def _show(rows: list[dict[str, Any]], form: str | None, output: str | None) -> None:
    from ssmprof.report.contenders import PIECE
    from ssmprof.report.tables import Column, Table
    from ssmprof.units import format_bytes

    def millions(count: float) -> str:
        return f"{count / 1e6:,.0f} M"

    def layers(found: dict[str, int]) -> str:
        return ", ".join(f"{count} {kind}" for kind, count in found.items())

    columns = (
        Column("name", "model"),
        *([PIECE] if any(row["slice"] for row in rows) else []),
        Column("architecture", "family"),
        Column("params", "parameters", millions, numeric=True),
        Column("active_params", "active", millions, numeric=True),
        Column("kv_bytes_per_token", "KV per token", format_bytes, numeric=True),
        Column("recurrent_bytes_per_sequence", "state", format_bytes, numeric=True),
        Column("conv_bytes_per_sequence", "convolutions", format_bytes, numeric=True),
        Column("layers", "sub-layers", layers),
    )
    emit(Table("Models", columns, tuple(rows)), form, output)


def _providers(recipe: Recipe, device: str) -> dict[str, list[str]] | None:
    """Op -> who may run it on this device, strongest expected first; None without torch."""
    try:
        import torch
    except ImportError:
        return None
    from ssmprof.devices import detect
    from ssmprof.mixers.ops import candidates
    from ssmprof.models.build import build

    opened = detect(device)  # type: ignore[arg-type]
    kind = opened.kind
    opened.close()
    model = build(recipe, "meta")
    return {op: list(candidates(op, torch.device(kind))) for op in model.providers()}


def _runs(row: dict[str, Any]) -> str:
    if row["missing"]:
        kinds = ", ".join(row["missing"])
        return f"{row['name']}: counted and planned; {kinds} cannot be run yet"
    if row["providers"] is None:
        return f"{row['name']}: can be run where torch is installed"
    chosen = ", ".join(f"{op} {names[0]}" for op, names in row["providers"].items())
    return f"{row['name']} would run here with {chosen}"
