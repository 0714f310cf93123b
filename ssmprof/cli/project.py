"""`ssmprof project`: beyond the range or the device that was measured; always labelled so."""

from __future__ import annotations

import click

from ssmprof.cli.options import contexts_type, emit, load_run, run_argument, say, table_options
from ssmprof.errors import ConfigError


@click.command("project", short_help="Beyond the range or device; always labelled.")
@run_argument
@click.option("--contexts", metavar="LIST", callback=contexts_type, help="Such as 512K,1M.")
@click.option("--anchor", metavar="RUN", help="A run on another device: project onto it.")
@table_options
def command(
    run: str | None,
    contexts: tuple[int, ...] | None,
    anchor: str | None,
    form: str | None,
    output: str | None,
) -> None:
    """Project RUN to longer contexts, or onto the device of another run; may refuse.

    Example: ssmprof project RUN --contexts 1M
    """
    from ssmprof.analysis.decide.projection import elsewhere, longer
    from ssmprof.report.tables import Column, Table
    from ssmprof.units import format_context, format_time

    if (contexts is None) == (anchor is None):
        raise ConfigError("name either --contexts or --anchor", fix="--contexts 1M")
    loaded = load_run(run)
    found = longer(loaded, contexts) if contexts else elsewhere(loaded, load_run(anchor))
    rows = tuple(
        {
            "device": one.device,
            "block": one.block,
            "conditions": one.conditions.label(),
            "context_tokens": one.context,
            "time_s": one.value_s,
            "ci_low_s": one.interval[0] if one.interval else None,
            "ci_high_s": one.interval[1] if one.interval else None,
            "error": one.error,
            "basis": one.basis,
            "refused": one.refused,
        }
        for one in found
    )
    columns = (
        Column("device", "device"),
        Column("block", "contender"),
        Column("conditions", "conditions"),
        Column("context_tokens", "context", format_context, numeric=True),
        Column("time_s", "PROJECTED", format_time, numeric=True),
        Column("ci_low_s", "low", format_time, numeric=True),
        Column("ci_high_s", "high", format_time, numeric=True),
        Column("error", "error", lambda share: f"{share:.1%}", numeric=True),
        Column("refused", "refused"),
    )
    emit(Table("Projections", columns, rows), form, output)
    say("PROJECTED, not measured. " + "; ".join(dict.fromkeys(one.basis for one in found)))
