"""Work grows no faster than a run: calls counted, not seconds, so that any machine can tell.

Promises: reading, analysing and laying out a run four times as large calls Python functions at most
a little more than four times as often, along each axis; contenders alone are compared pair by pair,
so there the work per pair is what must not grow. A page of a large run holds less of each point,
and a figure draws what its pixels show. A run's hash, made an outcome at a time, is that of its
bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import make
import pytest

from scale import measure
from scale.__main__ import exponents, quantities
from scale.synthetic import Shape, scenario, write
from ssmprof.analysis import analyze
from ssmprof.records import Run, content_hash, encode
from ssmprof.report import embed
from ssmprof.report.export import EXPORTS, Source
from ssmprof.report.figures.thinning import drawn, spaced
from ssmprof.report.redact import redacted
from ssmprof.store.folder import load

SLACK = 1.15


def calls(work: Callable[[], Any]) -> int:
    """How often Python functions are called."""
    count = 0

    def counting(_: Any, event: str, __: Any) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(counting)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def stored(folder: Path, shape: Shape) -> Path:
    path = folder / "-".join(map(str, shape[:4]))
    write(path, shape)
    return path


def everything(path: Path, out: Path) -> int:
    """Calls of reading, analysing, embedding and exporting one run."""
    out.mkdir(exist_ok=True)

    def work() -> None:
        run = redacted(load(path))
        analyze(run)
        embed.encoded(embed.compact(run))
        for name in ("csv", "jsonl", "sqlite"):
            EXPORTS[name](Source(run), out)

    work()  # caches and imports
    return calls(work)


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (Shape(contexts=40, contenders=3), Shape(contexts=160, contenders=3)),
        (Shape(contexts=12, contenders=3, rounds=4), Shape(contexts=12, contenders=3, rounds=16)),
        (Shape(contexts=12, contenders=3), Shape(contexts=12, contenders=3, batches=4)),
    ],
    ids=["contexts", "rounds", "conditions"],
)
def test_work_is_linear(small: Shape, large: Shape, tmp_path: Path) -> None:
    first, second = (everything(stored(tmp_path, one), tmp_path / "out") for one in (small, large))
    assert second <= SLACK * first * large.outcomes / small.outcomes


def test_work_per_pair_of_contenders_does_not_grow(tmp_path: Path) -> None:
    small, large = Shape(contexts=10, contenders=4), Shape(contexts=10, contenders=16)

    def answered(shape: Shape) -> int:
        run = load(stored(tmp_path, shape))
        return calls(lambda: analyze(run, ("answers",)))

    first, second = answered(small), answered(large)
    assert second <= SLACK * first * (16 * 15) / (4 * 3)


def test_a_large_run_is_embedded_with_less_of_each_point(monkeypatch: pytest.MonkeyPatch) -> None:
    law = make.power_law(attention=(1.0, 1.0), mamba2=(2.0, 1.0))
    run = make.measured(make.scenario(), law)
    assert {len(one.times_s) for one in embed.compact(run).measurements()} == {5}
    monkeypatch.setattr(embed, "MANY", 3)
    thin = list(embed.compact(run).measurements())
    assert {len(one.times_s) for one in thin} == {1}
    assert [one.time_s for one in thin] == [one.time_s for one in run.measurements()]


def test_figures_draw_extremes_and_ends_of_thousands_of_lengths() -> None:
    contexts = list(range(512, 8512))
    values = [1.0] * len(contexts)
    values[4321], values[77] = 9.0, 0.1
    places = drawn(contexts, values)
    assert {0, 77, 4321, len(contexts) - 1} <= set(places)
    assert len(places) < 600
    assert drawn(contexts[:50], values[:50]) == list(range(50))
    kept = spaced(contexts, 60)
    assert (kept[0], kept[-1], len(kept) <= 60) == (512, 8511, True)


def test_the_hash_of_a_run_is_that_of_its_bytes(tmp_path: Path) -> None:
    run = load(stored(tmp_path, Shape(contexts=3, contenders=2, rounds=2)))
    runs: list[Run] = [run, make.run(), make.run(make.failure(), source='x","outcomes":[')]
    for one in runs:
        assert one.sha256 == content_hash(encode(one))


def test_the_table_has_a_row_per_command_and_a_bar_per_promise(tmp_path: Path) -> None:
    shape = Shape(contexts=4, contenders=2, rounds=3)
    path = stored(tmp_path, shape)
    rows: list[dict[str, Any]] = []
    for scale in (1, 60_000):
        for command in measure.COMMANDS:
            taken = measure.run(command, path, tmp_path) if scale == 1 else None
            cpu_s = taken.cpu_s if taken else 1e9
            rows.append(
                {
                    "axis": "contexts",
                    "command": command,
                    "outcomes": shape.outcomes * scale,
                    "wall_s": 1.0,
                    "cpu_s": cpu_s,
                    "peak_bytes": taken.peak_bytes if taken else 2e9,
                    "page_bytes": 1,
                }
            )
    assert all(value > 1 for value in exponents(rows).values())
    found = {one["name"]: one for one in quantities(rows, {})}
    memory = [one for name, one in found.items() if name.endswith("memory")]
    assert [one["value"] > one["bar"] for one in memory] == [True]
    assert sum(name.endswith(": time") for name in found) == 3


def test_the_synthetic_run_is_what_it_says(tmp_path: Path) -> None:
    shape = Shape(contexts=5, contenders=3, rounds=2, phases=("prefill", "decode"))
    run = load(stored(tmp_path, shape))
    assert len(run.outcomes) == shape.outcomes == 5 * 3 * 2 * 2 * 2
    assert run.scenario == scenario(shape)
    assert not run.dropped
    parts = [one for one in run.measurements() if one.attribution]
    assert len(parts) * 2 == shape.outcomes
