"""`ssmprof kernels`: where the time of one point goes."""

from __future__ import annotations

from math import log

import click

from ssmprof.cli.findings import analysed, chosen, facet_options
from ssmprof.cli.options import answer, emit, run_argument, say, table_options, tokens_type
from ssmprof.errors import ConfigError, nearest


@click.command("kernels", short_help="Where the time of one point goes.")
@run_argument
@click.option("--model", "--block", "block", help="The contender; the first one by default.")
@click.option(
    "--context", metavar="TOKENS", callback=tokens_type,
    help="The nearest length with times per kernel; the longest by default.",
)  # fmt: skip
@click.option("--top", type=click.IntRange(min=1), default=12, help="How many; the rest is summed.")
@facet_options
@table_options
def command(
    run: str | None,
    block: str | None,
    context: int | None,
    top: int,
    phase: str | None,
    batch: int | None,
    execution: str | None,
    form: str | None,
    output: str | None,
) -> None:
    """Per-kernel times of one contender at one context of RUN, heaviest first.

    Example: ssmprof kernels RUN --model mamba2 --context 32K --top 5
    """
    from ssmprof.analysis.compare.conditions import device_of
    from ssmprof.analysis.explain.dominance import CUSTOM
    from ssmprof.report import kernels
    from ssmprof.report.words import percent
    from ssmprof.units import format_context

    loaded, analysis = analysed(run, "shares")
    names = [subject.name for subject in loaded.scenario.blocks]
    if block is not None and block not in names:
        raise ConfigError(f'this run has no contender "{block}"{nearest(block, names)}')
    conditions = chosen(loaded, phase, batch, execution)
    attributed = {
        (one.point.block, one.point.context)
        for one in loaded.measurements()
        if one.attribution and one.point.conditions(device_of(loaded, one)) == conditions
    }
    if not attributed:
        raise ConfigError(
            "this run holds no times per kernel", fix="passes.parts = true in the scenario"
        )
    blocks = [name for name in names if any(have == name for have, _ in attributed)]
    block = block or blocks[0]
    lengths = sorted(at for have, at in attributed if have == block)
    if not lengths:
        raise ConfigError(
            f"{block}: no times per kernel of {conditions.label()}", fix=f"--model {blocks[0]}"
        )
    wanted = lengths[-1] if context is None else min(lengths, key=lambda at: abs(log(at / context)))
    if context not in (None, wanted):
        have = ", ".join(map(format_context, lengths))
        say(
            f"no times per kernel at {format_context(context)} tokens; the nearest is taken, "
            f"{format_context(wanted)} (there are {have})"
        )
    table = kernels.table(loaded, block, wanted, conditions, top)
    answer(table.caption, form, output)
    emit(table, form, output)
    shares = [
        one
        for one in analysis.shares
        if (one.conditions, one.block, one.context, one.of) == (conditions, block, wanted, "device")
        and one.family != CUSTOM
    ]
    shares.sort(key=lambda one: -one.share)
    told = ", ".join(f"{one.family} {percent(one.share)}" for one in shares)
    answer(f"device time: {told}", form, output)
