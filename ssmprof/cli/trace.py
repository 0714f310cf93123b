"""`ssmprof trace`: the ops of a model, or the kernels of a run as a Chrome trace."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from ssmprof.cli.options import load_run, refuse, say, table_options, tokens_type, write
from ssmprof.errors import ConfigError

_CONTEXT = 1024


def _shape_type(_ctx: Any, _param: Any, value: str | None) -> tuple[int | str, ...] | None:
    """Callback of --input: `1x{L}x256`, {L} for the length and {B} for the batch."""
    if value is None:
        return None
    words = {"{B}": "batch", "{L}": "length"}
    sizes = value.split("x")
    if "{L}" in sizes and all(
        one in words or re.fullmatch("[1-9][0-9]{0,7}", one) for one in sizes
    ):
        return tuple(words[one] if one in words else int(one) for one in sizes)
    raise click.BadParameter(f'"{value[:60]}" is not a shape with a length; write 1x{{L}}x256')


@click.command("trace", short_help="Ops of a model, or a run's kernels as a Chrome trace.")
@click.argument("what", required=False, metavar="[RUN | MODEL]")
@click.option("--model", "--block", "block", help="One contender; all by default.")
@click.option(
    "--context", metavar="TOKENS", callback=tokens_type, help="One length; all by default."
)
@click.option("--phase", type=click.Choice(["prefill", "decode"]))
@click.option("--device", type=click.Choice(["any", "cuda", "cpu"]), default="any")
@click.option(
    "--input",
    "shape",
    metavar="SHAPE",
    callback=_shape_type,
    help="Numbers of that shape for a module without token ids: 1x{L}x256.",
)
@table_options
def command(
    what: str | None, block: str | None, context: int | None, phase: Any, device: str,
    shape: tuple[int | str, ...] | None, form: str | None, output: str | None,
) -> None:  # fmt: skip
    """Time every op of MODEL (a preset, config.json or module:factory), which is left unchanged.

    With RUN instead: write its kernels, or those of one contender and context, as a Chrome trace.
    Example: ssmprof trace mymodule:make --input 1x{L}x256
    """
    from ssmprof.models.find import is_named
    from ssmprof.report.trace import chrome_trace

    if what is not None and (is_named(what) or not Path(what).is_dir()):
        from ssmprof.cli.tracing import trace_model

        refuse(("block",), "chooses a contender of a RUN; the MODEL is named as it is")
        trace_model(what, context or _CONTEXT, phase or "prefill", device, shape, form, output)
        return
    refuse(("device", "shape"), "goes with a MODEL; a RUN was measured where it was")
    refuse(("form",), "goes with a MODEL; the trace of a RUN is JSON as it is")
    loaded = load_run(what)
    found = [
        one
        for one in loaded.measurements()
        if one.attribution is not None
        and block in (None, one.point.block)
        and context in (None, one.point.context)
        and phase in (None, one.point.phase)
    ]
    if not found:
        raise ConfigError(
            "no such point with times per kernel", fix="ssmprof kernels RUN lists what there is"
        )
    write(json.dumps(chrome_trace(loaded, found), separators=(",", ":")) + "\n", output)
    say("opens in ui.perfetto.dev; durations are measured, starts are not")
