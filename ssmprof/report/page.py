"""What a page consists of: plain values between the findings and the HTML template."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ssmprof.report.tables import Table


@dataclass(frozen=True)
class Picture:
    """A figure: inline SVG, its generated reading in a line or two, and the numbers behind it."""

    key: str
    svg: str
    reading: str
    table: Table | None = None
    title: str = ""
    kind: str = "picture"


@dataclass(frozen=True)
class Cell:
    """A cell of a grid: text, the class that fills it, and a longer text for whoever asks."""

    text: str
    css: str = ""
    title: str = ""


@dataclass(frozen=True)
class Grid:
    """A small map in which colour repeats what the text of a cell says."""

    caption: str
    corner: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    legend: str = ""
    kind: str = "grid"


@dataclass(frozen=True)
class Listing:
    """A table of findings; long ones are folded, and words are stacked where a page is narrow."""

    table: Table
    folded: bool = False
    reading: str = ""
    stacked: bool = False
    kind: str = "listing"


@dataclass(frozen=True)
class Linked:
    """A table whose first column leads to files beside the page, one for each row."""

    table: Table
    hrefs: tuple[str, ...]
    kind: str = "linked"


@dataclass(frozen=True)
class Prose:
    """A paragraph, of a weight: plain, note or warning."""

    text: str
    weight: str = "plain"
    kind: str = "prose"


@dataclass(frozen=True)
class Head:
    """A heading inside a section: one question of several."""

    text: str
    kind: str = "head"


@dataclass(frozen=True)
class Fold:
    """Several parts behind one line: an appendix, left out on paper."""

    title: str
    parts: tuple[Part, ...]
    kind: str = "fold"


@dataclass(frozen=True)
class Facts:
    """Names and values in two columns, each with a state (ok, warn, error) or none."""

    rows: tuple[tuple[str, str, str], ...]
    kind: str = "facts"


@dataclass(frozen=True)
class Code:
    """Something to be typed."""

    text: str
    kind: str = "code"


@dataclass(frozen=True)
class Downloads:
    """Buttons that save what the page carries: (label, payload, file name)."""

    files: tuple[tuple[str, str, str], ...]
    kind: str = "downloads"


@dataclass(frozen=True)
class Mine:
    """The reader's own workload: its first values, their table, and curves to compute others on."""

    mix: str
    answer_tokens: int
    table: Table
    data: dict[str, Any]
    kind: str = "mine"


Part = Mine | Linked | Picture | Grid | Listing | Prose | Head | Fold | Facts | Code | Downloads


@dataclass(frozen=True)
class Section:
    """One question and what answers it."""

    anchor: str
    nav: str
    title: str
    parts: tuple[Part, ...]
    folded: bool = False


@dataclass(frozen=True)
class Card:
    """A key number and what it is; `state` colours it (ok, warn, bad)."""

    number: str
    label: str
    state: str = ""


@dataclass(frozen=True)
class Ruling:
    """What one phase or metric says, side by side with the others: its name and a line each."""

    name: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    """The first page besides the picture: all that a decision needs, from the run's data."""

    machine: str
    contenders: tuple[str, ...]
    rulings: tuple[Ruling, ...]
    turns: tuple[str, ...]
    limits: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class Series:
    """A contender of a facet; the readout is its column of the table.

    The legend introduces it: a slice of a model says there how much of it.
    """

    block: str
    label: str
    token: str
    mark: str
    legend: str


@dataclass(frozen=True)
class Hero:
    """The first screen of one facet; `linear` is the picture with time from zero, or empty."""

    key: str
    label: str
    sentence: str
    dominance: str
    conditions: str
    svg: str
    linear: str
    reading: str
    cards: tuple[Card, ...]
    series: tuple[Series, ...]
    contexts: tuple[int, ...]
    table: Table
    span: tuple[float, float]
    limits: tuple[float, float]


@dataclass(frozen=True)
class Page:
    """The whole document. `changes` says what certainly differs between devices, a line each."""

    title: str
    question: str
    meta: tuple[str, ...]
    banner: str
    heroes: tuple[Hero, ...]
    decision: Decision
    sections: tuple[Section, ...]
    grade: str
    footer: str
    changes: tuple[str, ...] = ()
    payloads: dict[str, bytes] = field(default_factory=dict)
