"""Measured step times of one contender over batch and context, and what lies between them.

Between measured lengths and batches times follow `analysis.surface.rows`. Outside of them there is
an error, unless `hold` is set: then the nearest measured length or batch stands in, and
`held` counts how often it did.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from ssmprof import limits
from ssmprof.analysis.compare.conditions import by_conditions
from ssmprof.analysis.compare.curve import contenders
from ssmprof.analysis.surface.planes import predicting
from ssmprof.analysis.surface.rows import Rows
from ssmprof.bounded import read_file
from ssmprof.errors import ConfigError, nearest, reason
from ssmprof.records import Conditions, Run
from ssmprof.scalars import Execution, Phase

COLUMNS = ("model", "phase", "batch", "context_tokens", "time_s")
Times = dict[int, dict[int, float]]  # batch -> context -> seconds


class _Row(msgspec.Struct):
    model: str
    phase: Phase
    batch: int
    context_tokens: int
    time_s: float


@dataclass
class Surface:
    """Seconds of a prefill of one prompt, and of a decode step of a batch.

    With `chunk` the prefills are of the last so many tokens of each length (`records.Prefill`).
    `about` says where the times come from.
    """

    name: str
    prefills: dict[int, float]
    decodes: Times
    about: str = ""
    hold: bool = False
    chunk_tokens: int | None = None
    held: int = 0
    _prefill: Rows = field(init=False)
    _decode: Rows | None = field(init=False)

    def __post_init__(self) -> None:
        if not self.prefills:
            raise ConfigError(f"{self.name}: no prefill of batch 1 was measured")
        self._prefill = Rows("prefill", {1: self.prefills}, self.chunk_tokens)
        self._decode = Rows("decode", self.decodes) if any(self.decodes.values()) else None
        self._shortest, self._longest = min(self.prefills), max(self.prefills)

    def prefill(self, tokens: int) -> float:
        """Seconds of a whole prompt of so many tokens, read in chunks where those were measured."""
        step = self.chunk_tokens
        if step is None:
            return self._read(tokens)
        if tokens <= step:  # a shorter chunk is taken to last as long as the shortest one
            return self._read(max(tokens, self._shortest))
        return math.fsum(self.chunk(at, min(step, tokens - at)) for at in range(0, tokens, step))

    def chunk(self, done: int, tokens: int) -> float:
        """Seconds of the next `tokens` of a prompt of which `done` are computed.

        Of measured chunks: those of a prompt of their own, and of what the chunk that was measured
        there takes more than a prompt, the part of their tokens. Of whole prompts: what the longer
        one takes more than the shorter; at least what the tokens take as a prompt of their own,
        where that was measured.
        """
        if not done:
            return self.prefill(tokens)
        step = self.chunk_tokens
        if step is None:
            more = self._read(done + tokens) - self._read(done)
            return max(0.0, more) if tokens < self._shortest else max(more, self._read(tokens))
        if tokens > step:
            return self.chunk(done, step) + self.chunk(done + step, tokens - step)
        # The last chunk of the longest prompt may be shorter than those that were measured.
        ends = max(done + tokens, min(done + step, self._longest))
        later = max(0.0, self._read(ends) - self._read(step))
        return self._read(max(tokens, self._shortest)) + later * tokens / step

    def decode(self, batch: int, context: float) -> float:
        """Seconds of one step of `batch` sequences whose mean length is `context`."""
        if self._decode is None:
            raise ConfigError(f"{self.name}: no decode step was measured")
        found = self._decode.at(batch, context)
        for one in found.held:
            if one.axis == "batch":
                self._outside(f"decode of batch {batch:,}", one.measured, "--max-batch")
            else:
                what = f"decode of {context:,.0f} tokens (batch {one.batch})"
                self._outside(what, one.measured, "")
        return found.time_s

    def slower(self, factor: float) -> Surface:
        """The same with all times so many times as long."""
        return replace(
            self,
            prefills={at: factor * one for at, one in self.prefills.items()},
            decodes={
                batch: {at: factor * one for at, one in row.items()}
                for batch, row in self.decodes.items()
            },
            held=0,
        )

    def _read(self, tokens: int) -> float:
        found = self._prefill.at(1, tokens)
        for one in found.held:
            self._outside(f"prefill of {tokens:,.0f} tokens (batch 1)", one.measured, "")
        return found.time_s

    def _outside(self, what: str, measured: Sequence[int], option: str) -> None:
        if not self.hold:
            low, high = measured[0], measured[-1]
            ends = f"{low:,} to {high:,}" if low != high else low
            raise ConfigError(
                f"{self.name}: a {what} was not measured ({ends} was)",
                fix=f"{option} {high}, or --hold-ends" if option else
                "--hold-ends takes the nearest length that was, and says how often",
            )  # fmt: skip
        self.held += 1


def of_run(
    run: Run, names: Iterable[str], execution: Execution | None, hold: bool
) -> list[Surface]:
    """The surfaces of these contenders: medians of a run, under the first conditions that fit.

    Raises ConfigError where a contender is unknown or was not measured.
    """
    groups = by_conditions(predicting(run).outcomes, run.environments)
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
        chunk = first["prefill"].chunk if "prefill" in first else None
        found.append(Surface(name, prefills, times["decode"], about, hold, chunk))
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
