"""Each contender against the transformer: from which length it is ahead, in few words.

Promises: the words are those of the pair, in the order of the lengths; page and terminal have the
same table; a whole cast keeps its appendices folded, so that they are not on paper.
"""

from __future__ import annotations

import make
import pytest
from msgspec.structs import replace

from report import pages
from ssmprof.analysis import Analysis, analyze
from ssmprof.analysis.compare.answer import Crossing, Pair, Segment
from ssmprof.records import Calibration, Outcome, Run
from ssmprof.report import against, rows
from ssmprof.report.build import build
from ssmprof.report.page import Cell, Fold, Grid, Head, Part, Picture
from ssmprof.report.sections import evidence, fits
from ssmprof.report.tables import Table
from ssmprof.report.verdicts import views_of

OCTAVES = tuple(2**power for power in range(9, 16))
MACHINE = make.environment(calibration=Calibration(repeat_noise=0.004))
# Name -> coefficient and exponent; attention's is (1, 2), so that they cross at the coefficient.
LAWS = {
    "attention": (1.0, 2.0),
    "later": (2900.0, 1.0),
    "never": (1e6, 1.0),
    "always": (100.0, 1.0),
    "same": (1.0, 2.0),
    "early": (1 / 2900, 3.0),
    "small": (1.5, 2.0),
    "huge": (2.0, 2.0),
    "full": (2900.0, 1.0),
}


def measured(*names: str, machine: object = MACHINE, **sweep: object) -> Run:
    """A run of these contenders; `small` and `full` fail above 8K tokens, `huge` everywhere."""
    asked = make.scenario(*names, contexts=OCTAVES, **sweep)  # type: ignore[arg-type]
    law = make.power_law(**{name: LAWS[name] for name in names})
    device = make.dies_above(0, law, only="huge")
    for name in ("small", "full"):
        device = make.dies_above(8192, device, only=name)
    run = make.measured(asked, device)

    def seen(one: Outcome) -> Outcome:
        return replace(one, environment=machine.fingerprint)  # type: ignore[attr-defined]

    return replace(
        run,
        outcomes=tuple(map(seen, run.outcomes)),
        environments={machine.fingerprint: machine},  # type: ignore[attr-defined]
    )


def analysed(run: Run) -> tuple[Analysis, Table | None]:
    analysis = analyze(run)
    return analysis, against.table([views_of(run, analysis)[one.key] for one in analysis.latencies])


def grids(run: Run) -> list[Grid]:
    where = next(one for one in build(run).sections if one.anchor == "where")
    return [part for part in where.parts if isinstance(part, Grid)]


def test_every_other_contender_has_a_row_in_the_order_of_the_scenario() -> None:
    _, table = analysed(measured(*LAWS))
    assert table is not None
    assert table.caption == "Each against attention: from which length it is ahead"
    assert [column.heading for column in table.columns] == ["contender", "prefill b1 eager"]
    assert table.cells() == [
        ["later", "2K-4K"],
        ["never", "nowhere"],
        ["always", "throughout"],
        ["same", "equal"],
        ["early", "behind from 2K-4K"],
        ["small", "nowhere, out-of-memory from 16K on"],
        ["huge", "out-of-memory"],
        ["full", "ahead from 2K-4K, fits up to 8K"],
    ]


def test_a_column_is_a_condition_with_the_head_of_the_winner_map() -> None:
    run = measured("attention", "later", "never", phase=("prefill", "decode"), batch=(1, 8))
    winners, each = grids(run)
    assert each.heads == winners.heads == (
        "prefill b1 eager", "prefill b8 eager", "decode b1 eager", "decode b8 eager",
    )  # fmt: skip
    assert each.rows[0] == ("later", (Cell("2K-4K", "tie"),) * 4)
    assert each.rows[1] == ("never", (Cell("nowhere", "void"),) * 4)


def test_the_one_that_speed_ups_are_over_is_the_one_all_are_held_against() -> None:
    _, table = analysed(measured("later", "attention", "never"))
    assert table is not None
    assert [row["block"] for row in table.rows] == ["later", "never"]
    _, table = analysed(measured("later", "never", "always"))
    assert table is not None
    assert table.caption.startswith("Each against later: ")
    assert table.cells() == [["never", "nowhere"], ["always", "throughout"]]


def test_of_one_other_the_crossings_say_all() -> None:
    run = measured("attention", "later")
    assert analysed(run)[1] is None
    assert len(grids(run)) == 1


def test_without_a_verdict_there_is_none_of_a_pair_either() -> None:
    run = measured("attention", "later", "never", machine=make.environment(calibration=None))
    _, each = grids(run)
    assert {cell for _, cells in each.rows for cell in cells} == {Cell("no verdict", "void")}


