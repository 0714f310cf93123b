"""Who runs the ops of a block: the worker's half, one process's word on one block.

The block is a model's short form where the model repeats its layers (`models.short_form`).
Whoever is not far behind the best as an op is tried in the whole block, in the block's own graph (a
call where there are no graphs), in turn with the incumbent: the first of the registry that takes
the call. The challenger wins where the block is faster by more than its error and half a per cent.
The op with the largest share of the block's time comes first; passes are repeated until one changes
nothing, two at most. Why so: an op that wins its own race by a few per cent, hot and alone, may
lose in the block, and a tie decided by noise moves a crossover by an octave
(docs/how-it-works/providers.md).
"""

from __future__ import annotations

import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from msgspec import structs

from ssmprof import limits
from ssmprof.measure.timing.bench import Bench, model_key
from ssmprof.measure.timing.op_times import OpTime, OpTimes, Signature
from ssmprof.measure.timing.pairs import alternate, log_ratio
from ssmprof.measure.timing.timers import Timer
from ssmprof.measure.timing.trial_rules import (
    FAR,
    FAR_OFTEN,
    enough,
    far_behind,
    loses,
    sorted_out,
    wins,
)
from ssmprof.measure.workers import wire
from ssmprof.measure.workers.worker import Stage, UnsupportedError
from ssmprof.mixers.ops import Op, choices_exist
from ssmprof.models.build import build, workload
from ssmprof.models.build.model import Model
from ssmprof.models.build.workloads import Workload
from ssmprof.records import OpChoice, Point, Trial, TrialOutcome, Trials, median
from ssmprof.scalars import Execution

PASSES = 2


@dataclass
class _Running:
    """A block with its providers, ready to be timed; `first_s` is its first sample."""

    load: Workload
    timer: Timer
    first_s: float


@dataclass
class _Contest:
    """One length: its call, the incumbents in force, and what was found."""

    load: Workload
    found: dict[str, dict[str, OpTime | str | None]]
    calls: dict[str, Counter[Signature]]
    config: dict[str, str]
    execution: Execution
    trials: dict[str, list[Trial]]
    left: dict[tuple[str, str], list[int]]


# Op, challenger, incumbent and the op's calls, by what they work on.
_Trials = tuple[str, str, str, frozenset[tuple[Signature, int]]]


