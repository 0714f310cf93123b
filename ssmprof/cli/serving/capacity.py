"""`ssmprof serving capacity`: how many sequences fit, and what is wasted, by engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ssmprof.cli.options import contexts_type, emit, say, table_options
from ssmprof.cli.serving.asked import asked_of, engines_of, pool_options

if TYPE_CHECKING:
    from ssmprof.models.recipe import Recipe
    from ssmprof.serving.capacity import Capacity


@click.command("capacity", short_help="Sequences that fit, and what is wasted.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--contexts", metavar="LIST", callback=contexts_type, default="1000,8000,64000",
              show_default=True, help="Tokens of a sequence, such as 1K-64K*4.")  # fmt: skip
@click.option("--engine", default="all", show_default=True, metavar="NAME[@VERSION]",
              help="vllm, sglang or all.")  # fmt: skip
@pool_options
@table_options
def capacity(
    models: tuple[str, ...], contexts: tuple[int, ...], engine: str, form: str | None,
    output: str | None, **options: Any,
) -> None:  # fmt: skip
    """Blocks, pages, slots and sequences of MODEL (a preset, the first layers of one, a
    config.json, its folder or a hub id) in a pool, by the rules of serving engines, beside a pool
    for every cache.

    Example: ssmprof serving capacity path/to/config.json --pool 40GiB --contexts 1000,64000
    """
    import msgspec

    from ssmprof.models.find import find
    from ssmprof.serving.capacity import capacities

    engines = engines_of(engine)
    recipes = [find(name) for name in models]
    found: list[Capacity] = []
    for recipe in recipes:
        asked = asked_of(recipe, max(contexts), options)
        for one in engines:
            found += capacities(recipe, one, asked, contexts)
    _show([msgspec.to_builtins(one) for one in found], form, output)
    for recipe in recipes:
        _say_missing(recipe)
    if options["prefix"] == "align" and options["gdn_prefill"] == "triton":
        gated = [one.name for one in recipes if any(p.kept() and _gated(p) for _, p in one.used())]
        for name in dict.fromkeys(gated):
            say(f"{name}: on Hopper vLLM takes other blocks by default: --gdn-prefill flashinfer")
    for one in engines:
        files = "; ".join(dict.fromkeys(file.partition(":")[0] for file in one.files))
        say(f"{one.name} {one.version}, as in {files}")


def _gated(part: Any) -> bool:
    return any(getattr(one, "rule", None) == "gated_delta" for one in part.kept())


def _say_missing(recipe: Recipe) -> None:
    kinds = {part.memory for _, part in recipe.used()}
    if not kinds & {"fixed", "both"}:
        say(f"{recipe.name} keeps no state: it has no ratio of states to keys to balance")
    elif not kinds & {"grows", "both"}:
        say(f"{recipe.name} has no attention: what it keeps does not grow with the context")


def _show(rows: list[dict[str, Any]], form: str | None, output: str | None) -> None:
    from ssmprof.report.tables import Column, Table
    from ssmprof.units import format_bytes, format_context, three_digits

    def count(value: float) -> str:
        return f"{value:,.0f}"

    def share(value: float) -> str:
        return f"{value:.0%}"

    columns = (
        Column("model", "model"),
        Column("engine", "engine"),
        Column("engine_version", "version"),
        Column("prefix_mode", "prefix"),
        Column("context_tokens", "context", format_context, numeric=True),
        Column("block_tokens", "block", count, numeric=True),
        Column("page_bytes", "page", format_bytes, numeric=True),
        Column("groups", "groups", count, numeric=True),
        Column("blocks", "blocks", count, numeric=True),
        Column("sequences", "sequences", count, numeric=True),
        Column("waste_share", "waste", share, numeric=True),
        Column("separate_sequences", "own pools", count, numeric=True),
        Column("state_bytes_per_sequence", "state", format_bytes, numeric=True),
        Column("kv_bytes_per_token", "KV per token", format_bytes, numeric=True),
        Column("balanced_ratio", "balanced", three_digits, numeric=True),
    )
    emit(Table("Capacity", columns, tuple(rows)), form, output)
