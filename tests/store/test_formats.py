"""A small real run of every format version loads and analyses, for ever."""

from pathlib import Path

import pytest

from ssmprof.analysis import analyze
from ssmprof.store import folder, schema

RUNS = Path(__file__).parents[1] / "data" / "runs"


@pytest.mark.parametrize("version", range(1, schema.FORMAT + 1))
def test_a_real_run_of_every_format_loads_and_analyses(version: int):
    path = RUNS / f"format-{version}"
    assert folder.read_header(path).format == version
    run = folder.load(path)
    assert len(list(run.measurements())) == 2
    assert run.telemetry
    found = analyze(run)
    assert {point.context for one in found.latencies for point in one.curves} == {64, 256}
    assert found.memory


def test_every_older_format_has_an_upgrade():
    assert set(schema.UPGRADES) == set(range(1, schema.FORMAT))