def handed(before: str, after: str, low: int | None, high: int | None) -> Crossing:
    """Base `a` and contender `b` change sides; an open end is not resolved."""
    kind = "unresolved" if low is None or high is None else "zone"
    return Crossing(
        before=before, after=after, kind=kind, low_tokens=low, high_tokens=high, why="noisy"
    )


def doubtful(before: str, after: str, low: int, high: int) -> Crossing:
    return replace(handed(before, after, low, high), kind="unresolved")


def full(before: str, after: str, low: int) -> Crossing:
    return replace(handed(before, after, low, 2 * low), kind="capacity")


AB, BA = ("a", "b"), ("b", "a")


@pytest.mark.parametrize(
    ("crossings", "words"),
    [
        ((handed(*AB, 512, 8192),), "512-8K"),
        ((handed(*AB, None, 512),), "not resolved below 512"),
        ((handed(*AB, 32768, None),), "not resolved above 32K"),
        ((handed(*BA, 512, 8192),), "behind from 512-8K"),
        ((handed(*BA, None, 512),), "not resolved below 512, behind"),
        ((handed(*BA, 32768, None),), "ahead, not resolved above 32K"),
        ((handed(*BA, 512, 1024), handed(*AB, 4096, 8192)), "behind from 512-1K, ahead from 4K-8K"),
        (
            (handed(*AB, None, 512), handed(*BA, 8192, None)),
            "not resolved below 512, ahead, not resolved above 8K",
        ),
        (
            (handed(*BA, None, 512), handed(*AB, 8192, None)),
            "not resolved below 512, behind, not resolved above 8K",
        ),
        (
            (handed(*BA, None, 512), handed(*AB, 2048, 4096), handed(*BA, 8192, None)),
            "not resolved below 512, ahead from 2K-4K, not resolved above 8K",
        ),
        ((doubtful(*AB, 512, 2048),), "b may win within 512-2K"),
        ((doubtful(*BA, 512, 2048),), "a may win within 512-2K"),
        ((full(*AB, 4096),), "a fits up to 4K"),
        ((full(*BA, 4096),), "ahead, fits up to 4K"),
        ((handed(*AB, 512, 1024), full(*BA, 4096)), "ahead from 512-1K, fits up to 4K"),
    ],
)
def test_every_change_of_sides_is_said_in_few_words(
    crossings: tuple[Crossing, ...], words: str
) -> None:
    pair = Pair(block="a", other="b", points=(), segments=(), crossings=crossings)
    assert rows.brief(pair, "b") == words


def stretch(low: int, high: int, *winners: str, equal: bool = False) -> Segment:
    return Segment(winners=winners, low_tokens=low, high_tokens=high, equal=equal)


@pytest.mark.parametrize(
    ("segments", "words"),
    [
        ((), "no common length"),
        ((stretch(512, 8192, "b"),), "throughout"),
        ((stretch(512, 8192, "a"),), "nowhere"),
        ((stretch(512, 8192, "a", "b", equal=True),), "equal"),
        ((stretch(512, 8192, "a", "b"),), "not resolved"),
        (
            (stretch(512, 2048, "a", "b", equal=True), stretch(4096, 8192, "a")),
            "nowhere, equal 512-2K",
        ),
    ],
)
def test_who_hands_over_nowhere_is_said_so(segments: tuple[Segment, ...], words: str) -> None:
    pair = Pair(block="a", other="b", points=(), segments=segments, crossings=())
    assert rows.brief(pair, "b") == words


def parts_of(run: Run, anchor: str) -> tuple[Part, ...]:
    return next(one for one in build(run).sections if one.anchor == anchor).parts


def test_of_a_whole_cast_what_could_be_changed_and_what_fills_the_memory_are_appendices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = pages.rich((512, 8192, 32768), execution=("graph",))
    titles = [part.text for part in parts_of(run, "why") if isinstance(part, Head)]
    assert titles == ["What could be changed?"]
    keys = [part.key for part in parts_of(run, "fits") if isinstance(part, Picture)]
    assert keys == [
        "memory-prefill", "memory-prefill-parts", "memory-decode", "memory-decode-parts",
    ]  # fmt: skip
    for module in (evidence, fits):
        monkeypatch.setattr(module, "PANELS", len(run.scenario.blocks) - 1)
    folds = [part.title for part in parts_of(run, "why") if isinstance(part, Fold)]
    assert folds[-1] == "What could be changed?"
    found = parts_of(run, "fits")
    keys = [part.key for part in found if isinstance(part, Picture)]
    assert keys == ["memory-prefill", "memory-decode"]
    (fold,) = (part for part in found if isinstance(part, Fold))
    assert fold.title == "What fills it"
    assert [part.key for part in fold.parts if isinstance(part, Picture)] == [
        "memory-prefill-parts", "memory-decode-parts",
    ]  # fmt: skip
