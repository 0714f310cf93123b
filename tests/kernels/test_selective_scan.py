"""`selective_scan` against the recurrence in fp64, on Triton's interpreter.

The interpreter takes a scan element by element, so the shapes are small; the full matrix runs on a
GPU.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ssmprof_kernels import launch, reference
from ssmprof_kernels.selective_scan import op, plan
from ssmprof_kernels.selective_scan.op import selective_scan
from ssmprof_kernels.selective_scan.plan import bucket, default
from ssmprof_kernels.selective_scan.reference import walk

F32 = torch.float32


def case(
    batch: int = 1,
    length: int = 11,
    channels: int = 5,
    states: int = 4,
    groups: int | None = None,
    dtype: torch.dtype = F32,
    seed: int = 3,
) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    bc = (batch, length, states) if groups is None else (batch, length, groups, states)
    return {
        "u": rand(batch, length, channels).to(dtype),
        "dt": rand(batch, length, channels).to(dtype),
        "A": -torch.rand(channels, states, generator=g) * 4,
        "B": rand(*bc).to(dtype),
        "C": rand(*bc).to(dtype),
        "D": rand(channels),
        "z": rand(batch, length, channels).to(dtype),
        "dt_bias": rand(channels),
        "dt_softplus": True,
    }


def scan(given: dict[str, Any], **more: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return selective_scan(**{**given, **more, "return_final_state": True})  # type: ignore[return-value]


def oracle(given: dict[str, Any], **more: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return reference.selective_scan_sequential(**{**given, **more})


def tokens(given: dict[str, Any], lo: int, hi: int) -> dict[str, Any]:
    """The same problem over tokens lo to hi."""
    return {k: v[:, lo:hi] if k in ("u", "dt", "B", "C", "z") else v for k, v in given.items()}


def rms(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.double() - want).norm() / want.norm())


@pytest.mark.parametrize("length", [1, 7, 8, 9, 17])
def test_any_length_equals_the_recurrence(length: int) -> None:
    given = case(length=length)
    for got, want in zip(scan(given), oracle(given), strict=True):
        assert rms(got, want) < 1e-5


@pytest.mark.parametrize("states", [1, 3, 8, 16])
def test_any_state_size_equals_the_recurrence(states: int) -> None:
    given = case(states=states, channels=3)
    for got, want in zip(scan(given), oracle(given), strict=True):
        assert rms(got, want) < 1e-5


@pytest.mark.parametrize("left_out", ["D", "z", "dt_bias", "dt_softplus"])
def test_options_may_be_left_out(left_out: str) -> None:
    given = {**case(), left_out: False if left_out == "dt_softplus" else None}
    if left_out == "dt_softplus":
        given["dt"], given["dt_bias"] = given["dt"].abs() * 0.1, None
    for got, want in zip(scan(given), oracle(given), strict=True):
        assert rms(got, want) < 1e-5


@pytest.mark.parametrize("cut", [1, 5, 8, 10])
def test_two_resumed_calls_equal_one(cut: int) -> None:
    given = case()
    start = torch.randn(1, 5, 4)
    y, h = scan(given, initial_state=start)
    y1, h1 = scan(tokens(given, 0, cut), initial_state=start)
    y2, h2 = scan(tokens(given, cut, 11), initial_state=h1)
    torch.testing.assert_close(torch.cat([y1, y2], 1), y, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(h2, h, rtol=1e-6, atol=1e-6)


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks that cut even a few tokens into segments of four."""
    meta = {"BLOCK_T": 2, "LANES": 2, "AHEAD": 2, "num_warps": 1, "SEGMENTS": 3}
    monkeypatch.setattr(plan, "default", lambda states, fill: meta)
    monkeypatch.setattr(plan, "LEAST_SPAN", 1)
    monkeypatch.setattr(op, "_recordings", {})
    launch.forget()
    yield
    launch.forget()


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("length", [1, 4, 5, 8, 9, 11, 13])
def test_segments_equal_the_recurrence(length: int) -> None:
    given = case(batch=2, length=length, channels=6, groups=2)
    start = torch.randn(2, 6, 4)
    for more in ({}, {"initial_state": start}):
        for got, want in zip(scan(given, **more), oracle(given, **more), strict=True):
            assert rms(got, want) < 1e-5


