"""`ssd_scan` against the recurrence in fp64: tails, segments, packing, options, bad input."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from agreement import check
from ssmprof_kernels import launch
from ssmprof_kernels.reference import ssd_scan as reference_scan
from ssmprof_kernels.reference import ssd_scan_sequential
from ssmprof_kernels.ssd import plan as ssd_plan
from ssmprof_kernels.ssd.op import ssd_scan

torch.set_num_threads(1)

#: (B, L, H, P, G, N): tails, odd widths, groups, states that fill no tile.
SHAPES = [
    (1, 1, 2, 32, 1, 16),
    (2, 65, 4, 19, 2, 8),
    (1, 127, 2, 64, 1, 128),
    (1, 129, 2, 128, 2, 16),
    (1, 64, 3, 32, 1, 256),
]
LIMIT = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 8e-3}


def inputs(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    batch, length, heads, width, groups, states = shape
    return {
        "x": torch.randn(batch, length, heads, width, generator=g).to(dtype),
        "dt": (torch.randn(batch, length, heads, generator=g) - 2).to(dtype),
        "A": -torch.rand(heads, generator=g) * 8 - 0.05,
        "B": torch.randn(batch, length, groups, states, generator=g).to(dtype),
        "C": torch.randn(batch, length, groups, states, generator=g).to(dtype),
    }


def options(shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, Any]:
    g = torch.Generator().manual_seed(1)
    batch, length, heads, width, _, states = shape
    return {
        "D": torch.randn(heads, generator=g),
        "z": torch.randn(batch, length, heads, width, generator=g).to(dtype),
        "dt_bias": torch.randn(heads, generator=g),
        "dt_softplus": True,
        "initial_state": torch.randn(batch, heads, width, states, generator=g),
    }


def rms(given: torch.Tensor, wanted: torch.Tensor) -> float:
    error = (given.double() - wanted.double()).pow(2).mean().sqrt()
    return float(error / wanted.double().pow(2).mean().sqrt())


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Force the number of segments, which the time model would choose."""

    def force(count: int) -> None:
        for default in (ssd_plan.DEFAULT_PORTABLE, ssd_plan.DEFAULT_FP32):
            monkeypatch.setitem(default, "S", count)
        launch.forget()

    yield force
    launch.forget()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", LIMIT)
