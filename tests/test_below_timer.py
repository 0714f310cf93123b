"""A call below what can be timed is tagged where it is measured, and every reader goes on."""

from __future__ import annotations

from pathlib import Path

import make
import pytest
from msgspec.structs import replace

from ssmprof.analysis import analyze
from ssmprof.analysis.compare.curve import contenders, samples
from ssmprof.cli import main
from ssmprof.measure.timing.sampling import below_timer_notes
from ssmprof.records import Note, Run, median
from ssmprof.store import folder


def zeroed(least: float, count: int = 1) -> Run:
    """Two contenders with parts and memory; the shortest points of the first round took `least`."""
    asked = make.scenario("attention", "mamba2", contexts=(512, 2048, 8192, 32768))
    laws = make.power_law(attention=(1.0, 2.0), mamba2=(8000.0, 1.0))
    outcomes = [
        replace(
            one,
            attribution=make.attribution(one.time_s),
            memory=make.memory(one.point.context),
        )
        for one in laws(make.jobs(asked))
    ]
    note = Note(kind="below-timer", text="3 of 3 samples are not above what timing itself costs")
    for index in range(count):
        outcomes[index] = replace(outcomes[index], times_s=(least,) * 3, notes=(note,))
    return make.run(*outcomes, asked=asked)


@pytest.mark.parametrize("times_s", [(0.0,), (1e-6, -2e-8), (1e-6, 0.0, 2e-6)])
def test_a_sample_of_zero_or_less_earns_the_tag(times_s: tuple[float, ...]) -> None:
    (note,) = below_timer_notes(times_s)
    assert note.kind == "below-timer"
    assert f"of {len(times_s)} samples" in note.text


def test_a_sample_above_zero_earns_none() -> None:
    assert below_timer_notes((1e-9, 5.0)) == ()


@pytest.mark.parametrize("least", [0.0, -2e-8])
def test_what_is_not_positive_is_on_no_curve(least: float) -> None:
    run = zeroed(least)
    first = next(run.measurements())
    assert samples(first, "latency") == ()
    curve = contenders(run.measurements())[first.point.block].curve
    assert first.round not in curve.get(first.point.context, {})
    assert all(value > 0 for rounds in curve.values() for v in rounds.values() for value in v)
    assert [one.after for one in analyze(run).latencies[0].crossings] == ["mamba2"]


@pytest.mark.parametrize("least", [0.0, -2e-8])
@pytest.mark.parametrize("count", [1, 2, 24])
@pytest.mark.parametrize(
    "words",
    [
        ["report", "run"],
        ["crossover", "run"],
        ["kernels", "run"],
        ["claims", "run"],
        ["advise", "run"],
        ["memory", "run"],
        ["compare", "run", "run"],
        ["export", "run", "--to", "csv,jsonl,markdown,chrome-trace,speedscope,sqlite,openmetrics"],
    ],
    ids=lambda words: words[0] if isinstance(words, list) else str(words),
)
def test_every_reader_goes_on(
    words: list[str], least: float, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    folder.write(tmp_path / "run", zeroed(least, count))
    with pytest.raises(SystemExit) as end:
        main(words)
    said = capsys.readouterr()
    assert end.value.code in (0, 1, 5) or "error: " in said.err, said.err
    assert "Traceback" not in said.err


def test_the_middle_of_two_huge_numbers_is_finite() -> None:
    assert median((1.7e308, 1.7e308)) == 1.7e308
    assert median((1.0, 2.0)) == 1.5


def test_parts_of_a_time_of_zero_are_taken_and_those_of_a_very_long_call_are_not() -> None:
    torch = pytest.importorskip("torch")
    from types import SimpleNamespace

    from ssmprof.devices import NullDevice
    from ssmprof.measure.attribution import Untraceable, attribute
    from ssmprof.measure.passes.beside import PASSES, Scene

    one = torch.ones(4, 4)
    call = lambda: one @ one  # noqa: E731
    nothing = lambda: None  # noqa: E731
    scene = Scene(
        job=make.job(), load=SimpleNamespace(call=call), run=call, wait=nothing, flush=nothing,
        release=nothing, device=NullDevice("cpu", "x"), module=None, predicted_bytes=None,
        folder=None,
    )  # fmt: skip
    for least in (0.0, -1e-9):
        measured = replace(make.measurement(), times_s=(least,))
        found = PASSES["parts"](scene, measured)
        assert found.attribution is not None
        assert found.attribution.whole_s > 0
    long = replace(make.measurement(), launches=100_000)
    assert PASSES["parts"](scene, long).attribution is None
    assert [one.kind for one in PASSES["parts"](scene, long).notes] == ["route"]
    with pytest.raises(Untraceable, match="below what can be timed"):
        attribute(call, device="cpu", whole_s=0.0, replays=1)
