"""A run folder: create (never over another), resume, load, merge.

    run.json                          format, scenario, command, when
    environments/<fingerprint>.json   the machines and software the outcomes belong to
    decisions.json                    who runs which op, decided once for the run, and why
    disabled_passes.json              passes that killed their process, not tried again
    outcomes.jsonl                    one Measurement or Failure per line
    telemetry.jsonl                   readings beside the run (both `.gz` once packed)

The folder is complete in itself: a run recorded on one machine loads on another without torch. One
process writes to it at a time: it holds the lock of run.json. Files beside the journal never keep
outcomes from being read.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from ssmprof import limits
from ssmprof.bounded import read_file
from ssmprof.errors import StoreError, cannot_write
from ssmprof.records import (
    Decision,
    DisabledPass,
    Environment,
    Failure,
    Measurement,
    Outcome,
    Point,
    Run,
    TelemetrySample,
    collector_at_rest,
    encode,
)
from ssmprof.scalars import digest
from ssmprof.spec import Scenario, Subject, check_scenario
from ssmprof.store import decisions, guard, schema
from ssmprof.store.beside import environments_of, telemetry_of
from ssmprof.store.files import (
    OUTCOMES_FILE,
    RUN_FILE,
    TELEMETRY_FILE,
    is_draft,
    make_folder,
    remove_drafts,
    unpack,
    write_new,
    write_whole,
)
from ssmprof.store.journal import Appender, Journal, read
from ssmprof.store.lock import Lock

ENVIRONMENTS = "environments"


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Contents of run.json."""

    format: int
    scenario: Scenario
    created_unix_s: float
    command: str | None = None
    origin: Literal["measured", "published"] = "measured"
    source: str | None = None
    comparable_from: int = 0


class _Versioned(msgspec.Struct):
    """What every format of run.json has, whatever else it holds."""

    format: Any = None


class RunFolder:
    """An open run folder: what `sweep` writes into. Close it, or use it as a context manager.

    `locked` is False where the file system has no locks, which its user should be told;
    `environments` are the machines of its outcomes, by fingerprint.
    """

    def __init__(self, path: Path, header: Header) -> None:
        """Raises StoreError where another process writes to the run."""
        self.path = path
        self.scenario = header.scenario
        self.decisions = decisions.read(path)
        self.disabled = decisions.read_disabled(path)
        self._telemetry: Appender | None = None
        self._lock = Lock(path / RUN_FILE)
        try:
            for folder in (path, path / ENVIRONMENTS):
                remove_drafts(folder)
            unpack(path)
            self.journal = Journal(path / OUTCOMES_FILE, header.format)
        except BaseException:
            self._lock.close()
            raise
        self.locked = self._lock.held and self.journal.locked
        needed = {outcome.environment for outcome in self.journal.outcomes}
        self.environments, _ = environments_of(path / ENVIRONMENTS, needed)

    def add_environment(self, environment: Environment) -> str:
        """Store a machine; return the fingerprint that outcomes carry. The last reading counts."""
        folder = self.path / ENVIRONMENTS
        file = folder / f"{environment.fingerprint}.json"
        try:
            make_folder(folder)
            write_whole(file, _indented(environment))
        except OSError as error:
            raise cannot_write(file, error) from None
        self.environments[environment.fingerprint] = environment
        return environment.fingerprint

    def add_decisions(self, found: Iterable[Decision]) -> None:
        """Keep decisions: they are on the disk when this returns, and hold for a resumed run."""
        self.decisions = (*self.decisions, *found)
        decisions.write(self.path, self.decisions)

    def add_disabled(self, found: DisabledPass) -> None:
        """Keep that a pass is not tried again; a resumed run does not try it either."""
        self.disabled = (*self.disabled, found)
        decisions.write_disabled(self.path, self.disabled)

    def add_telemetry(self, sample: TelemetrySample) -> None:
        """Append one reading; telemetry may be lost in a crash, outcomes may not."""
        if self._telemetry is None:
            self._telemetry = Appender(self.path / TELEMETRY_FILE)
            self._telemetry.cut(self._telemetry.read().rfind(b"\n") + 1)
        self._telemetry.write(encode(sample) + b"\n", durable=False)

    def close(self) -> None:
        """Give the files back."""
        self.journal.close()
        if self._telemetry is not None:
            self._telemetry.close()
        self._lock.close()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def create(
    path: Path,
    scenario: Scenario,
    *,
    command: str | None = None,
    origin: Literal["measured", "published"] = "measured",
    source: str | None = None,
    comparable_from: int = 0,
    created_unix_s: float | None = None,
) -> RunFolder:
    """Make a new run folder, created now. Raises StoreError where anything is already there."""
    header = Header(
        format=schema.FORMAT,
        scenario=scenario,
        created_unix_s=round(time.time(), 3) if created_unix_s is None else created_unix_s,
        command=command,
        origin=origin,
        source=source,
        comparable_from=comparable_from,
    )
    taken = StoreError(
        f"{path}: already there; results are never overwritten",
        fix=f"--resume {path} to go on with it, or -o with another folder",
    )
    try:
        if path.exists() and (
            not path.is_dir() or not all(is_draft(one) for one in path.iterdir())
        ):
            raise taken
        make_folder(path)
        write_new(path / RUN_FILE, _indented(header))
    except FileExistsError:
        raise taken from None
    except OSError as error:
        raise cannot_write(path, error, fix="choose another folder with -o") from None
    return RunFolder(path, header)


