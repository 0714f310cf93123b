"""`ssmprof advise`: what could be changed, and at most how much it gains."""

from __future__ import annotations

import click

from ssmprof.cli.findings import analysed
from ssmprof.cli.options import emit, run_argument, say, table_options


@click.command("advise", short_help="What could be changed, and its largest gain.")
@run_argument
@table_options
def command(run: str | None, form: str | None, output: str | None) -> None:
    """Findings of RUN with their evidence; gains are upper bounds, nothing is changed.

    Example: ssmprof advise RUN
    """
    from msgspec.structs import replace

    from ssmprof.analysis.decide.cautions import cautions
    from ssmprof.report import rows
    from ssmprof.serving import padding

    loaded, analysis = analysed(run, "answers", "advice")
    analysis = replace(analysis, advice=(*analysis.advice, *padding.advice(loaded)))
    emit(rows.advice(analysis), form, output)
    said = dict.fromkeys(
        (limit.text, limit.fix) for one in analysis.latencies for limit in one.limits
    )
    for text, fix in said:
        say(f"! {text}" + (f" (try: {fix})" if fix else ""))
    told = cautions(loaded.scenario.blocks)
    if told:
        say("Published, and not measured here:")
    for one in told:
        say(f"  {one.when}: {one.statement} ({one.sources})")
