"""`ssmprof trace`: the kernels of one point as a Chrome trace."""

from __future__ import annotations

import json

import click

from ssmprof.cli.options import load_run, run_argument, say, write
from ssmprof.errors import ConfigError


@click.command("trace", short_help="Kernels of a run as a Chrome trace.")
@run_argument
@click.option("--model", "--block", "block", help="One contender; all by default.")
@click.option("--context", metavar="TOKENS", help="One context length; all by default.")
@click.option("--phase", type=click.Choice(["prefill", "decode"]))
@click.option("-o", "--output", metavar="FILE", help="By default stdout.")
def command(
    run: str | None, block: str | None, context: str | None, phase: str | None, output: str | None
) -> None:
    """Write the kernels of RUN, or of one contender and context, as a Chrome trace.

    Example: ssmprof trace RUN --model mamba2 --context 8K -o trace.json
    """
    from ssmprof.report.trace import chrome_trace
    from ssmprof.units import parse_tokens

    try:
        tokens = parse_tokens(context) if context else None
    except ValueError as error:
        raise ConfigError(f"--context: {error}") from None
    loaded = load_run(run)
    found = [
        one
        for one in loaded.measurements()
        if one.attribution is not None
        and block in (None, one.point.block)
        and tokens in (None, one.point.context)
        and phase in (None, one.point.phase)
    ]
    if not found:
        raise ConfigError(
            "no such point with times per kernel", fix="ssmprof kernels RUN lists what there is"
        )
    write(json.dumps(chrome_trace(loaded, found), separators=(",", ":")) + "\n", output)
    say("opens in ui.perfetto.dev; durations are measured, starts are not")
