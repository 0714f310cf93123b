"""A gallery of runs: a page for each, and an index that lays devices and commits over each other.

Runs are compared only where they ask the same: the same contenders under conditions that differ in
nothing but the device. Every number is one of the runs' own answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from ssmprof.analysis import Analysis, analyze
from ssmprof.analysis.compare.answer import Answer, Crossing
from ssmprof.analysis.decide.question import comparison
from ssmprof.harmless import slug
from ssmprof.records import Run
from ssmprof.report.build import build
from ssmprof.report.figures import overlay
from ssmprof.report.html import render, render_index
from ssmprof.report.names import name_contenders
from ssmprof.report.page import Linked, Listing, Part, Picture, Prose, Section
from ssmprof.report.redact import redacted
from ssmprof.report.rows import zone_words
from ssmprof.report.svg import to_svg
from ssmprof.report.tables import Column, Table
from ssmprof.scalars import digest
from ssmprof.units import format_context, format_ratio

_MOST_LINES = 6  # of one figure; the table holds all


@dataclass(frozen=True)
class Entry:
    """One run of the gallery: its file, what it answers, and what tells it from others."""

    file: str
    run: Run
    analysis: Analysis
    sentence: str
    grade: str
    device: str
    date: str
    commit: str

    @property
    def label(self) -> str:
        """`H100 80GB HBM3, 2026-11-22, 0a1b2c3`."""
        device = self.device.removeprefix("NVIDIA ")
        return ", ".join(one for one in (device, self.date, self.commit) if one)


@dataclass(frozen=True)
class _Seen:
    """The question's comparison in one run: times as fast as `base`, and where that turns."""

    entry: Entry
    answer: Answer
    base: str
    block: str
    ratios: dict[int, float]
    crossings: tuple[Crossing, ...]


def write(
    runs: Sequence[tuple[str, Run]],
    folder: Path,
    version: str,
    progress: Callable[[str], object] = lambda _: None,
) -> list[Path]:
    """Write index.html and runs/NAME.html into a folder; returns the files.

    Args:
        runs: a name and a run each.

    Raises:
        OSError: a file cannot be written.
    """
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    entries: list[Entry] = []
    written: list[Path] = []
    for name, run in runs:
        file = _file(name, {one.file for one in entries})
        shown = redacted(run)
        analysis = analyze(shown)
        page = build(run, analysis=analysis)
        target = folder / "runs" / file
        target.write_bytes(render(page, version).encode())
        entries.append(_entry(file, shown, analysis, page.heroes[0].sentence, page.grade))
        written.append(target)
        progress(f"[{len(entries)}/{len(runs)}] {name}")
    index = folder / "index.html"
    index.write_bytes(render_gallery(entries, version).encode())
    return [index, *written]


def render_gallery(entries: Sequence[Entry], version: str) -> str:
    """The index of the runs, the newest first."""
    ordered = sorted(entries, key=lambda one: (-one.run.created_unix_s, one.file))
    devices = list(dict.fromkeys(one.device for one in ordered))
    count = "1 run" if len(ordered) == 1 else f"{len(ordered)} runs"
    machines = "1 device" if len(devices) == 1 else f"{len(devices)} devices"
    sections = [_runs(ordered)]
    groups = _groups(ordered)
    for name, found in (("devices", _devices(groups)), ("history", _histories(groups))):
        if found:
            title = {
                "devices": "Where do devices and commits agree?",
                "history": "How did the crossovers move?",
            }[name]
            sections.append(Section(name, name.capitalize(), title, tuple(found)))
    return render_index(f"{count} on {machines}", ", ".join(devices), sections, version)


def _file(name: str, taken: set[str]) -> str:
    stem = slug(name) or "run"
    file, number = f"{stem}.html", 2
    while file in taken:
        file, number = f"{stem}-{number}.html", number + 1
    return file


def _entry(file: str, run: Run, analysis: Analysis, sentence: str, grade: str) -> Entry:
    machines = list(run.environments.values())
    first = machines[0] if machines else None
    commit = (first.git or "")[:9] if first else ""
    created = run.created_unix_s
    return Entry(
        file=file,
        run=run,
        analysis=analysis,
        sentence=sentence,
        grade=grade,
        device=first.device if first else "no device",
        date=time.strftime("%Y-%m-%d", time.gmtime(created)) if created else "",
        commit=commit or (first.ssmprof if first else ""),
    )


def _runs(entries: Sequence[Entry]) -> Section:
    rows = tuple(
        {
            "scenario": one.run.scenario.name, "device": one.device, "date": one.date or None,
            "commit": one.commit or None, "answer": one.sentence, "grade": one.grade,
        }
        for one in entries
    )  # fmt: skip
    columns = (
        Column("scenario", "scenario"),
        Column("device", "device"),
        Column("date", "date"),
        Column("commit", "commit or version"),
        Column("answer", "answer"),
        Column("grade", "trust"),
    )
    table = Table("Every run, the newest first; a scenario leads to its page", columns, rows)
    hrefs = tuple(f"runs/{one.file}" for one in entries)
    return Section("runs", "Runs", "Runs", (Linked(table, hrefs),))