def resume(path: Path, scenario: Scenario | None = None) -> RunFolder:
    """Open a run folder to go on. Raises StoreError if it holds another than `scenario`."""
    header = read_header(path)
    if scenario is not None and digest(scenario) != digest(header.scenario):
        raise StoreError(
            f'{path}: holds another scenario than "{scenario.name}" as it is now',
            cause="points measured under different questions cannot share a folder",
            fix=f"ssmprof sweep --resume {path} without a scenario, or -o with a new folder",
        )
    if header.format != schema.FORMAT:
        raise StoreError(
            f"{path}: is of format {header.format}, lines of format {schema.FORMAT} cannot join it",
            fix="start a new run; the old one can still be reported",
        )
    return RunFolder(path, header)


def read_header(path: Path) -> Header:
    """run.json of a folder. Raises StoreError naming the file and the mend."""
    file = path / RUN_FILE
    if path.is_dir():
        guard.check(path)
    try:
        data = read_file(file, limits.RUN_FILE_BYTES, follow=False)
    except FileNotFoundError:
        raise StoreError(
            f"{path}: not a run folder (no {RUN_FILE})", fix="ssmprof sweep SCENARIO makes one"
        ) from None
    except OSError as error:
        raise StoreError(f"{file}: cannot be read: {error.strerror}") from None
    try:
        found = schema.check_format(msgspec.json.decode(data, type=_Versioned).format, file)
        header = _header(data, found)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(f"{file}: {error}", fix="restore the file; it is written once") from None
    problem = check_scenario(header.scenario)
    if problem:
        raise StoreError(f"{file}: scenario.{problem[0]}: {problem[1]}")
    return header


def _header(data: bytes, found: int) -> Header:
    """The header of a file of format `found`. Raises msgspec.MsgspecError."""
    if found == schema.FORMAT:
        return msgspec.json.decode(data, type=Header)
    plain = msgspec.json.decode(data, type=dict[str, Any])
    if isinstance(plain.get("scenario"), dict):
        plain["scenario"] = schema.upgrade_scenario(plain["scenario"], found)
    return msgspec.convert(plain, Header)


def load(path: Path) -> Run:
    """A run folder as a value. Of outcomes of the same job a measurement wins, then the last."""
    header = read_header(path)
    with collector_at_rest():
        contents = read(path / OUTCOMES_FILE, header.format)
    needed = {outcome.environment for outcome in contents.outcomes}
    environments, unread = environments_of(path / ENVIRONMENTS, needed)
    telemetry, lost = telemetry_of(path / TELEMETRY_FILE)
    run = Run(
        scenario=header.scenario,
        environments=environments,
        outcomes=_union(contents.outcomes),
        telemetry=telemetry,
        decisions=decisions.read(path),
        created_unix_s=header.created_unix_s,
        command=header.command,
        origin=header.origin,
        source=header.source,
        comparable_from=header.comparable_from,
        dropped_lines=contents.dropped_lines,
        dropped=(*contents.dropped, *unread, *lost),
    )
    return schema.upgrade_run(run, header.format)


