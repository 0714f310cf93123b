"""Why no committed run has a system: the code's own reason, or the sweep that would measure it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from made.runs import Told
from made.systems import CAST, System
from ssmprof.errors import ConfigError
from ssmprof.mixers import registry
from ssmprof.models import zoo
from ssmprof.models.footprint import footprint
from ssmprof.models.recipe import Recipe, kinds
from ssmprof.planning import library
from ssmprof.planning.scenario import load
from ssmprof.records import Point, Prefill
from ssmprof.spec import Scenario
from ssmprof.units import format_bytes


@dataclass(frozen=True)
class Absent:
    """Why a system has no measured row: a few words that group it, and all of them."""

    short: str
    text: str


@cache
def scenarios() -> tuple[Scenario, ...]:
    """Every scenario that comes along."""
    return tuple(load(file) for file in library.shipped().values())


def absent(system: System, runs: Iterable[Told]) -> Absent:
    """Why no committed run has one: the code's own reason, or the sweep that would measure it."""
    presets = [zoo.preset(name) for name in system.presets]
    refused = _refused(system, presets)
    if refused is not None:
        return Absent("counted and refused", f"counted and refused: {refused}")
    asked = [one for one in scenarios() if _among(system, one)]
    if asked:
        # One sweep for as many as it can: that of most systems.
        most = max(asked, key=lambda one: sum(_among(other, one) for other in CAST))
        sweep = f"`ssmprof sweep {most.name}`"
        return Absent(sweep, f"not measured yet: {sweep}")
    if not presets:
        return Absent("in no scenario", "not measured yet: no scenario asks for it")
    smallest = presets[0]
    least = footprint(
        smallest, Point(block=smallest.name, block_digest="", workload=Prefill(context=1))
    ).weights_bytes
    most = max(_memories(runs), default=math.inf)
    if least > most:
        text = (
            f"not measured: the weights of `{smallest.name}` alone are {format_bytes(least)}, the "
            f"largest device measured on has {format_bytes(most)}; a slice fits: "
            f"`ssmprof sweep {smallest.name}@4`"
        )
        return Absent("larger than any device measured on", text)
    text = f"not measured yet, and in no scenario: `ssmprof sweep {smallest.name}`"
    return Absent("in no scenario", text)


def _among(system: System, scenario: Scenario) -> bool:
    """Whether a scenario asks for a system."""
    return any(isinstance(one, Recipe) and system.fits(one) for one in scenario.blocks)


def _memories(runs: Iterable[Told]) -> list[int]:
    machines = [one for told in runs for one in told.run.environments.values()]
    return [one.memory_bytes for one in machines if one.kind == "cuda" and one.memory_bytes]


def _refused(system: System, presets: Iterable[Recipe]) -> str | None:
    """What the registry says of a part that no call is made of; None where one form can run."""
    reasons: list[str] = []
    for names in [[system.part]] if system.part else [list(kinds(one)) for one in presets]:
        told = [reason for name in names if (reason := _reason(name))]
        if not told:
            return None
        reasons += told
    return reasons[0] if reasons else None


def _reason(part: str) -> str | None:
    if registry.runs(part):
        return None
    try:
        registry.block(part)
    except ConfigError as error:
        return str(error)
    return None
