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
    from ssmprof.models import recipe, zoo
    from ssmprof.report.tables import Column, Table

    rows = []
    for name in zoo.names(family):  # type: ignore[arg-type]
        entry = zoo.entry(name)
        found = entry.recipe
        parts = recipe.kinds(found)
        rows.append(
            {
                "model": name,
                "architecture": found.architecture,
                "params": entry.params,
                "d_model": found.d_model,
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
