"""`ssmprof memory`: where the bytes go, predicted for a model or measured in a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ssmprof import limits
from ssmprof.cli.options import (
    answer,
    bytes_type,
    contexts_type,
    emit,
    load_run,
    refuse,
    say,
    stored_options,
    table_options,
)
from ssmprof.errors import ConfigError

if TYPE_CHECKING:
    from ssmprof.models.recipe import Recipe

_CONTEXTS = tuple(2**power for power in range(10, 18))


@click.command("memory", short_help="Bytes by owner: of a run, or predicted.")
@click.argument("what", required=False, metavar="[RUN | MODEL]")
@click.option("--law", is_flag=True, help="Peak of a Hugging Face prefill with all logits.")
@click.option("--contexts", metavar="LIST", callback=contexts_type, help="Such as 1K-128K*2.")
@click.option("--batch", type=click.IntRange(1, limits.BATCH), default=1, show_default=True)
@click.option("--phase", type=click.Choice(["prefill", "decode"]), default="prefill")
@click.option("--logits", type=click.Choice(["none", "last", "all"]), default="last")
@click.option("--cap", metavar="SIZE", callback=bytes_type, help="Such as 8GiB: what fits?")
@stored_options
@table_options
def command(
    what: str | None, law: bool, contexts: tuple[int, ...] | None, batch: int, phase: str,
    logits: str, cap: int | None, form: str | None, output: str | None, **stored: str | None,
) -> None:  # fmt: skip
    """Bytes by owner over context: measured, from a RUN; predicted from shapes, for a MODEL.

    Example: ssmprof memory mamba2-780m --contexts 1K-64K*4 --cap 8GiB
    """
    from ssmprof.models.find import is_named

    if law:
        refuse(
            ("batch", "phase", "logits", *stored), "does not go with --law, a rule for one prefill"
        )
        _law(what, contexts or _CONTEXTS, cap, form, output)
    elif what is not None and is_named(what):
        _predicted(what, contexts or _CONTEXTS, batch, phase, logits, stored, cap, form, output)
    else:
        ours = ("contexts", "batch", "phase", "logits", "cap", *stored)
        refuse(
            ours, "goes with a MODEL; a RUN has what was measured", "ssmprof models lists presets"
        )
        _measured(what, form, output)


def _columns(*owners: tuple[str, str]) -> Any:
    from ssmprof.report.tables import Column
    from ssmprof.units import format_bytes, format_context

    return (
        Column("context_tokens", "context", format_context, numeric=True),
        *(Column(key, heading, format_bytes, numeric=True) for key, heading in owners),
        Column("fits", "fits"),
    )


def _predicted(
    name: str, contexts: tuple[int, ...], batch: int, phase: Any, logits: Any,
    stored: dict[str, Any], cap: int | None, form: str | None, output: str | None,
) -> None:  # fmt: skip
    from ssmprof.models.find import find
    from ssmprof.models.footprint import footprint
    from ssmprof.records import WORKLOADS, Point
    from ssmprof.report.tables import Table
    from ssmprof.scalars import digest

    recipe = find(name)
    rows = []
    for context in contexts:
        point = Point(
            block=recipe.name, block_digest=digest(recipe),
            workload=WORKLOADS[phase](context=context), batch=batch, logits=logits,
            **stored,
        )  # fmt: skip
        found = footprint(recipe, point)
        rows.append(
            {
                "context_tokens": context,
                "weights_bytes": found.weights_bytes,
                "kv_bytes": found.kv_bytes,
                "state_bytes": found.conv_state_bytes + found.ssm_state_bytes,
                "logits_bytes": found.logits_bytes,
                "activation_bytes": found.activation_bytes,
                "peak_bytes": found.peak_bytes,
                "fits": None if cap is None else "yes" if found.peak_bytes <= cap else "no",
            }
        )
    columns = _columns(
        ("weights_bytes", "weights"), ("kv_bytes", "KV cache"), ("state_bytes", "state"),
        ("logits_bytes", "logits"), ("activation_bytes", "activations"), ("peak_bytes", "peak"),
    )  # fmt: skip
    emit(Table("Predicted memory", columns, tuple(rows)), form, output)
    kept = "".join(f", {key.replace('_dtype', '')} {kind}" for key, kind in stored.items() if kind)
    who = _named(recipe)
    say(f"{who}, {phase}, batch {batch}, bf16{kept}, {logits} logits. PREDICTED from shapes.")


def _named(recipe: Recipe) -> str:
    """`qwen3-next@8 (slice of 8 of 48 layers)`, the plain name of a whole model."""
    from ssmprof.models.slicing import piece

    of = piece(recipe)
    return f"{recipe.name} ({of})" if of else recipe.name


def _law(
    name: str | None, contexts: tuple[int, ...], cap: int | None, form: str | None,
    output: str | None,
) -> None:  # fmt: skip
    from ssmprof.models.find import find
    from ssmprof.models.law import PUBLISHED, law_model, longest_context, peak_law
    from ssmprof.report.tables import Table
    from ssmprof.units import format_bytes, format_context

    if name is None:
        raise ConfigError("--law needs a model", fix="ssmprof models lists presets")
    recipe = find(name)
    try:
        model = law_model(recipe, PUBLISHED.get(recipe.name))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    rows = []
    for context in contexts:
        found = peak_law(model, context)
        rows.append(
            {
                "context_tokens": context,
                "weights_bytes": found.weights_bytes,
                "kv_bytes": found.kv_bytes,
                "logits_bytes": found.logits_bytes,
                "mask_bytes": found.mask_bytes,
                "peak_bytes": found.peak_bytes,
                "fits": None if cap is None else "yes" if found.peak_bytes <= cap else "no",
            }
        )
    columns = _columns(
        ("weights_bytes", "weights"), ("kv_bytes", "KV cache"), ("logits_bytes", "logits"),
        ("mask_bytes", "dense mask"), ("peak_bytes", "peak"),
    )  # fmt: skip
    emit(Table("Memory law", columns, tuple(rows)), form, output)
    say("PREDICTED peak of a Hugging Face prefill that keeps the logits of every position.")
    held = "is one of them" if recipe.name in PUBLISHED else "is not"
    published = f"published peaks of {', '.join(PUBLISHED)} (arXiv:2507.12442)"
    say(f"Held against {published}: {_named(recipe)} {held}.")
    if cap is not None:
        longest = format_context(longest_context(model, cap))
        answer(f"longest context in {format_bytes(cap)}: {longest} tokens", form, output)


def _measured(run: str | None, form: str | None, output: str | None) -> None:
    from ssmprof.analysis import analyze
    from ssmprof.report.tables import Column, Table
    from ssmprof.units import format_bytes, format_context

    if run is not None and "/" not in run and "\\" not in run:
        from pathlib import Path

        from ssmprof.errors import nearest
        from ssmprof.models.zoo import zoo

        if not Path(run).exists():
            raise ConfigError(f'"{run}" is neither a run folder nor a model{nearest(run, zoo())}')
    analysis = analyze(load_run(run), ("memory", "memory_laws"))
    owners = list(dict.fromkeys(name for point in analysis.memory for name in point.parts))
    rows = tuple(
        {
            "block": point.block,
            "phase": point.conditions.phase,
            "batch": point.conditions.batch,
            "execution": point.conditions.execution,
            "context_tokens": point.context,
            "peak_bytes": point.peak_bytes,
            "predicted_bytes": point.predicted_bytes,
            "fits": "yes" if point.fits else "no",
        }
        | {f"{name}_bytes": count for name, count in point.parts.items()}
        for point in analysis.memory
    )
    columns = (
        Column("block", "contender"),
        Column("phase", "phase"),
        Column("batch", "batch", numeric=True),
        Column("context_tokens", "context", format_context, numeric=True),
        *(Column(f"{name}_bytes", name, format_bytes, numeric=True) for name in owners),
        Column("peak_bytes", "peak", format_bytes, numeric=True),
        Column("fits", "fits"),
    )
    emit(Table("Measured memory", columns, rows), form, output)
    laws = [
        f"{law.block} {law.conditions.label()}: {format_bytes(law.fixed_bytes)} + "
        f"{law.bytes_per_token:,.0f} bytes/token"
        for law in analysis.memory_laws
    ]
    if laws:
        answer("\n".join(laws), form, output)
