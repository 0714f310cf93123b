"""`ssmprof serving replay`: measured step times and a trace -> what users would see."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssmprof import limits
from ssmprof.cli.options import emit, load_run, refuse, say, table_options
from ssmprof.cli.serving.asked import asked_of, pool_options
from ssmprof.cli.serving.requests import request_options, requests_of
from ssmprof.errors import ConfigError
from ssmprof.serving.policies import POLICIES, Policy

if TYPE_CHECKING:
    from ssmprof.models.recipe import Recipe
    from ssmprof.serving.capacity import Asked
    from ssmprof.serving.requests import Trace
    from ssmprof.serving.service import Service
    from ssmprof.serving.simulator import Room
    from ssmprof.serving.steps import Surface

_EVERY_S = 2.0  # between lines of progress


@click.command("replay", short_help="Time to first token, between tokens, and goodput.")
@click.argument("run", metavar="RUN | TABLE.csv")
@click.option("--requests", required=True, metavar="REQUESTS", help="A trace, or parameters.")
@click.option("--model", "models", multiple=True, required=True, help="A contender of the run.")
@click.option("--limit", metavar="LIST", help="Such as ttft=500ms,tpot=50ms.")
@click.option("--load", "loads", metavar="LIST", default="1", show_default=True,
              help="Factors on the trace's own rate, such as 0.5,1,2.")  # fmt: skip
@click.option("--execution", type=click.Choice(["graph", "eager"]), help="Launches of the run.")
@click.option("--engine", default="vllm", show_default=True, metavar="NAME[@VERSION]",
              help="Whose rules admit sequences to the pool.")  # fmt: skip
@click.option("--max-batch", type=click.IntRange(1, limits.BATCH), help="Sequences at once.")
@click.option("--chunk", type=click.IntRange(1, limits.CONTEXT_TOKENS), default=2048,
              show_default=True, help="Tokens of an iteration, prompts and decodes.")  # fmt: skip
@click.option("--policy", type=click.Choice(["none", *POLICIES]), default="none", show_default=True,
              help="Reuse of prefixes; the cache is as large as the pool.")  # fmt: skip
@click.option("--hold-ends", is_flag=True, help="Outside of what was measured take the nearest.")
@request_options
@pool_options
@table_options
def replay(
    run: str, requests: str, models: tuple[str, ...], limit: str | None, loads: str,
    execution: Any, engine: str, max_batch: int | None, chunk: int, policy: Any, hold_ends: bool,
    skip_bad: bool, block_tokens: int, form: str | None, output: str | None, **options: Any,
) -> None:  # fmt: skip
    """Serve REQUESTS with the step times of contenders of RUN, or of models in a TABLE.csv (model,
    phase, batch, context_tokens, time_s), by continuous batching, iteration by iteration.

    Example: ssmprof serving replay RUN --requests sessions=500,turns=1 --model a --model b
    """
    from ssmprof.serving.service import breaking, limits_of, serve
    from ssmprof.serving.simulator import ASSUMED, Server

    wanted = limits_of(limit)
    trace = requests_of(requests, block_tokens, skip_bad)
    surfaces, recipes = _surfaces(run, models, execution, hold_ends)
    rows: list[Service] = []
    for surface in surfaces:
        name = surface.name
        pool = _pool(recipes, name, trace, options)
        room, running = (None, None) if pool is None else _room(recipes(name), pool, engine)
        most = min((one for one in (max_batch, running) if one is not None), default=None)
        server = Server(surface, room, most, chunk)
        reused = None
        if policy != "none":
            reused = _reused(recipes(name), trace, policy, pool, options)
        broken = None
        if limit is not None:
            broken = breaking(trace.requests, server, wanted, reused=reused, progress=_tried(name))
        for load in _loads(loads):
            said = _said(name, len(trace.requests))
            rows.append(serve(name, trace.requests, server, wanted, load=load, reused=reused,
                              breaks=broken, progress=said))  # fmt: skip
    _show(rows, form, output)
    for surface in surfaces:
        say(f"{surface.name}: {surface.about}")
    for one in rows:
        if one.held:
            say(f"! {one.model}: {one.held:,} times outside of what was measured, held at its ends")
        if one.rejected:
            say(f"! {one.model}: {one.rejected:,} requests are too long for the pool")
    for line in ASSUMED:
        say(f"assumed: {line}")


def _surfaces(
    run: str, models: tuple[str, ...], execution: Any, hold: bool
) -> tuple[list[Surface], Callable[[str], Recipe]]:
    """Step times, and how a model's recipe is found: in the run, else by its name."""
    from ssmprof.models.find import find
    from ssmprof.models.recipe import Recipe
    from ssmprof.serving.steps import of_run, of_table

    if Path(run).suffix == ".csv":
        return of_table(Path(run), models, hold), find
    loaded = load_run(run)
    blocks = {one.name: one for one in loaded.scenario.blocks}

    def recipe(name: str) -> Recipe:
        block = blocks[name]
        if not isinstance(block, Recipe):
            raise ConfigError(f"{name}: what a model that is not ours keeps is not known")
        return block

    return of_run(loaded, models, execution, hold), recipe