class Decider:
    """Keeps the block for all its lengths and the times of ops for all blocks."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._times = OpTimes(bench)
        self._model: tuple[bytes, Model] | None = None
        self._beaten: dict[_Trials, Trial] = {}
        self._far: dict[tuple[str, str], list[int]] = {}

    def decide(self, asked: wire.Decide, stage: Stage) -> wire.Decided:
        """Who runs what at each length of the question; a length that fails is left out."""
        trials = asked.trials
        if not choices_exist(torch.device(self._bench.kind)):
            return wire.Decided(candidates=False)
        stage("build")
        model = self._built(trials)
        self._beaten, self._far = {}, {}
        choices: list[OpChoice] = []
        missing: dict[int, str] = {}
        for point in trials.points:
            if "out of memory" in missing.values():
                missing[point.context] = "out of memory"  # longer ones need more
                continue
            try:
                choices += self._at(model, point, asked, stage)
            except torch.OutOfMemoryError:
                missing[point.context] = "out of memory"
            except Exception as error:
                if "CUDA error" in str(error):
                    raise
                traceback.print_exc()
                text = " ".join(str(error).split())[:200]
                missing[point.context] = f"{type(error).__name__}: {text}"
            self._clean()
        return wire.Decided(choices=tuple(choices), missing=missing)

    def _built(self, trials: Trials) -> Model:
        """The block; kept for the next question, which asks for another phase as a rule."""
        first = trials.points[0]
        name = model_key(trials.subject, first)
        if self._model is None or self._model[0] != name:
            self._model = None
            model = build(trials.subject, self._bench.kind, first.dtype, first.seed, first.logits)
            assert isinstance(model, Model)
            self._model = (name, model)
        return self._model[1]

    def _at(self, model: Model, point: Point, asked: wire.Decide, stage: Stage) -> list[OpChoice]:
        ops = {op.op: op for op in model.ops.bound() if len(op.found) > 1}
        able = {name: _able(op, asked.excluded) for name, op in ops.items()}
        first = {name: names[0] for name, names in able.items() if names}
        load = workload(model, structs.replace(point, execution="eager"), first)
        try:
            contest = self._surveyed(model, load, ops, asked, stage)
            if not contest.found:
                return []
            self._follow(contest, point.context)
            stage("block")
            holder = self._running(contest, contest.config)
            block_s = holder.first_s
            if block_s < limits.LONG_CALL_S:
                block_s = median(holder.timer.sample() for _ in range(3))
            shares = {op: self._share(contest, op, block_s) for op in contest.found}
            incumbents = dict(contest.config)
            self._passes(contest, holder, shares, point.context, asked, stage)
        finally:
            load.release()
        return [
            OpChoice(
                context=point.context,
                op=op,
                incumbent=incumbents[op],
                provider=contest.config[op],
                share=shares[op],
                trials=tuple(contest.trials[op]),
            )
            for op in contest.found
        ]

    def _surveyed(
        self,
        model: Model,
        load: Workload,
        ops: dict[str, Op],
        asked: wire.Decide,
        stage: Stage,
    ) -> _Contest:
        """Call the block once, timing each op's implementations on the way."""
        calls: dict[str, Counter[Signature]] = defaultdict(Counter)
        left = {one: seen for one, seen in self._far.items() if len(seen) >= FAR_OFTEN}
        excluded = {*asked.excluded, *(f"{op} {name}" for op, name in left)}

        def look(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if op.op in ops:
                seen = self._times.look(op, args, kwargs, stage, excluded)
                calls[op.op][seen] += 1

        load.call()  # compiles what the block itself needs, so that no timing waits for it
        with model.ops.observed(look):
            load.call()
        self._bench.wait()
        found = {
            op: {name: self._times.total(calls[op], name) for name in ops[op].found} for op in calls
        }
        found = {
            op: times
            for op, times in found.items()
            if any(isinstance(time, OpTime) for time in times.values())
        }
        config = {
            op: next(name for name, time in times.items() if isinstance(time, OpTime))
            for op, times in found.items()
        }
        execution: Execution = "eager" if self._bench.kind == "cpu" else "graph"
        return _Contest(load, found, calls, config, execution, defaultdict(list), left)

    def _follow(self, contest: _Contest, context: int) -> None:
        """Count for each implementation at how many contexts in a row it was far behind."""
        for op, found in contest.found.items():
            times = {name: t for name, t in found.items() if isinstance(t, OpTime)}
            for name, taken in times.items():
                seen = self._far.setdefault((op, name), [])
                seen[:] = [*seen, context] if far_behind(taken, list(times.values())) else []

    def _running(self, contest: _Contest, config: dict[str, str]) -> _Running:
        """The block with these providers. Raises UnsupportedError where one does not take it."""
        load = contest.load.with_providers(config)
        for _ in range(2):
            begin = time.perf_counter()
            load.call()
            self._bench.wait()
            if time.perf_counter() - begin > limits.LONG_CALL_S:
                break
        if load.choice.fallbacks:
            raise UnsupportedError("; ".join(load.choice.fallbacks.values()))
        try:
            run, _ = self._bench.runnable(load, contest.execution)
        except UnsupportedError:
            if config != contest.config:
                raise
            contest.execution = "eager"  # not with the incumbents either: by calls, then
            run = load.call
        timer = self._bench.cold_timer(run, 1e-3)
        return _Running(load, timer, timer.sample())  # a first replay uploads the graph

    def _passes(
        self,
        contest: _Contest,
        holder: _Running,
        shares: dict[str, float],
        context: int,
        asked: wire.Decide,
        stage: Stage,
    ) -> None:
        """Try the challengers of each op, until a pass changes nothing."""
        near = {op: self._near(contest, op, shares[op], context, asked) for op in contest.found}
        compared: set[frozenset[tuple[tuple[str, str], ...]]] = set()
        for _ in range(PASSES):
            changed = False
            for op in sorted(near, key=lambda op: -shares[op]):
                for name in near[op]:
                    both = frozenset(
                        tuple(config.items())
                        for config in (contest.config, {**contest.config, op: name})
                    )
                    if len(both) == 1 or both in compared:
                        continue  # it is in force, or these two were compared before
                    compared.add(both)
                    stage(f"{op} {name}")
                    trial, challenger = self._tried(contest, holder, op, name, context, asked)
                    contest.trials[op].append(trial)
                    if trial.outcome == "won" and challenger is not None:
                        contest.config[op], holder, changed = name, challenger, True
            if not changed:
                return

    def _near(
        self, contest: _Contest, op: str, share: float, context: int, asked: wire.Decide
    ) -> list[str]:
        """Who is worth a trial, the fastest first; the others leave a trial that says why not."""
        times = {name: t for name, t in contest.found[op].items() if isinstance(t, OpTime)}
        worth: list[str] = []
        for name, taken in contest.found[op].items():
            outcome, detail = sorted_out(taken, times, share, contest.calls[op].total())
            if not isinstance(taken, OpTime) and (seen := contest.left.get((op, name))):
                outcome, detail = (
                    "slow",
                    f"{FAR:.0f} times as slow as the best at {seen[-1]} tokens",
                )
            if outcome is None:
                worth.append(name)
            elif name != contest.config[op]:
                trial = self._trial(contest, op, name, context, asked, outcome)
                contest.trials[op].append(structs.replace(trial, detail=detail))
        return sorted(worth, key=lambda name: times[name].cold_s)

    def _tried(
        self,
        contest: _Contest,
        holder: _Running,
        op: str,
        name: str,
        context: int,
        asked: wire.Decide,
    ) -> tuple[Trial, _Running | None]:
        """One challenger against the incumbent, in the whole block. What lost clearly at a shorter
        length, where the op did the same work (a step's norm, say), is not tried again."""
        same = (op, name, contest.config[op], frozenset(contest.calls[op].items()))
        if before := self._beaten.get(same):
            text = f"as at {before.context} tokens, where the op does the same work"
            trial = self._trial(contest, op, name, context, asked, "lost")
            return structs.replace(trial, detail=text), None
        try:
            challenger = self._running(contest, {**contest.config, op: name})
            times = alternate((challenger.timer.sample, holder.timer.sample), enough)
        except (UnsupportedError, torch.OutOfMemoryError) as refusal:
            text = " ".join(str(refusal).split())[:200]
            trial = self._trial(contest, op, name, context, asked, "refused")
            return structs.replace(trial, detail=text), None
        found = log_ratio(*times)
        trial = self._trial(contest, op, name, context, asked, "won" if wins(found) else "lost")
        trial = structs.replace(trial, log_ratio=found.mean, error=found.error, pairs=found.pairs)
        if loses(found):
            self._beaten[same] = trial
        return trial, challenger

    def _trial(
        self,
        contest: _Contest,
        op: str,
        name: str,
        context: int,
        asked: wire.Decide,
        outcome: TrialOutcome,
    ) -> Trial:
        taken, against = contest.found[op][name], contest.found[op][contest.config[op]]
        known = taken if isinstance(taken, OpTime) else None
        held = against if isinstance(against, OpTime) else None
        return Trial(
            context=context,
            process=asked.process,
            provider=name,
            incumbent=contest.config[op],
            outcome=outcome,
            hot_s=known and known.hot_s,
            cold_s=known and known.cold_s,
            incumbent_hot_s=held and held.hot_s,
            incumbent_cold_s=held and held.cold_s,
        )

    def _share(self, contest: _Contest, op: str, block_s: float) -> float:
        taken = contest.found[op][contest.config[op]]
        assert isinstance(taken, OpTime)
        return min(1.0, max(taken.hot_s, taken.cold_s) / block_s)

    def _clean(self) -> None:
        if self._bench.kind == "cuda":
            torch.cuda.empty_cache()


def _able(op: Op, excluded: Sequence[str]) -> list[str]:
    return [name for name in op.found if f"{op.op} {name}" not in excluded]
