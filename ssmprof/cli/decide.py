"""`ssmprof decide`: limits and a mix of contexts -> a choice, or what to measure next."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from ssmprof.cli.findings import chosen, facet_options, matches
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
    from ssmprof.analysis.decide.workload import Served, Workload
    from ssmprof.records import Run


class _Choice(NamedTuple):
    """Every contender under a workload, who is chosen, and who meets the limits."""

    served: list[Served]
    choice: str | None
    able: list[str]


@click.command("decide", short_help="A choice for a mix of contexts within limits.")
@run_argument
@click.option("--mix", required=True, metavar="LIST", help="Such as 4K:70%,32K:30%.")
@click.option("--ttft", "limit_s", metavar="TIME", callback=duration_type, help="Such as 500ms.")
@click.option("--memory", "limit_bytes", metavar="SIZE", callback=bytes_type, help="Such as 8GiB.")
@click.option(
    "--answer", "tokens", type=click.IntRange(0), help="Tokens of an answer: whole requests."
)
@click.option("--price", type=click.FloatRange(0), help="Per hour: cost of whole requests.")
@facet_options
@table_options
def command(
    run: str | None, mix: str, limit_s: float | None, limit_bytes: int | None, tokens: int | None,
    price: float | None, phase: str | None, batch: int | None, execution: str | None,
    form: str | None, output: str | None,
) -> int:  # fmt: skip
    """Which contender for this mix of contexts within these limits. Exits 1 if none can be named.

    Example: ssmprof decide RUN --mix 4K:70%,32K:30% --ttft 500ms
    """
    from ssmprof.analysis.decide.decision import Limits, decide
    from ssmprof.analysis.decide.slices import unequal
    from ssmprof.report.tables import Column, Table
    from ssmprof.report.words import time_with_interval

    weights = _mix(mix)
    loaded = load_run(run)
    if tokens is not None or price is not None:
        from ssmprof.analysis.decide.workload import Workload

        if phase is not None:
            raise ConfigError("--phase does not go with --answer and --price: a request has both")
        asked = Workload(
            mix=weights, answer_tokens=tokens or 0, ttft_s=limit_s, memory_bytes=limit_bytes,
            price_per_hour=price,
        )  # fmt: skip
        return _tell_workload(_serve(loaded, asked, batch, execution), form, output)
    conditions = chosen(loaded, phase, batch, execution)
    if conditions.chunk is not None:
        raise ConfigError(
            "this run measured chunks of prompts, whose times are not those of prompts",
            fix="--phase decode, or ssmprof serving replay RUN",
        )
    found = decide(loaded, conditions, weights, Limits(time_s=limit_s, memory_bytes=limit_bytes))
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
    """`4K:70%,32K:30%` -> weights that add up to 1; without weights all count the same."""
    from ssmprof.analysis.decide.workload import whole
    from ssmprof.units import parse_tokens

    mix: dict[int, float] = {}
    parts = text.split(",")
    for part in parts:
        context, _, weight = part.partition(":")
        try:
            share = float(weight.strip().rstrip("%")) / 100 if weight else 1 / len(parts)
            tokens = parse_tokens(context)
        except ValueError as error:
            raise ConfigError(f"--mix: {error}", fix="--mix 4K:70%,32K:30%") from None
        if not 0 < share < float("inf"):
            raise ConfigError(
                f'--mix: "{part.strip()}" has no positive weight', fix="--mix 4K:70%,32K:30%"
            )
        mix[tokens] = mix.get(tokens, 0.0) + share
    return whole(mix)


def _serve(run: Run, asked: Workload, batch: int | None, execution: str | None) -> _Choice:
    """The workload on the first prefill and decode that the options ask for, as the page has it."""
    from ssmprof.analysis import analyze
    from ssmprof.analysis.decide import workload

    analysis = analyze(run, ("answers", "memory"), metrics=("latency",))
    mine = [one for one in analysis.latencies if matches(one.conditions, None, batch, execution)]
    found = workload.phases(mine)
    if found is None or (asked.answer_tokens and found[1] is None):
        raise ConfigError("this run holds no prefill and decode of the same conditions")
    prefill, decode = found
    known = workload.curves(prefill, decode, analysis.memory)
    served = workload.serve(known, asked, prefill.conditions.batch or 1)
    able = [one.block for one in served if one.out is None]
    sure = all(workload.ahead(able[0], other, known, asked, prefill, decode) for other in able[1:])
    return _Choice(served, able[0] if able and sure else None, able)


def _tell_workload(found: _Choice, form: str | None, output: str | None) -> int:
    from ssmprof.report.workload import table

    emit(table(found.served, found.choice), form, output)
    if found.choice:
        answer(f"Choice: {found.choice}.", form, output)
        return EXIT_DONE
    if found.able:
        answer(f"Not resolved: {found.able[0]} is fastest, but not certainly.", form, output)
    else:
        answer("None: no contender meets the limits.", form, output)
    return EXIT_FINDING
