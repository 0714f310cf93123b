"""`ssmprof crossover`: where one contender overtakes another."""

from __future__ import annotations

import click

from ssmprof.cli.findings import analysed, facet_options, matches, say_trust
from ssmprof.cli.options import emit, run_argument, say, table_options
from ssmprof.errors import EXIT_DONE, EXIT_WITHHELD


@click.command("crossover", short_help="Where one contender overtakes another.")
@run_argument
@facet_options
@click.option(
    "--metric",
    type=click.Choice(["latency", "hot-latency", "energy", "memory", "all"]),
    default="latency",
    help="What is compared.",
)
@table_options
def command(
    run: str | None,
    phase: str | None,
    batch: int | None,
    execution: str | None,
    metric: str,
    form: str | None,
    output: str | None,
) -> int:
    """Crossovers of every pair in RUN, each with its interval and measured bracket.

    Example: ssmprof crossover reports/2026-11-22-crossover-h100 --phase prefill --md
    """
    from ssmprof.report import rows
    from ssmprof.report.conclusions import verdicts

    loaded, analysis = analysed(run)
    found = [
        one
        for one in analysis.crossovers
        if metric in ("all", one.metric) and matches(one.facet, phase, batch, execution)
    ]
    emit(rows.crossovers(found), form, output)
    for facet, said in verdicts(loaded, analysis).items():
        if matches(facet, phase, batch, execution):
            say(f"{facet.label()}: {said.text}")
    say_trust(analysis)
    return EXIT_WITHHELD if analysis.trust.withheld else EXIT_DONE
