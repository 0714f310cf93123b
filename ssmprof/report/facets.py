"""One facet of a run: the contenders' values over context for one phase, batch and execution.

A facet is what a verdict and a chart are about. Values are one number per round (the median of its
samples), since the process is the unit of replication; a point that was not measured keeps its
Failure. Promises to mix neither devices nor phases, batches, executions, dtypes or logits modes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from ssmprof.analysis.curves import facets as by_facet
from ssmprof.analysis.findings import Facet
from ssmprof.records import Failure, Measurement, Outcome, Run, median
from ssmprof.spec import Architecture, BlockSpec, Subject

Metric = Literal["latency", "energy", "memory"]

# Reasons for which a contender is absent from a length on, as opposed to merely unmeasured.
TOO_BIG = ("out-of-memory", "skipped")
_LETTERS: dict[Architecture, str] = {"transformer": "T", "ssm": "M", "hybrid": "H"}
_STATE_NAMES = {"mamba1": "Mamba-1", "mamba2": "Mamba-2"}


@dataclass(frozen=True)
class Name:
    """How a contender is called: `the hybrid` in a sentence, `hybrid` on a label, `H` in a cell."""

    block: str
    phrase: str
    label: str
    letter: str
    architecture: Architecture
    nth: int

    @property
    def opening(self) -> str:
        """The phrase at the start of a sentence."""
        return self.phrase[0].upper() + self.phrase[1:]


@dataclass(frozen=True)
class Curve:
    """One contender: context -> one value per round; and why a context has none."""

    name: Name
    values: dict[int, dict[int, float]]
    failures: dict[int, Failure]

    def at(self, context: int) -> float:
        """Median over the rounds at a measured context."""
        return median(self.values[context].values())

    @property
    def contexts(self) -> list[int]:
        """Measured context lengths, ascending."""
        return sorted(self.values)


@dataclass(frozen=True)
class Comparison:
    """The curves to compare, in the order of the scenario. Seconds, joules per token or bytes."""

    facet: Facet
    metric: Metric
    curves: tuple[Curve, ...]

    @property
    def contexts(self) -> list[int]:
        """Every context at which something was measured."""
        return sorted({context for curve in self.curves for context in curve.values})

    @property
    def tried(self) -> list[int]:
        """Every context with an outcome, failures included."""
        failed = {context for curve in self.curves for context in curve.failures}
        return sorted(failed.union(self.contexts))

    def curve(self, block: str) -> Curve:
        """The contender of that block name."""
        return next(curve for curve in self.curves if curve.name.block == block)

    def absent(self, block: str, context: int) -> bool:
        """Whether the contender does not fit there: too big at that context or at a shorter one."""
        curve = self.curve(block)
        if context in curve.values:
            return False
        too_big = [at for at, failure in curve.failures.items() if failure.reason in TOO_BIG]
        return bool(too_big) and min(too_big) <= context


def _latency(one: Measurement) -> float | None:
    return one.time_s


def _energy(one: Measurement) -> float | None:
    if one.energy is None:
        return None
    tokens = one.point.batch * (one.point.context if one.point.phase == "prefill" else 1)
    return one.energy.energy_j / tokens


def _memory(one: Measurement) -> float | None:
    return float(one.memory.allocator_peak_bytes) if one.memory else None


_READ: dict[Metric, Callable[[Measurement], float | None]] = {
    "latency": _latency,
    "energy": _energy,
    "memory": _memory,
}


def name_contenders(blocks: Iterable[Subject]) -> dict[str, Name]:
    """Block name -> how it is called: by its architecture where it is the only one of it."""
    subjects = list(blocks)
    kinds: list[Architecture] = [subject.architecture for subject in subjects]
    words = [_word(subject) for subject in subjects]
    names: dict[str, Name] = {}
    for subject, kind, word in zip(subjects, kinds, words, strict=True):
        alone = words.count(word) == 1
        nth = sum(kinds[index] == kind for index in range(len(names)))
        letter = _LETTERS[kind]
        if kinds.count(kind) > 1:
            letter += str(nth + 1)
        the = "the " if kind != "ssm" else ""
        phrase = the + word if alone else subject.name
        names[subject.name] = Name(subject.name, phrase, subject.name, letter, kind, nth)
    return names


def _word(subject: Subject) -> str:
    if subject.architecture != "ssm" or not isinstance(subject, BlockSpec):
        return subject.architecture
    states = {_STATE_NAMES[part] for part in subject.sublayers if part in _STATE_NAMES}
    return states.pop() if len(states) == 1 else subject.name


def facets(run: Run) -> list[Facet]:
    """Every facet of the run: GPUs before CPUs, prefill before decode, small batches and graphs
    first."""
    kinds = {machine.device: machine.kind for machine in run.environments.values()}
    found = by_facet(run.outcomes, run.environments)
    reach = {facet: len({one.point.context for one in group}) for facet, group in found.items()}
    return sorted(
        found,
        key=lambda facet: (
            kinds.get(facet.device) == "cpu",
            facet.device,
            facet.phase != "prefill",
            facet.batch,
            facet.execution != "graph",
            -reach[facet],
            facet.dtype,
            facet.logits,
        ),
    )


def device_of(run: Run, outcome: Outcome) -> str:
    """The name of the device an outcome belongs to; empty where its environment is lost."""
    machine = run.environments.get(outcome.environment)
    return machine.device if machine else ""


def compare(run: Run, facet: Facet, metric: Metric = "latency") -> Comparison:
    """The curves of one facet; contenders without any outcome in it are left out."""
    names = name_contenders(run.scenario.blocks)
    values: dict[str, dict[int, dict[int, float]]] = {}
    failures: dict[str, dict[int, Failure]] = {}
    for outcome in by_facet(run.outcomes, run.environments).get(facet, []):
        point = outcome.point
        if isinstance(outcome, Failure):
            failures.setdefault(point.block, {})[point.context] = outcome
            continue
        value = _READ[metric](outcome)
        if value is not None and value > 0:
            rounds = values.setdefault(point.block, {}).setdefault(point.context, {})
            rounds[outcome.round] = value
    return Comparison(
        facet,
        metric,
        tuple(
            Curve(
                name, values.get(block, {}), _final(failures.get(block, {}), values.get(block, {}))
            )
            for block, name in names.items()
            if block in values or block in failures
        ),
    )


def _final(failures: dict[int, Failure], values: dict[int, dict[int, float]]) -> dict[int, Failure]:
    """Failures at contexts that no round could measure."""
    return {context: failure for context, failure in failures.items() if context not in values}
