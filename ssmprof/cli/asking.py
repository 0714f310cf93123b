"""SCENARIO or MODEL arguments and the options that change their axes -> one Scenario.

A MODEL is a preset, a path to a config.json, or `module:factory`, which only the command line may
name, since building it runs its code.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from ssmprof import limits
from ssmprof.cli.options import batch_type, bytes_type, contexts_type, duration_type
from ssmprof.errors import ConfigError, nearest
from ssmprof.private import at_home

if TYPE_CHECKING:
    from ssmprof.spec import Scenario, Subject

Function = TypeVar("Function", bound=Callable[..., Any])
# Without --contexts, models are compared over these lengths.
_MODEL_CONTEXTS = tuple(2**power for power in range(9, 16))

_FAMILIES = {
    "transformer": ("transformer", "transformers", "attention", "gpt", "llm", "decoder"),
    "ssm": ("ssm", "ssms", "state-space", "mamba"),
    "hybrid": ("hybrid", "hybrids"),
}


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
            "--device", type=click.Choice(["any", "cuda", "cpu"]), help="Where to measure."
        ),
        click.option(
            "--rounds",
            type=click.IntRange(1, limits.ROUNDS),
            help="So many processes per contender, over the whole grid.",
        ),
        click.option("--phase", help="prefill, decode, or both with a comma."),
        click.option("--batch", metavar="LIST", callback=batch_type, help="Such as 1,4."),
        click.option(
            "--contexts", metavar="LIST", callback=contexts_type, help="512-128K*2 or 512,1K,4K."
        ),
    ):
        command = option(command)
    return command


def asked(names: tuple[str, ...], **changes: Any) -> Scenario:
    """The scenario named by a file or shipped name, or made of models, with the options applied."""
    from ssmprof.planning import library, scenario

    if not names:
        raise click.UsageError("name a scenario or models; ssmprof scenarios lists the former")
    written = [name for name in names if _is_scenario(name, library.shipped())]
    if len(names) == 1 and written:
        found = scenario.load(library.find(names[0]))
    elif written:
        raise ConfigError(_two_things(names, written), fix=f"ssmprof sweep {written[0]}")
    else:
        found = _of_models(names, library.shipped())
    return scenario.checked(_changed(found, **changes), "command line")


def agree(scenario: Scenario, names: tuple[str, ...], run: str) -> None:
    """Let a stored run's own code be built only where `names`, the command line's words, name it.

    Raises ConfigError for code that is not named, UsageError for a name that the run does not hold.
    """
    from ssmprof.spec import ForeignSpec

    held = [block.factory for block in scenario.blocks if isinstance(block, ForeignSpec)]
    known = {at_home(factory) for factory in held}
    for name in names:
        if at_home(name) not in known:
            raise click.UsageError(
                f'--resume goes on with the scenario of the run; "{name}" is none of its models'
            )
        _refuse_unless_typed(name)
    named = set(map(at_home, names))
    unnamed = [factory for factory in held if at_home(factory) not in named]
    if unnamed:
        raise ConfigError(
            f"{run}: holds a model whose code is {', '.join(unnamed)}",
            cause="code that a folder names runs only where this command line names it, too",
            fix=f"if you know that code: ssmprof sweep --resume {shlex.join([run, *held])}",
        )


def _refuse_unless_typed(name: str) -> None:
    """Refuse foreign code that a settings file named in place of the command line."""
    context = click.get_current_context(silent=True)
    if context is None or context.get_parameter_source("what") is ParameterSource.COMMANDLINE:
        return
    raise ConfigError(
        f"{name}: foreign code runs only where the command line names it",
        cause="a settings file gave this name",
        fix=f"ssmprof {context.info_name} {shlex.quote(name)}",
    )


def _two_things(names: tuple[str, ...], written: list[str]) -> str:
    """Why scenarios stand alone."""
    if len(written) == 1:
        others = ", ".join(name for name in names if name not in written)
        return f"{written[0]} is a scenario and has its own models; {others} cannot join it"
    return f"{' and '.join(written)} are scenarios; one command measures one of them"


def _is_scenario(name: str, shipped: dict[str, Path]) -> bool:
    return name in shipped or name.endswith(".toml")


def _of_models(names: tuple[str, ...], shipped: dict[str, Path]) -> Scenario:
    from ssmprof.spec import Scenario, Sweep

    return Scenario(
        name="models",
        question=f"Which is faster: {', '.join(names)}?",
        sweep=Sweep(contexts=_MODEL_CONTEXTS, logits="last", strategy="decide"),
        blocks=tuple(_subject(name, shipped) for name in names),
    )


def _subject(name: str, shipped: dict[str, Path]) -> Subject:
    from ssmprof.models import code
    from ssmprof.models.find import find, is_named, suggestion
    from ssmprof.models.zoo import zoo
    from ssmprof.spec import ForeignSpec

    if ":" not in name and is_named(name):
        return find(name)
    if ":" in name:
        _refuse_unless_typed(name)
        code.check(name)
        return ForeignSpec(name=name.rpartition(":")[2], factory=name)
    known = {*zoo(), *shipped}
    family = next((kind for kind, words in _FAMILIES.items() if name.lower() in words), None)
    if family is not None:
        raise ConfigError(
            f'"{name}" is a family, not a model', fix=f"ssmprof models --family {family} lists them"
        )
    raise ConfigError(
        f'"{name}" is neither a scenario nor a model{suggestion(name, known)}',
        fix="ssmprof scenarios and ssmprof models list them; a config.json is named by its path",
    )


def _changed(
    scenario: Scenario,
    *,
    contexts: tuple[int, ...] | None = None,
    batch: tuple[int, ...] | None = None,
    phase: str | None = None,
    rounds: int | None = None,
    device: str | None = None,
    time_budget: float | None = None,
    host_profile: bool = False,
    energy: bool = False,
    cap: int | None = None,
) -> Scenario:
    from msgspec.structs import replace

    axes: dict[str, Any] = {"contexts": contexts, "batch": batch, "phase": _phases(phase)}
    if rounds is not None:
        axes["strategy"] = "grid"  # what decides takes as many processes as it needs
    budget = {"rounds": rounds, "sweep_s": time_budget}
    passes = {"host": host_profile or None, "energy": energy or None, "cap_bytes": cap}
    changed = replace(
        scenario,
        sweep=replace(scenario.sweep, **_given(axes)),
        budget=replace(scenario.budget, **_given(budget)),
        passes=replace(scenario.passes, **_given(passes)),
    )
    return replace(changed, device=device) if device else changed


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _phases(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    phases = tuple(part.strip() for part in text.split(","))
    for phase in phases:
        if phase not in ("prefill", "decode"):
            raise ConfigError(f'--phase: "{phase}"{nearest(phase, ("prefill", "decode"))}')
    return phases
