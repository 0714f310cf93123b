"""`ssmprof decide`: limits and a mix of contexts -> a choice, or what to measure next."""

from __future__ import annotations

import click

from ssmprof.cli.findings import chosen, facet_options
from ssmprof.cli.options import (
    bytes_type,
    duration_type,
    emit,
    load_run,
    run_argument,
    say,
    table_options,
)
from ssmprof.errors import EXIT_DONE, EXIT_FINDING, ConfigError


@click.command("decide", short_help="A choice for a mix of contexts within limits.")
@run_argument
@click.option("--mix", required=True, metavar="LIST", help="Such as 4K:70%,32K:30%.")
@click.option("--ttft", "limit_s", metavar="TIME", callback=duration_type, help="Such as 500ms.")
@click.option("--memory", "limit_bytes", metavar="SIZE", callback=bytes_type, help="Such as 8GiB.")
@facet_options
@table_options
def command(
    run: str | None, mix: str, limit_s: float | None, limit_bytes: int | None, phase: str | None,
    batch: int | None, execution: str | None, form: str | None, output: str | None,
) -> int:  # fmt: skip
    """Which contender for this mix of contexts within these limits. Exits 1 if none can be named.

    Example: ssmprof decide RUN --mix 4K:70%,32K:30% --ttft 500ms
    """
    from ssmprof.analysis.decide.decision import Limits, decide
    from ssmprof.analysis.decide.slices import unequal
    from ssmprof.report.tables import Column, Table
    from ssmprof.report.words import time_with_interval

    loaded = load_run(run)
    conditions = chosen(loaded, phase, batch, execution)
    found = decide(loaded, conditions, _mix(mix), Limits(time_s=limit_s, memory_bytes=limit_bytes))
    rows = tuple(
        {
            "block": one.block,
            "expected_s": one.expected_s.value if one.expected_s else None,
            "shown": time_with_interval(one.expected_s) if one.expected_s else None,
            "out": one.out,
        }
        for one in found.candidates
    )
    columns = (
        Column("block", "contender"),
        Column("shown", "mean over the mix", numeric=True),
        Column("out", "ruled out by"),
    )
    emit(Table("Candidates", columns, rows), form, output)
    if warning := unequal(loaded.scenario.blocks):
        say(f"! {warning}")
    if found.note:
        say(f"! {found.note}")
    if found.choice:
        say(f"Choice: {found.choice}.")
        return EXIT_DONE
    if found.equal:
        tie = loaded.scenario.budget.tie
        say(f"Either: {' and '.join(found.equal)} are equal (within {tie:.0%}).")
    elif found.unresolved:
        after = f" Measure next: {found.next_point}." if found.next_point else ""
        say(f"Not resolved: {' and '.join(found.unresolved)}.{after}")
    else:
        say("None: no contender meets the limits.")
    return EXIT_FINDING


def _mix(text: str) -> dict[int, float]:
    """`4K:70%,32K:30%` -> weights; without weights all count the same."""
    from ssmprof.units import parse_tokens

    mix: dict[int, float] = {}
    for part in text.split(","):
        context, _, weight = part.partition(":")
        try:
            share = float(weight.strip().rstrip("%")) if weight else 1.0
            mix[parse_tokens(context)] = share
        except ValueError as error:
            raise ConfigError(f"--mix: {error}", fix="--mix 4K:70%,32K:30%") from None
        if share <= 0:
            raise ConfigError(f'--mix: "{part.strip()}" has no positive weight')
    return mix
