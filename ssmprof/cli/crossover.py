"""`ssmprof crossover`: who wins where, and how surely."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ssmprof.cli.findings import facet_options, matches
from ssmprof.cli.options import emit, load_run, refuse, room, run_argument, table_options, write
from ssmprof.errors import EXIT_DONE, EXIT_WITHHELD, ConfigError

if TYPE_CHECKING:
    from ssmprof.analysis.findings import Metric

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

    Of many contenders also from which length each is ahead of the transformer. --json is one
    object (`ssmprof schema crossover`); the other formats are a row per crossing.
    Example: ssmprof crossover reports/2026-11-30-crossover-h200 --phase prefill
    """
    from ssmprof.analysis import analyze
    from ssmprof.analysis.compare.curve import METRICS
    from ssmprof.harmless import markdown_cell, one_line
    from ssmprof.report import against, exchange, rows
    from ssmprof.report.contenders import slices
    from ssmprof.report.tables import render
    from ssmprof.report.text import told
    from ssmprof.report.verdicts import VERDICT_METRICS, verdicts_of, views_of

    if form == "json":
        refuse(("pairs", "dominance"), "chooses tables; --json has everything", "--json alone")
    loaded = load_run(run)
    width = room() if output is None else None
    # A verdict on latency says where energy disagrees; shares are those of device time.
    metrics: list[Metric] = [
        one for one in METRICS if metric in ("all", one) or one in VERDICT_METRICS
    ]
    analysis = analyze(loaded, ("answers",), metrics=metrics, shares_of=("device",))
    answers = [
        one
        for one in analysis.answers
        if metric in ("all", one.metric) and matches(one.conditions, phase, batch, execution)
    ]
    if not answers:
        every = analyze(loaded, ("answers",)).answers
        have = dict.fromkeys(f"{one.metric} of {one.conditions.label()}" for one in every)
        cause = f"it holds: {'; '.join(have) or 'nothing'}"
        raise ConfigError("this run has no such answer", cause=cause)
    withheld = any(one.withheld is not None for one in answers)
    tables = [rows.crossings(answers)]
    if pairs:
        tables.append(rows.pairs(answers))
    if dominance:
        owned = [each for one in answers for each in one.dominance if each.of == "device"]
        tables.append(rows.dominances(owned))
    views = views_of(loaded, analysis)
    compared = [] if len(tables) > 1 else [views[one.key] for one in answers]
    each = against.table(compared, against.MANY)
    if form == "json":
        write(exchange.to_json(exchange.crossover(loaded, analysis, answers)), output)
    elif form == "md" and each is not None:
        caption = markdown_cell(each.caption)
        write(f"{render(tables[0], 'md')}\n{caption}\n\n{render(each, 'md')}", output)
    elif form is not None:
        emit(tables[-1], form, output)
    else:
        said = verdicts_of(loaded, analysis)
        cut = slices(loaded.scenario.blocks)
        parts = [f"{cut.caption}\n{render(cut, 'text', width)}".rstrip()] if cut else []
        parts += [told(views[one.key], said[one.key], width) for one in answers]
        parts += [
            f"{one_line(one.caption)}\n{render(one, 'text', width)}".rstrip()
            for one in (each, *tables)
            if one is not None and one.rows
        ]
        write("\n\n".join(parts) + "\n", output)
    return EXIT_WITHHELD if withheld else EXIT_DONE
