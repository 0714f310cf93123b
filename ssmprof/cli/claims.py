"""`ssmprof claims`: published claims against a run."""

from __future__ import annotations

import click

from ssmprof.cli.findings import analysed
from ssmprof.cli.options import answer, emit, run_argument, table_options
from ssmprof.errors import EXIT_DONE, EXIT_FINDING


@click.command("claims", short_help="Published claims against this run.")
@run_argument
@click.option("--fail-on-refuted", is_flag=True, help="Exit 1 if a claim does not hold here.")
@table_options
def command(run: str | None, fail_on_refuted: bool, form: str | None, output: str | None) -> int:
    """Check published claims about speed, memory and energy against RUN.

    Example: ssmprof claims RUN --md
    """
    from ssmprof.report import rows

    _, analysis = analysed(run, "claims")
    emit(rows.claims(analysis), form, output)
    count = dict.fromkeys(("holds", "holds-stronger", "not-here", "not-testable"), 0)
    for one in analysis.claims:
        count[one.verdict] += 1
    held = count["holds"] + count["holds-stronger"]
    answer(
        f"{held} hold, {count['not-here']} not, {count['not-testable']} not testable here. "
        "Sizes, kernels and device may differ from the source: no refutation elsewhere.",
        form,
        output,
    )
    return EXIT_FINDING if fail_on_refuted and count["not-here"] else EXIT_DONE
