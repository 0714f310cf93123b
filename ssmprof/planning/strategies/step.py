"""One step of a strategy: what is measured next, in turn in one process where contenders fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ssmprof.analysis.compare.answer import Answer
from ssmprof.planning.strategies import facets
from ssmprof.planning.strategies.facets import Facet
from ssmprof.planning.strategies.state import State
from ssmprof.records import Job, Sampling, Visit

Asked = list[Job | Visit]


class Step(NamedTuple):
    """What to measure next, and what is known so far (for people who wait): latency answers."""

    asked: Asked
    answers: tuple[Answer, ...] = ()


def asked_of(
    state: State, wanted: Mapping[Facet, Sequence[int]], names: Iterable[str], sampling: Sampling
) -> Asked:
    """One round: a visit, and jobs where contenders do not fit beside each other."""
    names = set(names)
    together: dict[Facet, list[int]] = {}
    alone: dict[Facet, list[int]] = {}
    for facet, found in wanted.items():
        limit = state.apart_from(facet)
        for at in found:
            (alone if at >= limit else together).setdefault(facet, []).append(at)
    asked: Asked = []
    if together and len(names) > 1:
        asked.append(facets.visit(state.scenario, together, names, state.turn, sampling))
    elif together:
        asked.extend(facets.apart(state.scenario, together, names, state.turn))
    if alone and sampling.mode == "cold":
        asked.extend(facets.apart(state.scenario, alone, names, state.turn))
    return asked
