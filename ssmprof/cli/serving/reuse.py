"""`ssmprof serving reuse`: prefixes of a trace that a cache would have held, by policy and size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ssmprof import limits
from ssmprof.cli.options import emit, refuse, say, table_options, write
from ssmprof.cli.serving.asked import asked_of, pool_options
from ssmprof.cli.serving.requests import request_options, requests_of
from ssmprof.serving.policies import POLICIES, Policy

if TYPE_CHECKING:
    from ssmprof.models.recipe import Recipe
    from ssmprof.serving.capacity import Asked
    from ssmprof.serving.requests import Trace
    from ssmprof.serving.reuse import Model, Reuse


@click.command("reuse", short_help="Prefixes of a trace that a cache would have held.")
@click.argument("requests", metavar="REQUESTS")
@click.option("--model", required=True, help="Preset, slice, config.json, folder or hub id.")
@click.option("--policy", "policies", multiple=True, type=click.Choice(list(POLICIES)),
              help="Which states are kept; every policy by default, kv-only always.")  # fmt: skip
@click.option("--sizes", metavar="LIST", help="Sizes of the cache, such as 8GiB,64GiB.")
@click.option("--granularity", type=click.Choice(["trace", "engine"]), default="trace",
              show_default=True, help="Blocks of the trace, or the model's in vLLM.")  # fmt: skip
@click.option("--interval", type=click.IntRange(1, limits.CONTEXT_TOKENS), default=4096,
              show_default=True, help="Tokens between states of the policy periodic.")  # fmt: skip
@click.option("--refresh", type=click.Choice(["used", "path"]), default="used", show_default=True,
              help="States a prompt renews: that it starts from, or all on its path.")  # fmt: skip
@click.option("--slots", type=click.IntRange(1), help="A pool of its own for so many states.")
@request_options
@pool_options
@table_options
def reuse(
    requests: str, model: str, policies: tuple[Policy, ...], sizes: str | None, granularity: str,
    interval: int, refresh: str, slots: int | None, skip_bad: bool, block_tokens: int,
    form: str | None, output: str | None, **options: Any,
) -> None:  # fmt: skip
    """Replay REQUESTS (a trace in a file, or parameters such as sessions=200,turns=6) through a
    cache of prefixes. With -o FILE.svg the share reused over the size of the cache is drawn.

    Example: ssmprof serving reuse trace.jsonl --model nemotron-h-8b --pool 40GiB
    """
    from ssmprof.models.find import find
    from ssmprof.serving.padding import padding
    from ssmprof.serving.reuse import default_pools, replay
    from ssmprof.units import format_bytes

    if policies and "periodic" not in policies:
        refuse(("interval",), "goes with the policy periodic", "--policy periodic")
    wanted = _sizes(sizes)
    recipe = find(model)
    trace = requests_of(requests, block_tokens, skip_bad)
    longest = max(one.prompt_tokens for one in trace.requests)
    asked = asked_of(recipe, longest, options)
    seen = _model(recipe, trace, asked, granularity)
    figure = output is not None and output.endswith(".svg")
    pools = wanted or (default_pools(asked.pool_bytes) if figure else [asked.pool_bytes])
    chosen: list[Policy] = [
        one for one in POLICIES if not policies or one in policies or one == "kv-only"
    ]
    how: dict[str, Any] = {"slots": slots, "interval_tokens": interval, "refresh": refresh}
    rows: list[Reuse] = []
    for number, size in enumerate(pools, start=1):
        rows += [replay(seen, policy, size, **how) for policy in chosen]
        if len(pools) > 1:
            say(f"[{number}/{len(pools)}] {format_bytes(size)}")
    if figure and output is not None:
        write(_figure(rows, trace, recipe), output)
    _show(rows, form, None if figure else output)
    prompts = sorted(one.prompt_tokens for one in trace.requests)
    padded = padding(recipe, prompts[len(prompts) // 2], "the median prompt")
    if padded is not None:
        say(f"{padded.finding} ({padded.evidence})")
    if not seen.state_bytes:
        say(f"{recipe.name} keeps no state: its keys are all that a prefix needs")
    elif not seen.block_bytes:
        say(f"{recipe.name} has no attention: kv-only is what keys of no size would give")


def _model(recipe: Recipe, trace: Trace, asked: Asked, granularity: str) -> Model:
    from ssmprof.serving import vllm
    from ssmprof.serving.layout import caches
    from ssmprof.serving.reuse import in_engine_blocks, in_trace_blocks
    from ssmprof.serving.rules import Vllm
    from ssmprof.serving.rules import engine as engine_of

    engine = engine_of("vllm")
    assert isinstance(engine, Vllm)
    found = caches(recipe, asked.sharing(engine))
    if granularity == "trace":
        return in_trace_blocks(recipe, found, trace)
    plan = vllm.plan(found, engine, asked.prefix, asked.gdn_prefill, asked.drafts)
    return in_engine_blocks(recipe, plan, trace)


def _sizes(text: str | None) -> list[int]:
    from ssmprof.units import parse_bytes

    try:
        return [parse_bytes(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--sizes") from None


def _figure(rows: list[Reuse], trace: Trace, recipe: Recipe) -> str:
    from ssmprof.report.figures.reuse import Series, draw
    from ssmprof.report.svg import standalone, to_svg

    by_policy: dict[str, dict[int, float]] = {}
    for one in rows:
        by_policy.setdefault(one.policy, {})[one.pool_bytes or 0] = one.reused_share
    drawn = draw([Series(policy, shares) for policy, shares in by_policy.items()])
    ends = (f"{name} {max(shares.values()):.1%}" for name, shares in by_policy.items())
    title = f"Reuse of prefixes: {recipe.name}, {trace.name}"
    return standalone(to_svg(drawn, "reuse", title, f"At most reused: {', '.join(ends)}."))


def _show(rows: list[Reuse], form: str | None, output: str | None) -> None:
    import msgspec

    from ssmprof.report.tables import Column, Table
    from ssmprof.units import format_bytes

    def count(value: float) -> str:
        return f"{value:,.0f}"

    def share(value: float) -> str:
        return f"{value:.1%}"

    columns = (
        Column("policy", "policy"),
        Column("pool_bytes", "cache", format_bytes, numeric=True),
        Column("requests", "requests", count, numeric=True),
        Column("prompt_tokens", "prompt tokens", count, numeric=True),
        Column("reused_tokens", "reused", count, numeric=True),
        Column("reused_share", "share", share, numeric=True),
        Column("hits", "hits", count, numeric=True),
        Column("states_kept", "states kept", count, numeric=True),
        Column("evictions", "evictions", count, numeric=True),
    )
    table = Table("Reuse of prefixes", columns, tuple(msgspec.to_builtins(one) for one in rows))
    emit(table, form, output)
