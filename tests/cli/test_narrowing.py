"""The answer as it narrows, told while a sweep runs."""

from __future__ import annotations

import planted
import pytest
from deciding import ENVIRONMENTS, Virtual, scenario, swept
from planted import A, B

from ssmprof.cli.progress import Reporter
from ssmprof.planning.strategies.decide import next_step


def test_a_zone_is_told_when_it_changes_and_from_where_it_came(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = scenario(A, B, phase=("prefill", "decode"))
    truths = {
        "prefill": planted.pair(planted.smooth(4400, 0.5)),
        "decode": planted.pair(lambda at: 0 * at),
    }
    _, journal = swept(asked, Virtual(truths))
    reporter = Reporter()
    last = 0
    for index, one in enumerate(journal.outcomes):
        if one.round != last and index:
            reporter.narrowed(next_step(asked, journal.outcomes[:index], ENVIRONMENTS).answers)
            last = one.round
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(set(lines))
    prefill = [line for line in lines if line.startswith("prefill: attention | mamba2 ")]
    assert prefill[0] == "prefill: attention | mamba2 between 4K and 8K"
    assert len(prefill) >= 2
    assert all(line.startswith(f"{prefill[0]} ... ") for line in prefill[1:])
    decode = [line for line in lines if line.startswith("decode: no crossing: ")]
    assert decode[-1].endswith("equal")


def test_who_asked_for_quiet_hears_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    asked = scenario(A, B)
    _, journal = swept(asked, Virtual(planted.pair(planted.smooth(4400, 0.5))))
    Reporter(quiet=True).narrowed(next_step(asked, journal.outcomes, ENVIRONMENTS).answers)
    assert capsys.readouterr().err == ""
