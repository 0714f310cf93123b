"""The cast as a table: where each system was measured, and its zone against attention of its size.

Zones are the pairs of the run's own answer, in the words of `ssmprof crossover --pairs`; nothing is
compared here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from made.markdown import table
from made.runs import Told, committed
from made.systems import CAST, System, piece, plain_attention
from made.why import absent
from ssmprof import limits
from ssmprof.analysis.compare.answer import Answer
from ssmprof.models.cost import active_parameters, parameters
from ssmprof.models.recipe import Recipe, kinds
from ssmprof.report import rows
from ssmprof.report.names import listed
from ssmprof.scalars import Phase
from ssmprof.spec import Scenario

PHASES: tuple[Phase, ...] = ("prefill", "decode")
_USUAL = "batch 1, bfloat16, graph"  # what a cell need not say
_IN_SHORT = 8  # runs that README names: the latest
_PLAIN = {"reference", "torch"}  # the providers of ops on plain torch


@dataclass(frozen=True)
class Seen:
    """One contender of one run on one device, and who it is held against: None without any."""

    system: System
    told: Told
    device: str
    recipe: Recipe
    base: Recipe | None

    @property
    def plain(self) -> bool:
        """Whether it is the form on plain torch."""
        forced = set(self.recipe.providers.values())
        return bool(forced) and forced <= _PLAIN

    @property
    def name(self) -> str:
        """How its row is called."""
        if cut := piece(self.recipe):
            return f"{self.system.name}, {cut}"
        if self.system.own:
            return f"{self.system.name}: `{self.recipe.name}`"
        return f"{self.system.name}{', plain torch' if self.plain else ''}"

    @property
    def measures_others(self) -> bool:
        """Whether it is the transformer that others are held against."""
        return self.base is self.recipe

    def answer(self, phase: Phase) -> Answer | None:
        """The first answer of the page for a phase on this device."""
        found = self.told.analysis.latencies
        wanted = (self.device, phase)
        return next((a for a in found if (a.conditions.device, a.conditions.phase) == wanted), None)


def seen(system: System, runs: Iterable[Told]) -> list[Seen]:
    """Contenders that are one: those with a transformer of their size, else the others."""
    found = [
        Seen(system, told, device, block, base_of(block, told.run.scenario))
        for told in runs
        for block in told.run.scenario.blocks
        if isinstance(block, Recipe) and set(block.providers.values()) <= _PLAIN
        if system.fits(block)
        for device in told.devices
    ]
    return [one for one in found if one.base is not None] or found


def base_of(recipe: Recipe, scenario: Scenario) -> Recipe | None:
    """The attention-only contender of its size: as many active parameters, within EQUAL_SLICES.

    Of several the nearest in all parameters; a dense one is its own.
    """
    if _is_base(recipe):
        return recipe
    near = [
        block
        for block in scenario.blocks
        if isinstance(block, Recipe) and block is not recipe and not block.providers
        if plain_attention(block)
        and _apart(active_parameters(block), active_parameters(recipe))
        <= math.log(limits.EQUAL_SLICES)
    ]
    return min(near, key=lambda one: _apart(parameters(one), parameters(recipe)), default=None)


def _is_base(recipe: Recipe) -> bool:
    return plain_attention(recipe) and "moe" not in kinds(recipe)


def _apart(one: float, other: float) -> float:
    return abs(math.log(one / other))


def zone(one: Seen, phase: Phase) -> str:
    """What the run says of the pair in a phase."""
    answer = one.answer(phase)
    if answer is None:
        return "–"
    if one.base is None:
        return "no transformer of its size in this run"
    if one.measures_others:
        return "what the others are held against"
    if answer.withheld is not None:
        return f"no verdict ({answer.grade})"
    pair = answer.pair(one.base.name, one.recipe.name)
    if pair is None:
        reasons = sorted(set(answer.failures.get(one.recipe.name, {}).values()))
        return listed(reasons) if reasons else "not compared in this run"
    said = rows.pairs([replace(answer, pairs=(pair,))]).rows
    text = "; ".join(
        f"{row['crossing']}: {row['zone']}" if row["before"] else str(row["zone"]) for row in said
    )
    clocks = pair.clocks is not None and pair.clocks.verdict == "depends-on-clocks"
    lost = rows.lost(answer, pair, one.recipe.name)
    more = f"{', depends on clocks' if clocks else ''}{_unusual(answer)}{lost}"
    return f"{text}{more} ({answer.grade})"


def _unusual(answer: Answer) -> str:
    """Conditions that differ from what the page says once: ` in chunks of 2,048`."""
    phase = answer.conditions.phase
    return answer.conditions.label().removeprefix(phase).replace(f", {_USUAL}", "")


def brief(one: Seen, phase: Phase) -> str:
    """The zone alone; without a pair what `zone` says."""
    answer = one.answer(phase)
    pair = answer.pair(one.base.name, one.recipe.name) if answer and one.base else None
    if answer is None or pair is None or answer.withheld:
        return zone(one, phase)
    lost = rows.lost(answer, pair, one.recipe.name)
    return f"{rows.brief(pair, one.recipe.name)}{_unusual(answer)}{lost}"


def page(runs: Sequence[Told] | None = None) -> str:
    """docs/reference/cast.md."""
    runs = committed() if runs is None else runs
    lines: list[tuple[str, ...]] = []
    for system in CAST:
        found = seen(system, runs)
        if not found:
            lines.append((system.name, system.asked(), absent(system, runs).text, "–", "–"))
        for one in found:
            where = f"[{one.told.name}](../../reports/{one.told.name}/run.json), {one.device}"
            zones = [zone(one, phase) for phase in PHASES]
            lines.append((one.name, system.asked(), f"{where}, `{one.recipe.name}`", *zones))
    return "\n".join(
        [
            "# The cast",
            "",
            "Who can be asked about, how, and what committed runs say of each against attention of "
            f"its size (active parameters within {limits.EQUAL_SLICES - 1:.0%}). `a → b: 4K-8K` "
            "reads: a is certainly faster up to 4K tokens, b from 8K on. The words are those of "
            "`ssmprof crossover RUN --pairs`, the letter is the [grade](grades.md) of the answer; "
            f"{_USUAL}, unless a cell says otherwise. A preset is measured by its name: "
            "`ssmprof sweep PRESET PRESET`.",
            "",
            table(("system", "asked for by", "measured", *PHASES), lines),
        ]
    )


def short(runs: Sequence[Told] | None = None) -> str:
    """The same in a few lines, for README: a run each, and who is missing."""
    runs = committed() if runs is None else runs
    by_run: dict[tuple[str, str], list[Seen]] = {}
    missing: dict[str, list[str]] = {}
    for system in CAST:
        found = seen(system, runs)
        if not found:
            missing.setdefault(absent(system, runs).short, []).append(system.name)
        for one in found:
            if one.base and not one.measures_others and not one.plain and not piece(one.recipe):
                by_run.setdefault((one.told.name, one.device), []).append(one)
    lines: list[str] = []
    for (name, device), found in sorted(by_run.items())[-_IN_SHORT:]:
        told = {phase: _listed(found, phase) for phase in PHASES}
        text = "; ".join(f"{phase}: {texts}" for phase, texts in told.items() if texts)
        run = f"[{found[0].told.run.scenario.name}](reports/{name})"
        lines.append(f"- {device.removeprefix('NVIDIA ')}, {run}, {text}.")
    if missing:
        groups = [f"{', '.join(names)} ({why})" for why, names in missing.items()]
        lines.append(f"- Not measured: {'; '.join(groups)}.")
    return "\n".join(lines) + "\n"


def _listed(found: Iterable[Seen], phase: Phase) -> str:
    """`Mamba-1 8K-16K, nowhere (MLA, GLA)`: those of which the same is said stand together."""
    told: dict[str, list[str]] = {}
    for one in found:
        if (text := brief(one, phase)) != "–":
            told.setdefault(text, []).append(_called(one))
    return ", ".join(
        f"{names[0]} {text}" if len(names) == 1 else f"{text} ({', '.join(names)})"
        for text, names in told.items()
    )


def _called(one: Seen) -> str:
    return one.recipe.name if one.system.own else one.system.name
