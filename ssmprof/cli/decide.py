"""`ssmprof decide`: limits and a mix of contexts -> a choice, or what to measure next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ssmprof.cli.findings import chosen, facet_options
from ssmprof.cli.options import (
    answer,
    bytes_type,
    duration_type,
    emit,
    load_run,
    run_argument,
    say,
    table_options,
)
from ssmprof.errors import EXIT_DONE, EXIT_FINDING, ConfigError

if TYPE_CHECKING:
    from ssmprof.analysis.decide.decision import Decision


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

    wanted = _mix(mix)
    loaded = load_run(run)
    conditions = chosen(loaded, phase, batch, execution)
    found = decide(loaded, conditions, wanted, Limits(time_s=limit_s, memory_bytes=limit_bytes))
    rows = tuple(
        {
            "block": one.block,
            "expected_s": one.expected_s.value if one.expected_s else None,
            "shown": time_with_interval(one.expected_s) if one.expected_s else None,
            "out": one.out,
            "verdict": _verdict(found, one.block),
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
    answer(_told(found, loaded.scenario.budget.tie), form, output)
    return EXIT_DONE if found.choice else EXIT_FINDING


def _told(found: Decision, tie: float) -> str:
    if found.choice:
        return f"Choice: {found.choice}."
    if found.equal:
        return f"Either: {' and '.join(found.equal)} are equal (within {tie:.0%})."
    if found.unresolved:
        after = f" Measure next: {found.next_point}." if found.next_point else ""
        return f"Not resolved: {' and '.join(found.unresolved)}.{after}"
    return "None: no contender meets the limits."


def _verdict(found: Decision, block: str) -> str:
    """What the decision says of one contender, for programs."""
    if block == found.choice:
        return "choice"
    if block in found.equal:
        return "equal"
    return "unresolved" if block in found.unresolved else "out"


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
        if not 0 < share < float("inf"):
            raise ConfigError(
                f'--mix: "{part.strip()}" has no positive weight', fix="--mix 4K:70%,32K:30%"
            )
    whole = sum(mix.values())
    if "%" in text and abs(whole - 100) > 0.5:
        raise ConfigError(
            f"--mix: the shares add up to {whole:g} %, not to 100 %", fix="--mix 4K:70%,32K:30%"
        )
    return mix
