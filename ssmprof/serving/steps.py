"""Measured step times of one contender over batch and context, and what lies between them.

Between measured lengths and batches times are interpolated, linear on log axes. Outside of them
there is an error, unless `hold` is set: then the nearest measured length or batch stands in, and
`held` counts how often it did.
"""

from __future__ import annotations

import bisect
import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from ssmprof import limits
from ssmprof.analysis.compare.conditions import by_conditions
from ssmprof.analysis.compare.curve import contenders
from ssmprof.bounded import read_file
from ssmprof.errors import ConfigError, nearest, reason
from ssmprof.records import Conditions, Run
from ssmprof.scalars import Execution, Phase

COLUMNS = ("model", "phase", "batch", "context_tokens", "time_s")
Times = dict[int, dict[int, float]]  # batch -> context -> seconds


class _Curve(NamedTuple):
    """Ascending lengths, their logs, and the logs of the times at them."""

    contexts: list[int]
    logs: list[float]
    times: list[float]


class _Row(msgspec.Struct):
    model: str
    phase: Phase
    batch: int
    context_tokens: int
    time_s: float


@dataclass
class Surface:
    """Seconds of a prefill of one prompt, and of a decode step of a batch.

    `about` says where the times come from.
    """

    name: str
    prefills: dict[int, float]
    decodes: Times
    about: str = ""
    hold: bool = False
    held: int = 0
    _prefill: _Curve = field(init=False)
    _decode: dict[int, _Curve] = field(init=False)
    _batches: list[int] = field(init=False)

    def __post_init__(self) -> None:
        if not self.prefills:
            raise ConfigError(f"{self.name}: no prefill of batch 1 was measured")
        self._prefill = _curve(self.prefills)
        self._decode = {batch: _curve(times) for batch, times in self.decodes.items() if times}
        self._batches = sorted(self._decode)

    def prefill(self, tokens: int) -> float:
        """Seconds of a whole prompt of so many tokens."""
        return self._at("prefill", 1, self._prefill, float(tokens))

    def chunk(self, done: int, tokens: int) -> float:
        """Seconds of the next `tokens` of a prompt of which `done` are computed.

        What the longer prompt takes more than the shorter; at least what they take as a prompt of
        their own, where that was measured.
        """
        if not done:
            return self.prefill(tokens)
        more = self.prefill(done + tokens) - self.prefill(done)
        if tokens < self._prefill.contexts[0]:
            return max(0.0, more)
        return max(more, self.prefill(tokens))

    def decode(self, batch: int, context: float) -> float:
        """Seconds of one step of `batch` sequences whose mean length is `context`."""
        batches = self._batches
        if not batches:
            raise ConfigError(f"{self.name}: no decode step was measured")
        inside = min(max(batch, batches[0]), batches[-1])
        if inside != batch:
            self._outside(f"decode of batch {batch:,}", batches, "--max-batch")
        right = bisect.bisect_left(batches, inside)
        high = batches[right]
        above = self._at("decode", high, self._decode[high], context)
        if high == inside:
            return above
        low = batches[right - 1]
        below = self._at("decode", low, self._decode[low], context)
        share = math.log(inside / low) / math.log(high / low)
        return below ** (1 - share) * above**share

    def _at(self, phase: Phase, batch: int, curve: _Curve, tokens: float) -> float:
        lengths, logs, times = curve
        inside = min(max(tokens, lengths[0]), lengths[-1])
        if inside != tokens:
            self._outside(f"{phase} of {tokens:,.0f} tokens (batch {batch})", lengths, "")
        log = math.log(inside)
        right = min(max(1, bisect.bisect_left(logs, log)), len(logs) - 1)
        if len(logs) == 1:
            return math.exp(times[0])
        low, high = logs[right - 1], logs[right]
        share = (log - low) / (high - low)
        return math.exp(times[right - 1] + share * (times[right] - times[right - 1]))

    def _outside(self, what: str, measured: Sequence[int], option: str) -> None:
        if not self.hold:
            ends = f"{measured[0]:,} to {measured[-1]:,}" if len(measured) > 1 else measured[0]
            raise ConfigError(
                f"{self.name}: a {what} was not measured ({ends} was)",
                fix=f"{option} {measured[-1]}, or --hold-ends" if option else
                "--hold-ends takes the nearest length that was, and says how often",
            )  # fmt: skip
        self.held += 1


def _curve(times: dict[int, float]) -> _Curve:
    contexts = sorted(times)
    return _Curve(contexts, [math.log(at) for at in contexts],
                  [math.log(times[at]) for at in contexts])  # fmt: skip


def of_run(
    run: Run, names: Iterable[str], execution: Execution | None, hold: bool
) -> list[Surface]:
    """The surfaces of these contenders: medians of a run, under the first conditions that fit.

    Raises ConfigError where a contender is unknown or was not measured.
    """
    groups = by_conditions(run.outcomes, run.environments)
    found: list[Surface] = []
    for name in names:
        known = [block.name for block in run.scenario.blocks]
        if name not in known:
            raise ConfigError(f'this run has no contender "{name[:60]}"{nearest(name, known)}')
        times: dict[Phase, Times] = {"prefill": {}, "decode": {}}
        first: dict[Phase, Conditions] = {}
        for conditions, outcomes in groups.items():
            mine = contenders(outcomes).get(name)
            phase = conditions.phase
            if mine is None or not mine.medians or execution not in (None, conditions.execution):
                continue
            usual = first.setdefault(phase, conditions)
            if msgspec.structs.replace(conditions, batch=usual.batch) == usual:
                times[phase][conditions.batch or 1] = dict(mine.medians)
        about = "; ".join(
            f"{msgspec.structs.replace(one, batch=None).label()}, batch "
            + ", ".join(map(str, sorted(times[phase])))
            for phase, one in first.items()
        )
        prefills = times["prefill"].get(1, {})
        found.append(Surface(name, prefills, times["decode"], about, hold))
    return found


def of_table(file: Path, names: Iterable[str], hold: bool) -> list[Surface]:
    """The surfaces of these models in a table of measured times, COLUMNS with a heading.

    Raises ConfigError with the line that is wrong, or where a model or its prefill is missing.
    """
    try:
        text = read_file(file, limits.RUN_FILE_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {reason(error)}") from None
    lines = text.splitlines()
    if not lines or tuple(cell.strip() for cell in lines[0].split(",")) != COLUMNS:
        raise ConfigError(f"{file}: its first line is not {','.join(COLUMNS)}")
    every: dict[str, dict[Phase, Times]] = {}
    for number, cells in enumerate(csv.reader(lines[1:]), start=2):
        if cells:
            row = _row(file, number, cells)
            of_model = every.setdefault(row.model, {"prefill": {}, "decode": {}})
            of_model[row.phase].setdefault(row.batch, {})[row.context_tokens] = row.time_s
    found: list[Surface] = []
    for name in names:
        if name not in every:
            raise ConfigError(f'{file}: has no model "{name[:60]}"{nearest(name, every)}')
        times = every[name]
        prefills = times["prefill"].get(1, {})
        found.append(Surface(name, prefills, times["decode"], f"table {file.name}", hold))
    return found


def _row(file: Path, number: int, cells: list[str]) -> _Row:
    try:
        values = dict(zip(COLUMNS, (cell.strip() for cell in cells), strict=True))
        row = msgspec.convert(values, _Row, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        raise ConfigError(f"{file}: line {number}: {error}") from None
    if row.batch < 1 or row.context_tokens < 1 or not 0 < row.time_s <= limits.SECONDS:
        raise ConfigError(f"{file}: line {number}: batch, context and time must be above 0")
    return row
