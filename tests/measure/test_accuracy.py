"""The table of quantities and the comparison with CUPTI, on numbers whose answer is known."""

import csv

import msgspec
import pytest

from ssmprof.doctor import accuracy
from ssmprof.doctor.accuracy import Bench, Quantity
from ssmprof.doctor.accuracy.bench import point
from ssmprof.doctor.accuracy.resources import overhead
from ssmprof.measure.attribution.compare_cupti import (
    Comparison,
    OpRow,
    judged,
    percentile,
    table,
    write_csv,
)
from ssmprof.mixers.attention.shape import Attention
from ssmprof.models.written import recipe


def _row(event_us, cupti_us, position=0, span_us=None, kernels=1):
    return OpRow(
        block="mamba2",
        context=512,
        position=position,
        scope="layers.0.mamba2.scan",
        op="triton",
        kernel="_walk",
        kernels=kernels,
        event_s=event_us * 1e-6,
        cupti_s=cupti_us * 1e-6,
        span_s=(span_us or cupti_us) * 1e-6,
    )


def _comparison(*rows, problem=None):
    return Comparison(
        block="mamba2",
        context=512,
        rows=rows,
        whole_s=1e-4,
        closure=0.004,
        cupti_sum_s=9e-5,
        cupti_gap_s=5e-6,
        marks=len(rows) + 1,
        problem=problem,
    )


@pytest.mark.parametrize(
    ("event_us", "cupti_us", "used"),
    [
        (10.5, 10.0, 0.5),  # half of 1 µs
        (1020.0, 1000.0, 1.0),  # 2 % is more than 1 µs here
        (980.0, 1000.0, 1.0),
        (12.0, 10.0, 2.0),
    ],
)
def test_the_allowance_is_the_larger_of_a_microsecond_and_two_percent(event_us, cupti_us, used):
    assert _row(event_us, cupti_us).allowance_used == pytest.approx(used)


@pytest.mark.parametrize(("event_us", "used"), [(12.0, 0.0), (9.5, 0.5), (14.5, 0.5)])
def test_an_op_of_several_kernels_lies_between_their_sum_and_their_span(event_us, used):
    row = _row(event_us, 10.0, span_us=14.0, kernels=2)
    assert row.allowance_used == pytest.approx(used)


def test_ops_below_five_microseconds_are_not_judged():
    found = _comparison(_row(1.0, 4.9), _row(6.0, 5.1))
    assert [row.cupti_s for row in judged([found])] == pytest.approx([5.1e-6])


def test_percentiles_are_nearest_ranks():
    values = [float(index) for index in range(1, 101)]
    assert percentile(values, 0.95) == 95.0
    assert percentile([3.0], 0.95) == 3.0
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)


def test_the_table_shows_ops_beyond_their_allowance_and_why_calls_do_not_match():
    text = table([_comparison(_row(12.0, 10.0), _row(20.0, 20.0), problem="2 of 3 kernels")])
    assert "2 of 3 kernels" in text
    assert text.count("_walk") == 1
    assert "12.00 us" in text
    assert table([_comparison(_row(20.0, 20.0))], every=True).count("_walk") == 1


def test_every_op_is_kept_as_csv(tmp_path):
    path = tmp_path / "ops.csv"
    write_csv([_comparison(_row(10.0, 10.0), _row(1.0, 1.0, position=1))], path)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["position"] for row in rows] == ["0", "1"]
    assert float(rows[0]["cupti_s"]) == pytest.approx(1e-5)


def _block():
    attention = Attention(heads=2, kv_heads=1, head_dim=16)
    return recipe("t", 32, "attention", {"attention": attention})


def test_a_quantity_that_fails_keeps_its_place_with_the_reason(tmp_path, monkeypatch):
    def good(bench):
        return [Quantity(name="copy", value=0.01, bar=0.03, unit="of a copy", how="by hand")]

    def bad(bench):
        raise RuntimeError("no counter\nhere")

    monkeypatch.setattr(accuracy, "QUANTITIES", {"copy": good, "energy": bad})
    said = []
    bench = Bench(blocks=(_block(),), folder=tmp_path / "out", memory_contexts=(512,))
    report = accuracy.run(bench, said.append)
    assert [one.value for one in report.quantities] == [0.01, None]
    assert report.quantities[1].reason == "RuntimeError: no counter here"
    assert "no counter" in (tmp_path / "out" / "energy.error.txt").read_text()
    written = msgspec.json.decode((tmp_path / "out" / "accuracy.json").read_bytes())
    assert {"name", "value", "bar", "unit", "how"} <= set(written["quantities"][0])
    assert len(said) == 2


def test_every_quantity_of_the_acceptance_is_there():
    assert list(accuracy.QUANTITIES) == [
        "memory", "spin", "copy", "between-processes", "sampler", "per-op", "energy"
    ]  # fmt: skip


def test_points_of_a_bench_are_layers_only():
    found = point(_block(), 1000, "decode")
    assert (found.context, found.phase, found.logits) == (1000, "decode", "none")


def test_an_overhead_is_told_with_the_interval_that_its_pairs_resolve():
    off = [1.0, 2.0] * 20
    on = [1.004 + 1e-4 * index for index in range(20) for _ in range(2)]
    on = [seconds * without for seconds, without in zip(on, off, strict=True)]
    signed, (low, high) = overhead(off, on)
    assert signed == pytest.approx(0.00495)
    assert 0.004 < low < signed < high < 0.0059
    assert overhead([1.0, 1.0], [1.07, 0.93])[1] == pytest.approx((-0.07, 0.07))