def test_it_follows_the_recurrence(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    a, kw = inputs(shape, dtype), options(shape, dtype)
    y, h = ssd_scan(**a, **kw, return_final_state=True)
    oracle, state = ssd_scan_sequential(**a, **kw)
    assert y.dtype == dtype
    assert h.dtype == torch.float32
    assert rms(y, oracle) <= LIMIT[dtype]
    assert rms(h, state) <= LIMIT[dtype]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_number_of_segments_does_not_matter(count: int, cut: Any) -> None:
    shape = (2, 203, 2, 32, 1, 16)
    a, kw = inputs(shape, torch.float32), options(shape, torch.float32)
    cut(count)
    y, h = ssd_scan(**a, **kw, return_final_state=True)
    oracle, state = ssd_scan_sequential(**a, **kw)
    assert rms(y, oracle) <= 1e-5
    assert rms(h, state) <= 1e-5


@pytest.mark.parametrize("first", [1, 31, 32, 65])
def test_a_resumed_scan_equals_one_scan(first: int) -> None:
    a = inputs((1, 100, 2, 32, 1, 16), torch.float32)
    whole, end = ssd_scan(**a, return_final_state=True)
    head = {k: v if k == "A" else v[:, :first] for k, v in a.items()}
    tail = {k: v if k == "A" else v[:, first:] for k, v in a.items()}
    y1, h1 = ssd_scan(**head, return_final_state=True)
    y2, h2 = ssd_scan(**tail, initial_state=h1, return_final_state=True)
    assert rms(torch.cat([y1, y2], 1), whole) <= 1e-5
    assert rms(h2, end) <= 1e-5


@pytest.mark.parametrize(("lengths", "count"), [([0, 0, 16], 1), ([40, 1, 0, 71], 3), ([5] * 9, 2)])
def test_packed_sequences_do_not_see_each_other(lengths: list[int], count: int, cut: Any) -> None:
    shape = (1, sum(lengths), 2, 32, 1, 16)
    a, kw = inputs(shape, torch.float32), options(shape, torch.float32)
    kw["initial_state"] = torch.randn(len(lengths), 2, 32, 16)
    ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
    cut(count)
    y, h = ssd_scan(**a, **kw, cu_seqlens=ends, return_final_state=True)
    oracle, state = ssd_scan_sequential(**a, **kw, cu_seqlens=ends)
    assert rms(y, oracle) <= 1e-5
    assert rms(h, state) <= 1e-5


@pytest.mark.parametrize("count", [1, 3])
def test_a_change_of_sequence_id_forgets_the_state(count: int, cut: Any) -> None:
    a = inputs((2, 150, 2, 32, 1, 16), torch.float32)
    kw: dict[str, Any] = {"initial_state": torch.randn(2, 2, 32, 16)}
    ids = torch.zeros(2, 150, dtype=torch.int32)
    ids[0, 40:] = 1
    ids[0, 70:] = 0
    ids[1, 149:] = 5
    cut(count)
    y, h = ssd_scan(**a, **kw, seq_idx=ids, return_final_state=True)
    oracle, state = ssd_scan_sequential(**a, **kw, seq_idx=ids)
    assert rms(y, oracle) <= 1e-5
    assert rms(h, state) <= 1e-5


@pytest.mark.parametrize("strength", [0.0, 1e-4, 50.0])
def test_weak_and_strong_decays_stay_exact(strength: float) -> None:
    a = inputs((1, 100, 2, 32, 1, 16), torch.float32)
    a["A"] = torch.full((2,), -strength)
    a["dt"] = a["dt"].abs() * (torch.arange(100) % 3 > 0)[None, :, None]
    y, h = ssd_scan(**a, return_final_state=True)
    oracle, state = ssd_scan_sequential(**a)
    assert rms(y, oracle) <= 1e-5
    assert rms(h, state) <= 1e-5


@pytest.mark.parametrize("packed", [None, "cu_seqlens", "seq_idx"])
@pytest.mark.parametrize(("count", "fused", "rows"), [(1, 8, 1), (2, 8, 1), (2, 8, 2), (2, 0, 2)])
def test_a_short_way_keeps_its_digits_behind_a_long_one(
    packed: str | None, count: int, fused: int, rows: int, cut: Any, monkeypatch: Any
) -> None:
    # Running sums of hundreds in each chunk, and steps that decay nearly nothing at its ends.
    monkeypatch.setitem(ssd_plan.DEFAULT_FP32, "fused", fused)
    monkeypatch.setitem(ssd_plan.DEFAULT_FP32, "sum_chunks", rows)
    a = inputs((1, 128, 2, 32, 1, 16), torch.float32)
    a["A"] = torch.tensor([-50.0, -35.0])
    long = ((torch.arange(128) + 8) % 32 >= 16)[None, :, None]
    a["dt"] = torch.where(long, 0.2, 0.001) * a["dt"].abs()
    kw: dict[str, Any] = {}
    if packed == "cu_seqlens":
        kw["cu_seqlens"] = torch.tensor([0, 30, 30, 128], dtype=torch.int32)
    if packed == "seq_idx":
        kw["seq_idx"] = (torch.arange(128) // 50).to(torch.int32)[None]
    cut(count)
    y, h = ssd_scan(**a, **kw, return_final_state=True)
    oracle, state = ssd_scan_sequential(**a, **kw)
    check("y", y, oracle, oracle, matrix_ulps=8)
    check("state", h, state, state, matrix_ulps=8)


@pytest.mark.parametrize("limit", [(0.1, 0.5), (-1.0, 0.2)])
def test_step_sizes_stay_within_their_limits(limit: tuple[float, float]) -> None:
    a = inputs((1, 70, 2, 32, 1, 16), torch.float32)
    a["A"] = a["A"] / 100  # negative step sizes make the state grow
    y, h = ssd_scan(**a, dt_limit=limit, return_final_state=True)
    oracle, state = ssd_scan_sequential(**a, dt_limit=limit)
    assert rms(y, oracle) <= 1e-5
    assert rms(h, state) <= 1e-5


def test_any_stride_gives_the_same_numbers() -> None:
    a = inputs((2, 70, 4, 32, 2, 16), torch.float32)
    wanted = ssd_scan(**a)
    strange = dict(a)
    strange["x"] = a["x"].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    strange["B"] = torch.cat([a["B"], a["B"]], -1)[..., :16]
    strange["dt"] = a["dt"].transpose(1, 2).contiguous().transpose(1, 2)
    assert not strange["x"].is_contiguous()
    assert torch.equal(ssd_scan(**strange), wanted)


@pytest.mark.parametrize(
    ("name", "value", "count"),
    [
        ("x", math.nan, 1),
        ("x", math.inf, 3),
        ("B", math.nan, 1),
        ("C", math.inf, 1),
        ("dt", math.nan, 3),
        ("z", math.nan, 1),
    ],
)
def test_what_is_not_finite_reaches_later_tokens_only(
    name: str, value: float, count: int, cut: Any
) -> None:
    shape = (2, 70, 2, 16, 1, 16)
    a, kw = inputs(shape, torch.float32), options(shape, torch.float32)
    kw["D"] = torch.randn(2, 16)
    where = {**a, **kw}[name]
    where[1, 40, 0, ...] = value
    cut(count)
    y, h = ssd_scan(**a, **kw, return_final_state=True)
    oracle, state = ssd_scan_sequential(**a, **kw)
    assert torch.equal(y.isfinite(), oracle.isfinite())
    assert torch.equal(h.isfinite(), state.isfinite())
    fine = oracle.isfinite()
    assert rms(y[fine], oracle[fine]) <= 1e-5
    by_reference = reference_scan(**a, **kw)
    assert isinstance(by_reference, torch.Tensor)
    assert torch.equal(by_reference.isfinite(), fine)


@pytest.mark.parametrize("packed", [False, True])
def test_nothing_leaks_into_a_neighbour(packed: bool) -> None:
    a = inputs((1, 60, 2, 32, 1, 16), torch.float32)
    a["x"][0, 30:, 1, 3] = float("nan")
    ids = (torch.arange(60) >= 30).to(torch.int32)[None]
    ends = torch.tensor([0, 30, 60], dtype=torch.int32)
    kw: dict[str, Any] = {"cu_seqlens": ends} if packed else {"seq_idx": ids}
    y = ssd_scan(**a, **kw)
    oracle, _ = ssd_scan_sequential(**a, **kw)
    assert isinstance(y, torch.Tensor)
    assert torch.equal(y.isfinite(), oracle.isfinite())
    assert rms(y[:, :30], oracle[:, :30]) <= 1e-5


@pytest.mark.parametrize("columns", [False, True])
def test_the_skip_takes_one_or_a_row_per_head(columns: bool) -> None:
    a = inputs((1, 40, 2, 32, 1, 16), torch.float32)
    D = torch.randn(2, 32) if columns else torch.randn(2)
    oracle, _ = ssd_scan_sequential(**a, D=D)
    assert rms(ssd_scan(**a, D=D), oracle) <= 1e-5


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("packed", [False, True])
def test_the_reference_follows_the_recurrence(length: int, packed: bool) -> None:
    shape = (1, length, 4, 19, 2, 8)
    a, kw = inputs(shape, torch.float32), options(shape, torch.float32)
    ends = torch.tensor([0, length // 2, length], dtype=torch.int32) if packed else None
    kw["initial_state"] = torch.randn(2 if packed else 1, 4, 19, 8)
    kw["seq_idx"] = (torch.arange(length) // 50).to(torch.int32)[None]
    y, h = reference_scan(**a, **kw, cu_seqlens=ends, return_final_state=True)
    oracle, state = ssd_scan_sequential(**a, **kw, cu_seqlens=ends)
    assert rms(y, oracle) <= 1e-5
    assert rms(h, state) <= 1e-5


BAD = {
    "x": torch.zeros(1, 8, 2),
    "dt": torch.zeros(1, 8, 3),
    "A": torch.zeros(3),
    "B": torch.zeros(1, 9, 1, 16),
    "C": torch.zeros(1, 8, 1, 15),
    "D": torch.zeros(5),
    "z": torch.zeros(1, 8, 2, 31),
    "dt_bias": torch.zeros(1),
    "initial_state": torch.zeros(1, 2, 16, 32),
    "cu_seqlens": torch.zeros(3, dtype=torch.int64),
    "seq_idx": torch.zeros(2, 8, dtype=torch.int32),
}


@pytest.mark.parametrize("name", BAD)
def test_an_argument_that_does_not_fit_is_named(name: str) -> None:
    a: dict[str, Any] = {**inputs((1, 8, 2, 32, 1, 16), torch.float32), name: BAD[name]}
    with pytest.raises(ValueError, match=rf"ssd_scan: {name} .*got"):
        ssd_scan(**a)
