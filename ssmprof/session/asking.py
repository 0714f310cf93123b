"""What a person names (a scenario, models, code of their own) and the axes to change -> a Scenario.

A model is a preset, a path to a config.json, a recipe, or `module:factory`, which only a caller may
name, since building it runs its code.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any, Literal, TypeVar

from msgspec.structs import replace

from ssmprof.errors import ConfigError, nearest
from ssmprof.models.recipe import Recipe
from ssmprof.planning import library, scenario
from ssmprof.private import at_home
from ssmprof.spec import ForeignSpec, Scenario, Subject, Sweep
from ssmprof.units import parse_bytes, parse_contexts, parse_duration

# Without contexts, models are compared over these lengths.
_MODEL_CONTEXTS = tuple(2**power for power in range(9, 16))
_PHASES = ("prefill", "decode")
_FAMILIES = {
    "transformer": ("transformer", "transformers", "attention", "gpt", "llm", "decoder"),
    "ssm": ("ssm", "ssms", "state-space", "mamba"),
    "hybrid": ("hybrid", "hybrids"),
}
Parsed = TypeVar("Parsed")
What = str | Path | Scenario | Subject | Sequence[str | Subject]


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What to change of a scenario; None leaves it as it is. Text is read as on the command line.

    `contexts` are tokens ("512-128K*2"), `time_budget` seconds ("20m"), `cap` bytes ("8GiB");
    with `rounds` so many processes measure the whole grid.
    """

    contexts: str | Iterable[int] | None = None
    batch: str | int | Iterable[int] | None = None
    phase: str | Iterable[str] | None = None
    rounds: int | None = None
    device: Literal["any", "cuda", "cpu"] | None = None
    time_budget: str | float | None = None
    host_profile: bool = False
    energy: bool = False
    cap: str | int | None = None


def scenario_of(what: What, axes: Axes | None = None, source: str = "sweep") -> Scenario:
    """The scenario of a file or shipped name, or one made of models, with its axes changed.

    Raises ConfigError with the nearest known name, or `source` and the value that is wrong.
    """
    return scenario.checked(_changed(_named(what), axes or Axes()), source)


def decided(asked: Scenario) -> Scenario:
    """The scenario with the strategy that measures until it is decided."""
    return replace(asked, sweep=replace(asked.sweep, strategy="decide"))


def agree(held: Scenario, names: Iterable[str], run: str) -> None:
    """Let a stored run's own code be built only where `names`, the caller's words, name it.

    Raises ConfigError for code that is not named, and for a name that the run does not hold.
    """
    code = [block.factory for block in held.blocks if isinstance(block, ForeignSpec)]
    known = {at_home(factory) for factory in code}
    named = {at_home(name): name for name in names}
    for name, given in named.items():
        if name not in known:
            raise ConfigError(
                f'{run}: goes on with its own scenario; "{given}" is none of its models',
                fix=f"ssmprof sweep --resume {shlex.quote(run)}",
            )
    unnamed = [factory for factory in code if at_home(factory) not in named]
    if unnamed:
        raise ConfigError(
            f"{run}: holds a model whose code is {', '.join(unnamed)}",
            cause="code that a folder names runs only where its caller names it, too",
            fix=f"if you know that code: ssmprof sweep --resume {shlex.join([run, *code])}",
        )


def _named(what: What) -> Scenario:
    if isinstance(what, Scenario):
        return what
    shipped = library.shipped()
    if isinstance(what, Path):
        what = str(what)
    models = [what] if isinstance(what, str | Recipe | ForeignSpec) else list(what)
    if not models:
        raise ConfigError("no model is named", fix="ssmprof models lists them")
    written = [one for one in models if isinstance(one, str) and _is_scenario(one, shipped)]
    if len(models) == 1 and written:
        return scenario.load(library.find(written[0]))
    if written:
        raise ConfigError(_two_things(models, written), fix=f"ssmprof sweep {written[0]}")
    blocks = tuple(_subject(one, shipped) for one in models)
    names = [one if isinstance(one, str) else one.name for one in models]
    return Scenario(
        name="models",
        question=f"Which is faster: {', '.join(names)}?",
        sweep=Sweep(contexts=_MODEL_CONTEXTS, logits="last", strategy="decide"),
        blocks=blocks,
    )