def _groups(entries: Iterable[Entry]) -> dict[str, list[_Seen]]:
    """Comparisons of the same contenders under the same conditions, whatever the device."""
    found: dict[str, list[_Seen]] = {}
    for entry in entries:
        blocks = "-".join(sorted(digest(block) for block in entry.run.scenario.blocks))
        for answer in entry.analysis.latencies:
            asked = comparison(answer, entry.run.scenario.blocks)
            pair = None if asked is None else answer.pair(asked.base, asked.block)
            if asked is None or pair is None:
                continue
            flip = pair.block != asked.base
            ratios = {one.context: 1 / one.ratio if flip else one.ratio for one in pair.points}
            key = f"{blocks} {replace(answer.conditions, device='').label()}"
            seen = _Seen(entry, answer, asked.base, asked.block, ratios, asked.crossings)
            found.setdefault(f"{key} {asked.base} {asked.block}", []).append(seen)
    return {key: mine for key, mine in found.items() if len({o.entry.file for o in mine}) > 1}


def _title(one: _Seen) -> str:
    names = name_contenders(one.entry.run.scenario.blocks)
    conditions = replace(one.answer.conditions, device="").label()
    return f"{names[one.block].opening} against {names[one.base].phrase}, {conditions}"


def _devices(groups: dict[str, list[_Seen]]) -> list[Part]:
    parts: list[Part] = []
    for number, mine in enumerate(groups.values()):
        lines = {one.entry.label: one.ratios for one in mine[:_MOST_LINES]}
        title = _title(mine[0])
        at = max(set.intersection(*(set(one.ratios) for one in mine)), default=None)
        said = "They have no length in common."
        if at is not None:
            each = ", ".join(f"{one.entry.label} {format_ratio(one.ratios[at])}" for one in mine)
            said = f"At {format_context(at)} tokens: {each}."
        heading = f"times as fast as {mine[0].base}"
        svg = to_svg(overlay.ratios(lines, heading), f"over-{number}", title, said)
        parts.append(Picture(f"over-{number}", svg, said, _ratios(mine), title))
    return parts


def _ratios(mine: Sequence[_Seen]) -> Table:
    contexts = sorted({at for one in mine for at in one.ratios})
    labels = {one.entry.file: one.entry.label for one in mine}
    rows = tuple(
        {"context_tokens": at} | {one.entry.file: one.ratios.get(at) for one in mine}
        for at in contexts
    )
    columns = (
        Column("context_tokens", "context", format_context, numeric=True),
        *(Column(file, label, format_ratio, numeric=True) for file, label in labels.items()),
    )
    return Table(f"Times as fast as {mine[0].base}: {_title(mine[0])}", columns, rows)


def _histories(groups: dict[str, list[_Seen]]) -> list[Part]:
    parts: list[Part] = []
    for number, mine in enumerate(groups.values()):
        ordered = sorted(mine, key=lambda one: (one.entry.run.created_unix_s, one.entry.file))
        first = [(one, next(iter(one.crossings), None)) for one in ordered]
        known = [
            overlay.Zone(seen.entry.label, seen.entry.device, one.low_tokens, one.high_tokens)
            for seen, one in first
            if one is not None and (one.low_tokens or one.high_tokens)
        ]
        title = f"{_title(mine[0])}: first crossing"
        table = _zones(title, first)
        if len(known) < 2:
            if any(one is not None for _, one in first):
                parts.append(Prose(f"{title}: fewer than two runs have a zone.", "note"))
                parts.append(Listing(table, stacked=True))
            continue
        said = "; ".join(f"{row['run']}: {row['zone']}" for row in table.rows) + "."
        svg = to_svg(overlay.history(known), f"history-{number}", title, said)
        parts.append(Picture(f"history-{number}", svg, said, table, title))
    return parts


def _zones(title: str, first: Sequence[tuple[_Seen, Crossing | None]]) -> Table:
    rows = tuple(
        {
            "run": seen.entry.label,
            "zone": "no crossing" if one is None else zone_words(one),
            "low_tokens": one.low_tokens if one else None,
            "high_tokens": one.high_tokens if one else None,
            "why": one.why if one else None,
            "grade": seen.answer.grade,
        }
        for seen, one in first
    )
    columns = (
        Column("run", "run"), Column("zone", "crossing, tokens"), Column("why", "why so wide"),
        Column("grade", "trust"),
    )  # fmt: skip
    return Table(f"{title} of each run, the oldest first", columns, rows)
