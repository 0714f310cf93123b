"""`ssmprof serving trace`: make a trace from parameters, or tell what one is like."""

from __future__ import annotations

from typing import Any

import click

from ssmprof.cli.options import emit, table_options, write
from ssmprof.cli.serving.requests import request_options, requests_of
from ssmprof.errors import ConfigError


@click.command("trace", short_help="Make a trace of requests, or tell what one is like.")
@click.argument("requests", metavar="REQUESTS")
@click.option("--write", "file", metavar="FILE.jsonl", help="Write the trace itself there.")
@request_options
@table_options
def trace(
    requests: str, file: str | None, skip_bad: bool, block_tokens: int, form: str | None,
    output: str | None,
) -> None:  # fmt: skip
    """Lengths, rate and shared prefixes of REQUESTS: a trace in a file, or parameters of one to be
    made: sessions, turns, systems, system_tokens, user_tokens, output_tokens, spread, branch,
    sessions_per_s, think_s, block_tokens, seed.

    Example: ssmprof serving trace sessions=200,turns=6,branch=0.2 --write made.jsonl
    """
    from ssmprof.serving.requests import likeness, lines

    found = requests_of(requests, block_tokens, skip_bad)
    if file is not None:
        if found.block_tokens is None:
            raise ConfigError(f"{found.name}: a trace without prefixes is not written anew")
        write(lines(found), file)
    _show(likeness(found), form, output)


def _show(row: dict[str, Any], form: str | None, output: str | None) -> None:
    from ssmprof.report.tables import Column, Table
    from ssmprof.units import format_duration, three_digits

    def count(value: float) -> str:
        return f"{value:,.0f}"

    def share(value: float) -> str:
        return f"{value:.1%}"

    columns = (
        Column("requests", "requests", count, numeric=True),
        Column("duration_s", "duration", format_duration, numeric=True),
        Column("rate_per_s", "per second", three_digits, numeric=True),
        Column("prompt_tokens_p50", "prompt", count, numeric=True),
        Column("prompt_tokens_p99", "99 %", count, numeric=True),
        Column("output_tokens_p50", "output", count, numeric=True),
        Column("output_tokens_p99", "99 %", count, numeric=True),
        Column("block_tokens", "block", count, numeric=True),
        Column("shared_share", "seen before", share, numeric=True),
    )
    emit(Table("Requests", columns, (row,)), form, output)