@pytest.mark.usefixtures("cut")
def test_packed_sequences_are_not_cut() -> None:
    given = case(length=11)
    cu = torch.tensor([0, 9, 11], dtype=torch.int32)
    for got, want in zip(scan(given, cu_seqlens=cu), oracle(given, cu_seqlens=cu), strict=True):
        assert rms(got, want) < 1e-5


@pytest.mark.usefixtures("cut")
def test_a_nan_crosses_segments_in_its_channel_only() -> None:
    given = case(length=12)
    given["u"][0, 5, 2] = torch.nan
    y, h = scan(given)
    bad = torch.zeros_like(y, dtype=torch.bool)
    bad[0, 5:, 2] = True
    assert torch.equal(~y.isfinite(), bad)
    assert torch.equal(~h.isfinite().all(-1), bad[:, -1])


def test_packed_sequences_do_not_see_each_other() -> None:
    ends = [0, 0, 1, 8, 8, 11]
    given = case()
    start = torch.randn(5, 5, 4)
    cu = torch.tensor(ends, dtype=torch.int32)
    y, h = scan(given, initial_state=start, cu_seqlens=cu)
    for i, (lo, hi) in enumerate(itertools.pairwise(ends)):
        if lo == hi:
            assert torch.equal(h[i], start[i])
            continue
        alone = oracle(tokens(given, lo, hi), initial_state=start[i : i + 1])
        assert rms(y[:, lo:hi], alone[0]) < 1e-5
        assert rms(h[i : i + 1], alone[1]) < 1e-5


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_channels_read_their_group(groups: int) -> None:
    given = case(batch=2, channels=6, groups=groups, length=5)
    for got, want in zip(scan(given), oracle(given), strict=True):
        assert rms(got, want) < 1e-5


def test_channel_first_input_gives_channel_first_output() -> None:
    given = case(batch=2, length=9)
    for name in ("u", "dt", "z"):
        given[name] = given[name].transpose(1, 2).contiguous().transpose(1, 2)
    packed = torch.randn(2, 9, 11)
    given["B"], given["C"] = packed[..., 1:5], packed[..., 5:9]
    y, _ = scan(given)
    assert y.stride() == given["u"].stride()
    assert rms(y, oracle(given)[0]) < 1e-5


def test_half_precision_stays_within_its_rounding() -> None:
    given = case(dtype=torch.float16)
    y, h = scan(given)
    assert y.dtype == torch.float16
    assert h.dtype == F32
    want_y, want_h = oracle(given)
    assert rms(y, want_y) < 1e-3
    assert rms(h, want_h) < 1e-5


def test_the_final_state_comes_in_the_dtype_asked_for() -> None:
    for dtype in (F32, torch.float16):
        _, h = selective_scan(**case(length=2), return_final_state=dtype)
        assert h.dtype == dtype


@pytest.mark.parametrize("bias", [-12.0, -3.5, 25.0])
def test_small_and_large_step_sizes_keep_their_precision(bias: float) -> None:
    given = case(length=6)
    given["dt_bias"] = torch.full((5,), bias)
    given["D"] = None
    for got, want in zip(scan(given), oracle(given), strict=True):
        assert rms(got, want) < 1e-5


def test_a_step_of_zero_leaves_the_state_alone() -> None:
    given = {**case(), "dt_softplus": False, "dt_bias": None}
    given["dt"] = torch.zeros_like(given["dt"])
    start = torch.randn(1, 5, 4)
    assert torch.equal(scan(given, initial_state=start)[1], start)


