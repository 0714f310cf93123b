"""Options that say which pool an engine has and how it is used, shared by the commands here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ssmprof import limits
from ssmprof.cli.options import bytes_type, refuse, stored_options
from ssmprof.errors import ConfigError

if TYPE_CHECKING:
    from ssmprof.models.recipe import Recipe
    from ssmprof.serving.capacity import Asked
    from ssmprof.serving.rules import Sglang, Vllm

Function = TypeVar("Function", bound=Callable[..., Any])


def pool_options(command: Function) -> Function:
    """--pool or --memory, and everything that changes what a sequence takes of it."""
    command = stored_options(command)
    options = (
        click.option("--pool", metavar="SIZE", callback=bytes_type, help="Memory for caches."),
        click.option("--memory", metavar="SIZE", callback=bytes_type,
                     help="The card's, less weights."),
        click.option("--utilization", type=click.FloatRange(0, 1, min_open=True), default=0.9,
                     show_default=True, help="Share of --memory that the engine may use."),
        click.option("--prefix", type=click.Choice(["none", "align"]), default="align",
                     show_default=True, help="Prefix caching: none, or states at ends of blocks."),
        click.option("--gdn-prefill", type=click.Choice(["triton", "flashinfer"]), default="triton",
                     show_default=True, help="Kernel of gated delta rules; on Hopper flashinfer."),
        click.option("--radix", default="extra_buffer_overlap", show_default=True,
                     type=click.Choice(["no_buffer", "extra_buffer", "extra_buffer_overlap"]),
                     help="SGLang's way to keep states for its radix cache."),
        click.option("--tp", type=click.IntRange(1, limits.RANKS), default=1, show_default=True,
                     help="Ranks that share out the heads; sizes are those of one."),
        click.option("--spec", "drafts", type=click.IntRange(0, limits.DRAFTS), default=0,
                     show_default=True, help="Tokens drafted ahead."),
        click.option("--model-context", type=click.IntRange(1, limits.CONTEXT_TOKENS),
                     help="Context the server is started for; the longest asked for by default."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def asked_of(recipe: Recipe, longest: int, options: dict[str, Any]) -> Asked:
    """The pool of one model as the options say. Raises ConfigError."""
    from ssmprof.serving.capacity import Asked, pool_of

    pool, memory = options["pool"], options["memory"]
    if (pool is None) == (memory is None):
        raise ConfigError("give one of --pool and --memory", fix="--pool 40GiB")
    if memory is None:
        refuse(("utilization",), "is a share of --memory", "--memory 80GiB")
    if pool is None:
        usable = int(memory * options["utilization"])
        pool = pool_of(recipe, usable, options["tp"], options["weights_dtype"] or "bfloat16")
    return Asked(
        pool_bytes=pool,
        longest_tokens=options["model_context"] or longest,
        prefix=options["prefix"],
        gdn_prefill=options["gdn_prefill"],
        radix=options["radix"],
        tp=options["tp"],
        drafts=options["drafts"],
        cache_dtype=options["cache_dtype"] or "bfloat16",
        state_dtype=options["state_dtype"],
    )


def engines_of(name: str) -> list[Vllm | Sglang]:
    """The engines that `--engine` names. Raises ConfigError with the known ones."""
    from ssmprof.serving.rules import engine, engines

    names = dict.fromkeys(one.name for one in engines()) if name == "all" else [name]
    return [engine(one) for one in names]
