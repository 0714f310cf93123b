"""`ssmprof crossover`: who wins where, and how surely."""

from __future__ import annotations

import click

from ssmprof.cli.findings import analysed, facet_options, matches
from ssmprof.cli.options import emit, run_argument, table_options, write
from ssmprof.errors import EXIT_DONE, EXIT_WITHHELD, ConfigError

_METRICS = ["latency", "hot-latency", "energy", "memory", "all"]


@click.command("crossover", short_help="Who wins where, and how surely.")
@run_argument
@facet_options
@click.option("--metric", type=click.Choice(_METRICS), default="latency", help="What is compared.")
@click.option("--pairs", is_flag=True, help="Every pair by itself, too.")
@click.option("--dominance", is_flag=True, help="Which kernels own half of the time, and where.")
@table_options
def command(
    run: str | None,
    phase: str | None,
    batch: int | None,
    execution: str | None,
    metric: str,
    pairs: bool,
    dominance: bool,
    form: str | None,
    output: str | None,
) -> int:
    """The answer of RUN: who wins where, the zone of each change, and what limits it.

    --json is one object (`ssmprof schema crossover`); the other formats are a row per crossing.
    Example: ssmprof crossover reports/2026-11-22-crossover-h100-80gb-hbm3 --phase prefill
    """
    from ssmprof.report import exchange, rows
    from ssmprof.report.tables import render
    from ssmprof.report.text import told
    from ssmprof.report.verdicts import verdicts_of, views_of

    loaded, analysis = analysed(run)
    answers = [
        one
        for one in analysis.answers
        if metric in ("all", one.metric) and matches(one.conditions, phase, batch, execution)
    ]
    if not answers:
        have = "; ".join(dict.fromkeys(f"{one.metric} of {one.conditions.label()}"
                                       for one in analysis.answers)) or "nothing"  # fmt: skip
        raise ConfigError("this run has no such answer", cause=f"it holds: {have}")
    withheld = any(one.withheld is not None for one in answers)
    tables = [rows.crossings(answers)]
    if pairs:
        tables.append(rows.pairs(answers))
    if dominance:
        tables.append(rows.dominances(each for one in answers for each in one.dominance))
    if form == "json":
        write(exchange.to_json(exchange.crossover(loaded, analysis, answers)), output)
    elif form is not None:
        emit(tables[-1], form, output)
    else:
        said, views = verdicts_of(loaded, analysis), views_of(loaded, analysis)
        parts = [told(views[one.key], said[one.key]) for one in answers]
        parts += [f"{one.caption}\n{render(one, 'text')}".rstrip() for one in tables if one.rows]
        write("\n\n".join(parts) + "\n", output)
    return EXIT_WITHHELD if withheld else EXIT_DONE