@pytest.mark.parametrize("token", [0, 6, 9])
def test_a_nan_reaches_later_tokens_of_its_channel_and_nothing_else(token: int) -> None:
    given = case()
    given["u"][0, token, 2] = torch.nan
    y, h = scan(given)
    bad = torch.zeros_like(y, dtype=torch.bool)
    bad[0, token:, 2] = True
    assert torch.equal(~y.isfinite(), bad)
    assert torch.equal(~h.isfinite().all(-1), bad[:, -1])


def test_two_runs_are_bit_equal() -> None:
    given = case(length=9)
    for a, b in zip(scan(given), scan(given), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("rows", [2, 8, 32])
def test_rows_that_walk_side_by_side_end_as_one_walk_does(rows):
    g = torch.Generator().manual_seed(0)
    hs, decay = (torch.rand(32, 2, 3, 4, generator=g, dtype=torch.float64) for _ in range(2))
    h = torch.rand(2, 3, 4, generator=g, dtype=torch.float64)
    want, got = hs.clone(), hs.clone()
    last = walk(want[None], decay.clone()[None], h)
    same = walk(got.unflatten(0, (rows, -1)), decay.unflatten(0, (rows, -1)), h)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(same, last)


@pytest.mark.parametrize("varlen", [False, True])
def test_the_torch_form_equals_the_recurrence(
    varlen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["ssmprof_kernels.selective_scan.reference"]
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 96)
    given = case(batch=1 if varlen else 2, length=37, groups=5)
    cu = torch.tensor([0, 0, 5, 37], dtype=torch.int32) if varlen else None
    start = torch.randn(3 if varlen else 2, 5, 4)
    got = reference.selective_scan(
        **given, initial_state=start, cu_seqlens=cu, return_final_state=True
    )
    want = oracle(given, initial_state=start, cu_seqlens=cu)
    assert rms(got[0], want[0]) < 1e-6
    assert rms(got[1], want[1]) < 1e-6


WRONG: list[tuple[str, Any]] = [
    ("u", torch.randn(1, 11)),
    ("u", torch.randn(1, 0, 5)),
    ("dt", torch.randn(1, 11, 4)),
    ("A", torch.randn(5, 300)),
    ("A", torch.randn(4, 4)),
    ("B", torch.randn(1, 11, 2, 4)),
    ("B", torch.randn(1, 10, 4)),
    ("C", torch.randn(1, 11, 5)),
    ("C", torch.zeros(1, 11, 4, dtype=torch.int32)),
    ("D", torch.randn(5, 1)),
    ("z", torch.randn(1, 11, 6)),
    ("dt_bias", torch.randn(4)),
    ("initial_state", torch.randn(2, 5, 4)),
    ("cu_seqlens", torch.tensor([0, 11])),
    ("z", torch.empty(1, 11, 5, device="meta")),
]


@pytest.mark.parametrize(("name", "wrong"), WRONG)
def test_a_bad_argument_is_named(name: str, wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=rf"^{name} "):
        selective_scan(**{**case(), name: wrong})


def test_the_length_counts_where_channels_are_few() -> None:
    cpu = torch.device("cpu")
    assert bucket(1, 2048, 32, 16, 16, False, cpu) == "16b-n16-p1-4K"
    assert bucket(1, 2048, 32, 16, 16, True, cpu) == "16b-n16-rows-p1"
    assert bucket(8, 2048, 32, 16, 16, False, cpu) == "16b-n16-pmore"


def test_every_bucket_has_a_default_that_covers_the_states() -> None:
    cpu = torch.device("cpu")
    for states in (1, 3, 8, 16, 64, 128, 256):
        assert bucket(1, 5000, 64, states, 16, False, cpu).startswith("16b-n")
        for fill in launch.FILL_BUCKETS:
            meta = default(states, fill)
            lanes, regs = meta["LANES"], -(-states // meta["LANES"])
            assert lanes <= 32
            assert lanes * regs >= states
            assert regs <= 8
