"""What the documents say of surfaces and of the simulator is what the committed files hold."""

from __future__ import annotations

import re
from pathlib import Path

from ssmprof.analysis import analyze
from ssmprof.store.folder import load

ROOT = Path(__file__).parents[2]
TEXT = " ".join((ROOT / "docs/how-it-works/surface.md").read_text("utf-8").split())


def test_the_document_counts_the_held_out_points_of_the_run() -> None:
    run = load(ROOT / "reports" / "2026-11-30-serving-h200")
    planes = analyze(run, ("planes",)).planes
    known = [one.error for plane in planes for one in plane.missed if one.error is not None]
    good = sum(plane.within for plane in planes)
    sweep = run.scenario.sweep
    lattice = len(sweep.contexts) * (len(sweep.batch) + 1)
    said = re.search(
        r"with (\d+) of (\d+) places .*? (\d+) of (\d+) predicted .*? by ([\d.]+) %", TEXT
    )
    assert said is not None
    assert [int(one) for one in said.groups()[:4]] == [
        sum(plane.points for plane in planes), lattice, good, len(known),
    ]  # fmt: skip
    assert float(said[5]) == round(100 * max(map(abs, known)), 1)
