"""`ssmprof models`: presets of real models."""

from __future__ import annotations

import click

from ssmprof.cli.options import emit, table_options


@click.command("models", short_help="List presets of real models.")
@click.option(
    "--family", type=click.Choice(["transformer", "ssm", "hybrid"]), help="One architecture."
)
@table_options
def command(family: str | None, form: str | None, output: str | None) -> None:
    """List the presets: layer shapes of real models, each with its source.

    Example: ssmprof models --family hybrid
    """
    from ssmprof.planning import models
    from ssmprof.report.tables import Column, Table

    rows = []
    for name in models.names(family):  # type: ignore[arg-type]
        entry = models.entry(name)
        spec = entry.spec
        parts = {part: spec.count(part) for part in dict.fromkeys(spec.sublayers)}
        rows.append(
            {
                "model": name,
                "architecture": spec.architecture,
                "params": entry.params,
                "d_model": spec.d_model,
                "layers": ", ".join(f"{count} {part}" for part, count in parts.items()),
                "source": entry.source,
                "note": entry.note,
            }
        )
    columns = (
        Column("model", "model"),
        Column("architecture", "family"),
        Column("params", "parameters", lambda count: f"{count / 1e6:,.0f} M", numeric=True),
        Column("d_model", "d_model", numeric=True),
        Column("layers", "sub-layers"),
    )
    emit(Table("Models", columns, tuple(rows)), form, output)
