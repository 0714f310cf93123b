"""SCENARIO or MODEL arguments and the options that change their axes -> one Scenario.

What they mean is `session.asking`'s; here are the options, and the rule that foreign code runs only
where the command line itself names it.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from ssmprof import limits
from ssmprof.cli.options import (
    batch_type,
    bytes_type,
    contexts_type,
    duration_type,
    phases_type,
)
from ssmprof.errors import ConfigError

if TYPE_CHECKING:
    from ssmprof.spec import Scenario

Function = TypeVar("Function", bound=Callable[..., Any])


def axis_options(command: Function) -> Function:
    """The axes, the budget and the extra passes of a sweep as options."""
    for option in (
        click.option(
            "--cap", metavar="SIZE", callback=bytes_type, help="Memory limit, as on a smaller card."
        ),
        click.option("--energy", is_flag=True, help="Measure energy, too (windows of seconds)."),
        click.option("--host-profile", is_flag=True, help="Where the CPU waits (py-spy pass)."),
        click.option("--time-budget", metavar="TIME", callback=duration_type, help="Such as 20m."),
        click.option(
            "--device", type=click.Choice(["any", "cuda", "cpu", "all"]), help="Where to measure."
        ),
        click.option(
            "--rounds",
            type=click.IntRange(1, limits.ROUNDS),
            help="So many processes per contender, over the whole grid.",
        ),
        click.option(
            "--phase", callback=phases_type, help="prefill, decode, or both with a comma."
        ),
        click.option("--batch", metavar="LIST", callback=batch_type, help="Such as 1,4."),
        click.option(
            "--contexts", metavar="LIST", callback=contexts_type, help="512-128K*2 or 512,1K,4K."
        ),
    ):
        command = option(command)
    return command


def asked(names: tuple[str, ...], **changes: Any) -> Scenario:
    """The scenario named by a file or shipped name, or made of models, with the options applied."""
    from ssmprof.session.asking import Axes, scenario_of

    if not names:
        raise click.UsageError("name a scenario or models; ssmprof scenarios lists the former")
    refuse_untyped(names)
    if changes.get("device") == "all":
        changes["device"] = "cuda"  # every GPU: who measures is asked for them
    what = names[0] if len(names) == 1 else names
    return scenario_of(what, Axes(**changes), "command line")


def refuse_untyped(names: Iterable[str]) -> None:
    """Refuse foreign code that a settings file named in place of the command line."""
    context = click.get_current_context(silent=True)
    if context is None or context.get_parameter_source("what") is ParameterSource.COMMANDLINE:
        return
    for name in names:
        if ":" in name and not name.endswith(".toml"):
            raise ConfigError(
                f"{name}: foreign code runs only where the command line names it",
                cause="a settings file gave this name",
                fix=f"ssmprof {context.info_name} {shlex.quote(name)}",
            )
