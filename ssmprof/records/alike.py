"""Questions that one answer is for: blocks that differ in their name, or in given providers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import structs

from ssmprof.records.decisions import Trials
from ssmprof.scalars import digest


def alike(asked: Iterable[Trials]) -> dict[str, list[Trials]]:
    """The questions that one answer is for, the one that is asked first."""
    questions, firsts = list(asked), dict[str, Trials]()
    for question in questions:
        firsts.setdefault(_key(question), question)
    groups: dict[str, list[Trials]] = {}
    for question in questions:
        first = firsts.get(_key(question, providers={})) or firsts[_key(question)]
        mine = groups.setdefault(_key(first), [first])
        if question is not first:
            mine.append(question)
    return groups


def _key(question: Trials, **changes: Any) -> str:
    """The same for blocks that differ in their name alone."""
    subject = structs.replace(question.subject, name="", preset=None, **changes)
    contexts = [point.context for point in question.points]
    return f"{digest(subject)} {question.points[0].conditions().label()} {contexts}"
