"""Estimated seconds until it is decided who runs which op, call by call as `measure.deciding` does.

Each question is answered twice, by processes of its own. Which implementations a machine has is not
known here, so their number is that of the committed runs. Whoever is far behind is left alone at
longer contexts: what is timed of an op hardly depends on the length.
"""

from __future__ import annotations

from collections import defaultdict

from ssmprof.limits import LONG_CALL_S
from ssmprof.models.footprint import footprint
from ssmprof.models.recipe import Recipe
from ssmprof.planning.calls import call_of
from ssmprof.planning.deciding import questions
from ssmprof.planning.machine import Machine
from ssmprof.planning.spent import START_S, captured_s
from ssmprof.planning.strategies.facets import Device
from ssmprof.records import Point
from ssmprof.records.alike import alike
from ssmprof.spec import Scenario

PROCESSES = 2
# Eager calls of a length: two that are looked at, one or two more before the graph, long or short.
LONG_CALLS, CALLS = 3, 4
# The first replay, which uploads the graph, and of a short one three that say how long it takes.
LONG_REPLAYS, REPLAYS = 1, 4
OPS_S = 0.15  # every implementation of each op, hot and cold
LOADED_S = 1.0  # a block in a process: weights, and first calls
# A challenger is tried on the block: pairs at most, at least, and the seconds that are enough.
MOST_PAIRS, FEWEST_PAIRS, TRIAL_S = 12, 4, 0.3
TRIALS = 1  # of a length and process, 0.3 to 1.2 in the committed runs
# What is not compiled yet: a folder of sub-layers, a contender of which nothing more is known. A
# guess: 30 s in one run and a few in another; 73 s is the most that was seen.
COMPILE_S = 20.0


def deciding_s(
    scenario: Scenario, machine: Machine, device: Device, *, compiled: bool
) -> dict[str, float]:
    """Seconds by block; blocks that one answer is for count once. A CPU has nothing to choose."""
    if device == "cpu":
        return {}
    spent: dict[str, float] = defaultdict(float)
    loaded: set[str] = set()
    known: set[str] = set()
    for first, *_ in alike(questions(scenario, device=device)).values():
        recipe, block = first.subject, first.subject.name
        spent[block] += PROCESSES * sum(_length_s(recipe, one, machine) for one in first.points)
        if not loaded:  # one process after the other takes all questions
            spent[block] += PROCESSES * START_S[machine.kind]
        if block not in loaded:
            loaded.add(block)
            spent[block] += PROCESSES * LOADED_S
        folders = {type(part).__module__ for _, part in recipe.used()} - known
        known |= folders
        spent[block] += 0.0 if compiled else COMPILE_S * len(folders)
    return dict(spent)


def _length_s(recipe: Recipe, point: Point, machine: Machine) -> float:
    """One process at one length; none where the call does not fit."""
    room = machine.memory_bytes
    if room is not None and footprint(recipe, point, hopper=machine.hopper).peak_bytes > room:
        return 0.0
    call = call_of(recipe, point, machine)
    graph_s = captured_s(call)
    calls = LONG_CALLS if call.eager_s > LONG_CALL_S else CALLS
    replays = LONG_REPLAYS if call.graph_s > LONG_CALL_S else REPLAYS
    spent = OPS_S + calls * call.eager_s + graph_s + replays * call.graph_s
    if call.looped:  # every op with a choice has too little of its time to matter
        return spent
    enough_s = max(TRIAL_S, 2 * FEWEST_PAIRS * call.graph_s)
    pairs_s = min(2 * MOST_PAIRS * call.graph_s, enough_s)
    return spent + TRIALS * (2 * call.eager_s + graph_s + pairs_s)