def _pool(
    recipes: Callable[[str], Recipe], name: str, trace: Trace, options: dict[str, Any]
) -> Asked | None:
    """The pool that the options give a model; None where they give none."""
    if options["pool"] is None and options["memory"] is None:
        refuse((*options, "engine"), "needs a pool", "--pool 40GiB, or --memory 80GiB")
        return None
    longest = max(one.prompt_tokens + one.output_tokens for one in trace.requests)
    return asked_of(recipes(name), longest, options)


def _room(recipe: Recipe, asked: Asked, engine: str) -> tuple[Room | None, int | None]:
    from ssmprof.serving.capacity import room
    from ssmprof.serving.rules import engine as engine_of
    from ssmprof.serving.simulator import Room

    units, needs, running = room(recipe, engine_of(engine), asked)
    return (None if needs is None else Room(units, needs)), running


def _reused(
    recipe: Recipe, trace: Trace, policy: Policy, pool: Asked | None, options: dict[str, Any]
) -> list[int]:
    """Tokens of each prompt that a cache of the pool's size has; one without end without a pool."""
    from ssmprof.serving.layout import Sharing, caches
    from ssmprof.serving.reuse import in_trace_blocks, reused_tokens

    dtypes = (options["cache_dtype"] or "bfloat16", options["state_dtype"])
    found = caches(recipe, Sharing(options["tp"], 0, *dtypes))
    seen = in_trace_blocks(recipe, found, trace)
    return reused_tokens(seen, policy, None if pool is None else pool.pool_bytes)[1]


def _loads(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = [0.0]
    if not all(1e-6 <= one <= 1e6 for one in found):
        raise click.BadParameter(f'"{text[:40]}" is no list of factors', param_hint="--load")
    return found


def _tried(name: str) -> Callable[[float, bool], None]:
    return lambda load, enough: say(f"{name}: load {load:.3g} {'holds' if enough else 'breaks it'}")


def _said(name: str, total: int) -> Callable[[int], None]:
    """A line now and then."""
    last = time.monotonic()

    def progress(done: int) -> None:
        nonlocal last
        if time.monotonic() - last > _EVERY_S:
            last = time.monotonic()
            say(f"{name}: {done:,} of {total:,} requests have come")

    return progress


def _show(rows: list[Service], form: str | None, output: str | None) -> None:
    import msgspec

    from ssmprof.report.tables import Column, Table
    from ssmprof.units import format_time, three_digits

    def share(value: float) -> str:
        return f"{value:.1%}"

    columns = (
        Column("model", "model"),
        Column("load", "load", three_digits, numeric=True),
        Column("rate_per_s", "per second", three_digits, numeric=True),
        Column("ttft_s_p50", "TTFT", format_time, numeric=True),
        Column("ttft_s_p90", "90 %", format_time, numeric=True),
        Column("ttft_s_p99", "99 %", format_time, numeric=True),
        Column("tpot_s_p50", "TPOT", format_time, numeric=True),
        Column("tpot_s_p90", "90 %", format_time, numeric=True),
        Column("tpot_s_p99", "99 %", format_time, numeric=True),
        Column("goodput_share", "within limits", share, numeric=True),
        Column("goodput_per_s", "goodput per s", three_digits, numeric=True),
        Column("breaks_at_load", "breaks at load", three_digits, numeric=True),
        Column("largest_batch", "largest batch", str, numeric=True),
    )
    emit(Table("Service", columns, tuple(msgspec.to_builtins(one) for one in rows)), form, output)