def _is_scenario(name: str, shipped: dict[str, Path]) -> bool:
    return name in shipped or name.endswith(".toml")


def _two_things(names: Sequence[str | Subject], written: Sequence[str]) -> str:
    """Why scenarios stand alone."""
    if len(written) == 1:
        every = (one if isinstance(one, str) else one.name for one in names)
        others = ", ".join(name for name in every if name not in written)
        return f"{written[0]} is a scenario and has its own models; {others} cannot join it"
    return f"{' and '.join(written)} are scenarios; one command measures one of them"


def _subject(name: str | Subject, shipped: dict[str, Path]) -> Subject:
    from ssmprof.models import code
    from ssmprof.models.find import find, is_named, suggestion
    from ssmprof.models.zoo import zoo

    if not isinstance(name, str):
        return name
    if ":" not in name and is_named(name):
        return find(name)
    if ":" in name:
        code.check(name)
        return ForeignSpec(name=name.rpartition(":")[2], factory=name)
    family = next((kind for kind, words in _FAMILIES.items() if name.lower() in words), None)
    if family is not None:
        raise ConfigError(
            f'"{name}" is a family, not a model', fix=f"ssmprof models --family {family} lists them"
        )
    known = {*zoo(), *shipped}
    raise ConfigError(
        f'"{name}" is neither a scenario nor a model{suggestion(name, known)}',
        fix="ssmprof scenarios and ssmprof models list them; a config.json is named by its path",
    )


def _changed(asked: Scenario, axes: Axes) -> Scenario:
    swept: dict[str, Any] = {
        "contexts": _lengths("contexts", axes.contexts),
        "batch": _lengths("batch", axes.batch),
        "phase": _phases(axes.phase),
    }
    if axes.rounds is not None:
        swept["strategy"] = "grid"  # what decides takes as many processes as it needs
    budget = {
        "rounds": axes.rounds,
        "sweep_s": _read("time_budget", parse_duration, axes.time_budget),
    }
    passes = {
        "host": axes.host_profile or None,
        "energy": axes.energy or None,
        "cap_bytes": _read("cap", parse_bytes, axes.cap),
    }
    changed = replace(
        asked,
        sweep=replace(asked.sweep, **_given(swept)),
        budget=replace(asked.budget, **_given(budget)),
        passes=replace(asked.passes, **_given(passes)),
    )
    return replace(changed, device=axes.device) if axes.device else changed


def _given(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if value is not None}


def _lengths(name: str, value: str | int | Iterable[int] | None) -> tuple[int, ...] | None:
    if value is None or isinstance(value, str):
        return _read(name, parse_contexts, value)
    given = (value,) if isinstance(value, int) else value
    try:
        return tuple(sorted(set(map(index, given))))
    except TypeError as error:
        raise ConfigError(f"{name}: {error}", fix="whole numbers, or text: 512-128K*2") from None


def _read(name: str, parse: Callable[[str], Parsed], value: str | Parsed | None) -> Parsed | None:
    """A value given as text, read. Raises ConfigError that names it."""
    if not isinstance(value, str):
        return value
    try:
        return parse(value)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None


def parse_phases(value: str | Iterable[str]) -> tuple[str, ...]:
    """`prefill,decode` -> both. Raises ValueError with the word that is none of them."""
    given = value.split(",") if isinstance(value, str) else value
    phases = tuple(part.strip() for part in given)
    for phase in phases:
        if phase not in _PHASES:
            raise ValueError(f'"{phase}"{nearest(phase, _PHASES)}')
    return phases


def _phases(value: str | Iterable[str] | None) -> tuple[str, ...] | None:
    try:
        return None if value is None else parse_phases(value)
    except ValueError as error:
        raise ConfigError(f"phase: {error}") from None
