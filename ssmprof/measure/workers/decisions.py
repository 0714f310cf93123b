"""Who runs the ops of each block: the parent's half. Two processes are asked, and must agree.

Processes differ in ways that repetition within one cannot show, and a near tie would fall this way
in one and that way in the other: where two disagree the incumbent stays, and the decision says so.
Blocks that differ in nothing but their name are decided once; so is a block that a scenario has a
second time with the providers of some ops given, whose other ops are those of the first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import structs

from ssmprof.measure.workers import wire
from ssmprof.measure.workers.process import LostError, Worker
from ssmprof.records import Conditions, Decision, Environment, OpChoice, Span, Trials
from ssmprof.records.alike import alike
from ssmprof.units import format_context

PROCESSES = 2
# A provider that kills its worker is left out from then on; so many may be before it is given up.
_MOST_EXCLUDED = 4
# A kill from outside is no word on who was running: a stage is tried twice, for so many stages.
_MOST_STRUCK = 4


class Decided(NamedTuple):
    """What was decided, and what could not be (`block: why`)."""

    decisions: tuple[Decision, ...]
    problems: tuple[str, ...] = ()


class Deciding:
    """Asks two processes in a row, one worker each. `start` makes one and may raise LostError."""

    def __init__(
        self,
        start: Callable[[], Worker],
        environment: Callable[[], Environment],
        deadline_s: Callable[[Trials], float],
    ) -> None:
        self._start = start
        self._environment = environment
        self._deadline_s = deadline_s
        self._excluded: dict[str, list[str]] = {}
        self._problems: dict[str, str] = {}
        self._worker: Worker | None = None

    def __call__(self, asked: Iterable[Trials]) -> Decided:
        """Decide every question. Raises nothing that a worker does."""
        groups = alike(asked)
        replies: list[dict[str, wire.Decided]] = []
        for process in range(PROCESSES):
            try:
                replies.append(self._process(groups, process))
            finally:
                self._end()
            if not any(reply.candidates for reply in replies[0].values()):
                break
        found: list[Decision] = []
        for name, members in groups.items():
            given = [reply[name] for reply in replies if name in reply]
            if len(given) == PROCESSES:
                for question in members:
                    decided = merged(question, given, self._environment())
                    found += [one for one in decided if one.op not in question.subject.providers]
                self._note_missing(members[0], given)
        return Decided(tuple(found), tuple(self._problems.values()))

    def _process(
        self, groups: Mapping[str, Sequence[Trials]], process: int
    ) -> dict[str, wire.Decided]:
        found: dict[str, wire.Decided] = {}
        for name, members in groups.items():
            reply = self._ask(name, members[0], process)
            if reply is not None:
                found[name] = reply
                if not reply.candidates:
                    break
        return found

    def _ask(self, name: str, question: Trials, process: int) -> wire.Decided | None:
        """One process's word; a provider that kills workers is left out, and it asks again."""
        excluded = self._excluded.setdefault(name, [])
        struck: set[str] = set()  # stages in which a process was killed, from outside perhaps
        while True:
            try:
                self._worker = self._worker or self._start()
                request = wire.Decide(trials=question, process=process, excluded=tuple(excluded))
                reply = self._worker.ask(request, self._deadline_s(question))
            except LostError as lost:
                blamed = "" if self._worker is None else self._worker.stage
                self._end()
                if lost.transient and blamed not in struck and len(struck) < _MOST_STRUCK:
                    struck.add(blamed)
                    continue
                if " " in blamed and blamed not in excluded and len(excluded) < _MOST_EXCLUDED:
                    excluded.append(blamed)
                    continue
                self._problems[name] = f"{question.label()}: {lost.detail}"
                return None
            if isinstance(reply, wire.Decided):
                return reply
            self._end(kill=True)
            self._problems[name] = f"{question.label()}: gave no valid answer"
            return None

    def _note_missing(self, question: Trials, given: Sequence[wire.Decided]) -> None:
        missing = {context: why for reply in given for context, why in reply.missing.items()}
        if missing:
            context = min(missing)
            text = f"{question.label()}: nothing decided from {format_context(context)} tokens on"
            self._problems[f"{question.key} missing"] = f"{text}: {missing[context]}"

    def _end(self, kill: bool = False) -> None:
        if self._worker is not None:
            if kill:
                self._worker.kill()
            self._worker.end()
            self._worker = None


def merged(
    question: Trials, given: Sequence[wire.Decided], environment: Environment
) -> list[Decision]:
    """The decisions of one block from the words of all processes."""
    by_op: dict[str, dict[int, list[OpChoice]]] = {}
    for reply in given:
        for choice in reply.choices:
            by_op.setdefault(choice.op, {}).setdefault(choice.context, []).append(choice)
    point = question.points[0]
    conditions = point.conditions(environment.device)
    found: list[Decision] = []
    for op, at in by_op.items():
        whole = {context: both for context, both in sorted(at.items()) if len(both) == len(given)}
        if whole:
            decision = _decision(op, whole, point.block, point.block_digest, conditions)
            found.append(
                structs.replace(
                    decision,
                    shortened=question.shortened,
                    environment=environment.fingerprint,
                    decided_unix_s=round(time.time(), 3),
                )
            )
    return found


def _decision(
    op: str, at: Mapping[int, Sequence[OpChoice]], block: str, digest: str, conditions: Conditions
) -> Decision:
    contexts = tuple(at)
    disagreed = tuple(
        context
        for context, both in at.items()
        if len({choice.provider for choice in both}) > 1
        or len({choice.incumbent for choice in both}) > 1
    )
    providers = tuple(
        both[0].incumbent if context in disagreed else both[0].provider
        for context, both in at.items()
    )
    return Decision(
        block=block,
        block_digest=digest,
        conditions=conditions,
        op=op,
        incumbent=at[contexts[0]][0].incumbent,
        contexts=contexts,
        providers=providers,
        shares=tuple(sum(one.share for one in both) / len(both) for both in at.values()),
        spans=spans(contexts, providers),
        trials=tuple(trial for both in at.values() for one in both for trial in one.trials),
        disagreed=disagreed,
        environment="",
    )


def spans(contexts: Sequence[int], providers: Sequence[str]) -> tuple[Span, ...]:
    """Ranges of contexts: a switch between two lengths lies at their geometric mean."""
    found: list[Span] = []
    above: float | None = None
    for index, provider in enumerate(providers):
        last = index + 1 == len(providers)
        if not last and providers[index + 1] == provider:
            continue
        edge = None if last else math.sqrt(contexts[index] * contexts[index + 1])
        found.append(Span(provider=provider, above=above, up_to=edge))
        above = edge
    return tuple(found)