def merge(runs: Iterable[Run], *, allow_different: bool = False) -> Run:
    """Union of runs by job key. Raises StoreError where machine or software differ, unless allowed.

    Outcomes of different environments are never pooled: each keeps its own.
    """
    every = list(runs)
    if not every:
        raise StoreError("nothing to merge", fix="name at least one run folder")
    environments = {name: env for run in every for name, env in run.environments.items()}
    if len(environments) > 1 and not allow_different:
        names = ", ".join(f"{env.device} ({name})" for name, env in sorted(environments.items()))
        raise StoreError(
            f"these runs come from different machines or software: {names}",
            fix="report them side by side, or allow the mixture explicitly",
        )
    outcomes = tuple(outcome for run in every for outcome in run.outcomes)
    telemetry = sorted(
        (sample for run in every for sample in run.telemetry), key=lambda sample: sample.unix_s
    )
    return msgspec.structs.replace(
        every[0],
        scenario=_joined(every),
        environments=environments,
        outcomes=_union(outcomes),
        telemetry=tuple(telemetry),
        decisions=tuple(
            {
                (found.environment, found.block_digest, found.conditions, found.op): found
                for run in every
                for found in run.decisions
            }.values()
        ),
        dropped_lines=sum(run.dropped_lines for run in every),
        dropped=tuple(one for run in every for one in run.dropped),
    )


def _joined(runs: Sequence[Run]) -> Scenario:
    """The first scenario with the contenders and lengths of all. Raises StoreError for two of one
    name that are not the same.
    """
    blocks: dict[str, Subject] = {}
    for block in (block for run in runs for block in run.scenario.blocks):
        if blocks.setdefault(block.name, block) != block:
            raise StoreError(
                f"{block.name} is not the same in these runs, so they share no page",
                fix="report them one by one, or rename one of the two in its scenario",
            )
    lengths = {at for run in runs for at in run.scenario.sweep.contexts}
    first = runs[0].scenario
    sweep = msgspec.structs.replace(first.sweep, contexts=tuple(sorted(lengths)))
    return msgspec.structs.replace(first, blocks=tuple(blocks.values()), sweep=sweep)


def write(path: Path, run: Run) -> None:
    """Store a whole run as a new folder (imports of published results, samples for tests)."""
    with create(
        path,
        run.scenario,
        command=run.command,
        origin=run.origin,
        source=run.source,
        comparable_from=run.comparable_from,
        created_unix_s=run.created_unix_s or None,
    ) as folder:
        for environment in run.environments.values():
            folder.add_environment(environment)
        if run.decisions:
            folder.add_decisions(run.decisions)
        for outcome in run.outcomes:
            folder.journal.append(outcome)
        for sample in run.telemetry:
            folder.add_telemetry(sample)


def _union(outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    """One outcome per environment and job, in the order of their first appearance.

    A failure in passing says nothing of its machine: a measurement of any takes its place.
    """
    kept: dict[tuple[str, Point, int], Outcome] = {}
    for outcome in outcomes:
        key = (outcome.environment, outcome.point, outcome.round)
        if isinstance(outcome, Measurement) or not isinstance(kept.get(key), Measurement):
            kept[key] = outcome
    passing = {key[1:] for key, one in kept.items() if isinstance(one, Failure) and one.transient}
    if not passing:
        return tuple(kept.values())
    passing &= {key[1:] for key, one in kept.items() if isinstance(one, Measurement)}
    return tuple(
        one
        for key, one in kept.items()
        if not (isinstance(one, Failure) and one.transient and key[1:] in passing)
    )


def _indented(record: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
