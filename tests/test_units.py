"""What people type and read: contexts, sizes, durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmprof import units


@pytest.mark.parametrize(
    ("text", "contexts"),
    [
        ("512-4K*2", (512, 1024, 2048, 4096)),
        ("512,1K,4K", (512, 1024, 4096)),
        ("1K-9K+2K", (1024, 3072, 5120, 7168, 9216)),
        ("4K, 512-1K*2", (512, 1024, 4096)),
        ("512-2K*1.4142135", (512, 724, 1024, 1448, 2048)),
        ("8191", (8191,)),
        ("3,000", (3000,)),
        ("9,300", (9300,)),
        ("512, 3,000, 24,000", (512, 3000, 24000)),
        ("512,3,000,24,000", (512, 3000, 24000)),
        ("4,352-4,480+64", (4352, 4416, 4480)),
        ("64,128", (64, 128)),
        ("1,128,256", (1, 128, 256)),
    ],
)
def test_context_ranges_are_read_as_written(text: str, contexts: tuple[int, ...]) -> None:
    assert units.parse_contexts(text) == contexts


@pytest.mark.parametrize("text", ["-512", "0", "4K-1K*2", "1K-4K*1", "12Q", "", "1.3K", "1K-4K*x"])
def test_context_ranges_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r'"'):
        units.parse_contexts(text)


@pytest.mark.parametrize(
    "text",
    [
        "1-1000000000+1", "1-1G*1.00001", "1-1024M*1.00001", "2G", "9" * 400, "1K" * 300, "٣",
        ",".join(str(at) for at in range(1, 10_002)),
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_contexts_beyond_reason_are_refused_at_once_and_in_few_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"more than|not a number") as caught:
        units.parse_contexts(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["0", "0.4B", "9" * 400, "2000000TiB", "1EiB", "٣GB"])
def test_sizes_beyond_reason_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        units.parse_bytes(text)


@pytest.mark.parametrize("text", ["0s", "9" * 400 + "h", "1e3s", "10000h", "-1s", "٣s"])
def test_durations_beyond_reason_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        units.parse_duration(text)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 1.7e308, -1.7e308])
def test_any_number_can_be_written(value: float) -> None:
    for write in (
        units.format_time, units.format_bytes, units.format_context, units.format_duration,
        units.format_ratio,
    ):  # fmt: skip
        assert write(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.2e-4, "320 µs"), (1.234, "1.23 s"), (0.01, "10.0 ms"), (5e-9, "5.00 ns"), (0, "0 ns")],
)
def test_times_carry_three_digits_and_a_unit(seconds: float, text: str) -> None:
    assert units.format_time(seconds) == text


@pytest.mark.parametrize(
    ("tokens", "text"),
    [(512, "512"), (8192, "8K"), (9300, "9,300"), (3000, "3,000"), (131072, "128K"), (2**20, "1M")],
)
def test_contexts_are_written_as_the_field_writes_them(tokens: int, text: str) -> None:
    assert units.format_context(tokens) == text


@given(st.integers(1, 2**30))
def test_a_written_context_is_read_again_as_the_same(tokens: int) -> None:
    assert units.parse_tokens(units.format_context(tokens)) == tokens


def test_a_zone_is_written_with_both_ends_or_as_its_one_number() -> None:
    assert units.format_zone(4352, 4480) == "4,352-4,480"
    assert units.format_zone(4352, 4480, 4400) == "4,400"
    assert units.format_zone(None, 4096) == "below 4K"
    assert units.format_zone(4096, None) == "above 4K"


@pytest.mark.parametrize(
    ("text", "size"), [("8GiB", 8 * 2**30), ("500MB", 500_000_000), ("7B", 7), ("1.5 KiB", 1536)]
)
def test_sizes(text: str, size: int) -> None:
    assert units.parse_bytes(text) == size


@pytest.mark.parametrize("parse", [units.parse_bytes, units.parse_duration])
def test_a_number_without_a_unit_is_refused_with_what_to_write(parse) -> None:
    with pytest.raises(ValueError, match=r"lacks a unit; write 8(GiB|s)"):
        parse("8")


def test_batches_are_always_parted_by_a_comma() -> None:
    assert units.parse_batches("1,128") == (1, 128)


@pytest.mark.parametrize(("text", "seconds"), [("20m", 1200.0), ("500ms", 0.5), ("1.5h", 5400.0)])
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds
    with pytest.raises(ValueError, match="is not a duration"):
        units.parse_duration(text + "x")


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5s"), (263, "4m 23s"), (3600, "1h 00m"), (59.6, "1m 00s")]
)
def test_long_durations(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(1.1, "1.10x"), (1.637, "1.64x"), (13.52, "13.5x"), (0.977, "0.977x")]
)
def test_ratios_keep_three_digits(ratio: float, text: str) -> None:
    assert units.format_ratio(ratio) == text
