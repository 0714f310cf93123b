"""Rates and step sizes at the ends of what a float holds: every form gives what the walk gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ssmprof_kernels import OPS, launch
from ssmprof_kernels.ssd import plan as ssd_plan

INF = float("inf")


def close(got: torch.Tensor, want: torch.Tensor, bound: float = 1e-5) -> None:
    assert want.isfinite().all()
    assert got.isfinite().all()
    assert ((got.double() - want).norm() / want.norm()).item() <= bound


def ssd(length: int = 96, seed: int = 0) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(1, length, 4, 16, generator=g),
        "dt": torch.rand(1, length, 4, generator=g) + 0.1,
        "A": torch.tensor([-1.0, -INF, -1e4, -3e38]),
        "B": torch.randn(1, length, 1, 16, generator=g),
        "C": torch.randn(1, length, 1, 16, generator=g),
    }


def scan(length: int) -> dict[str, Any]:
    g = torch.Generator().manual_seed(1)
    A = -torch.rand(5, 4, generator=g) - 0.1
    A[0], A[3, 2], A[4, 1] = -INF, -INF, -1e30
    return {
        "u": torch.randn(1, length, 5, generator=g),
        "dt": torch.rand(1, length, 5, generator=g) + 0.1,
        "A": A,
        "B": torch.randn(1, length, 4, generator=g),
        "C": torch.randn(1, length, 4, generator=g),
    }


@pytest.mark.parametrize("form", ["kernel", "plain"])
@pytest.mark.parametrize("count", [1, 3, 7])
@pytest.mark.parametrize("how", ["whole", "packed", "ids"])
def test_a_rate_of_minus_infinity_forgets_in_the_mamba2_scan(
    form: str, count: int, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for default in (ssd_plan.DEFAULT_PORTABLE, ssd_plan.DEFAULT_FP32):
        monkeypatch.setitem(default, "S", count)
    launch.forget()
    given = ssd()
    n = 3 if how == "packed" else 1
    more: dict[str, Any] = {"initial_state": torch.randn(n, 4, 16, 16)}
    if how == "packed":
        more["cu_seqlens"] = torch.tensor([0, 33, 33, 96], dtype=torch.int32)
    if how == "ids":
        more["seq_idx"] = (torch.arange(96) // 37).int()[None]
    y, h = getattr(OPS["ssd_scan"], form)(**given, **more, return_final_state=True)
    want, state = OPS["ssd_scan"].sequential(**given, **more)
    close(y, want)
    close(h, state)
    launch.forget()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_huge_decays_leave_the_digits_of_small_ones(dtype: torch.dtype) -> None:
    # Between steps of 60 that forget lie steps so small that their decays count.
    given = ssd(90)
    given["A"] = torch.tensor([-1.0, -1e4, -1e2, -1e8])
    given["dt"] = torch.where(torch.arange(90)[None, :, None] % 9 == 0, 60.0, 1e-5).expand(1, 90, 4)
    given = {n: t if n == "A" else t.to(dtype) for n, t in given.items()}
    want, state = OPS["ssd_scan"].sequential(**given)
    # Ten steps that forget are an exponent of -1,600, whose fp32 rounding is 6e-5.
    bound = 1e-4 if dtype == torch.float32 else 2e-3
    for form in (OPS["ssd_scan"].kernel, OPS["ssd_scan"].plain):
        y, h = form(**given, return_final_state=True)
        close(y, want, bound)
        close(h, state, bound)


def rounding(want: torch.Tensor) -> float:
    """Relative error of `want` in fp16, the least that a y of that dtype can have."""
    return ((want.half().double() - want).norm() / want.norm()).item()


@pytest.mark.parametrize(
    ("low", "high", "rate"),
    [(1e-7, 1e-6, 1.0), (1e-7, 1e-6, 1e4), (1e-3, 0.1, 1.0), (5.0, 60.0, 1.0)],
)
@pytest.mark.parametrize(
    ("how", "count", "fused", "start"),
    [
        ("whole", 1, 8, 0.0),
        ("whole", 3, 0, 300.0),
        ("whole", 3, 8, 0.0),
        ("packed", 3, 0, 300.0),
        ("ids", 3, 8, 300.0),
        ("clamped", 3, 8, 0.0),
    ],
)
def test_fp16_keeps_the_digits_of_any_step_size(
    low: float,
    high: float,
    rate: float,
    how: str,
    count: int,
    fused: int,
    start: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("S", count), ("fused", fused)):
        monkeypatch.setitem(ssd_plan.DEFAULT, name, value)
        monkeypatch.setitem(ssd_plan.DEFAULT_PORTABLE, name, value)
    launch.forget()
    g = torch.Generator().manual_seed(2)
    given = ssd(150)
    given["A"] = torch.tensor([-0.5, -1.0, -1.5, -0.7]) * rate
    given["dt"] = torch.rand(1, 150, 4, generator=g) * (high - low) + low
    given = {n: t if n == "A" else t.half() for n, t in given.items()}
    if high > 10:
        given["x"] = given["x"] * 0.1  # within the range of fp16
    more: dict[str, Any] = {}
    if how == "packed":
        more["cu_seqlens"] = torch.tensor([0, 33, 33, 150], dtype=torch.int32)
    if how == "ids":
        more["seq_idx"] = (torch.arange(150) // 67).int()[None]
    if how == "clamped":  # keeps the step sizes apart from the exponents
        more["dt_limit"] = (-1.0, 100.0)
    if start:
        n = 3 if how == "packed" else 1
        more["initial_state"] = torch.randn(n, 4, 16, 16, generator=g) * start
    y, h = OPS["ssd_scan"].kernel(**given, **more, return_final_state=True)
    want, state = OPS["ssd_scan"].sequential(**given, **more)
    close(y, want, 1.2 * rounding(want) + 5e-4)
    close(h, state, 5e-4)
    launch.forget()


def test_fp16_forgets_the_steps_of_a_document_that_are_no_numbers() -> None:
    given = {n: t if n == "A" else t.half() for n, t in ssd(128).items()}
    given["A"] = torch.tensor([-0.5, -1.0, -1.5, -0.7])
    given["dt"] = given["dt"] * 1e-6
    ids = (torch.arange(128) >= 40).int()[None]
    want, state = OPS["ssd_scan"].sequential(**given, seq_idx=ids)
    for odd in (torch.nan, torch.inf):
        given["dt"][:, 5:9] = odd
        y, h = OPS["ssd_scan"].kernel(**given, seq_idx=ids, return_final_state=True)
        close(y[:, 40:], want[:, 40:], 1.2 * rounding(want[:, 40:]) + 5e-4)
        close(h, state, 5e-4)


@pytest.mark.parametrize("form", ["kernel", "plain"])
@pytest.mark.parametrize("length", [1, 7, 11, 16])
@pytest.mark.parametrize("packed", [False, True])
def test_a_rate_of_minus_infinity_forgets_in_the_selective_scan(
    form: str, length: int, packed: bool
) -> None:
    given = scan(length)
    start = torch.randn(2 if packed else 1, 5, 4)
    more: dict[str, Any] = {"initial_state": start}
    if packed:
        more["cu_seqlens"] = torch.tensor([0, length // 2, length], dtype=torch.int32)
    y, h = getattr(OPS["selective_scan"], form)(**given, **more, return_final_state=True)
    want, state = OPS["selective_scan"].sequential(**given, **more)
    close(y, want)
    close(h, state)


@pytest.mark.parametrize("form", ["kernel", "plain"])
def test_a_rate_of_minus_infinity_forgets_in_a_step(form: str) -> None:
    given = scan(1)
    step = {n: t[:, 0] if n != "A" else t for n, t in given.items()}
    step["x"] = step.pop("u")
    before = torch.randn(1, 5, 4)
    state = before.clone()
    y = getattr(OPS["selective_state_update"], form)(state, **step)
    want, new = OPS["selective_state_update"].sequential(before, **step)
    close(y, want)
    close(state, new)
    heads = {n: torch.randn(2, 3, 8) for n in ("x", "z")}
    heads |= {"dt": torch.rand(2, 3) + 0.1, "A": torch.tensor([-INF, -1.0, -INF])}
    heads |= {n: torch.randn(2, 1, 16) for n in ("B", "C")}
    before = torch.randn(2, 3, 8, 16)
    state = before.clone()
    y = getattr(OPS["selective_state_update"], form)(state, **heads)
    want, new = OPS["selective_state_update"].sequential(before, **heads)
    close(y, want)
    close(state, new)


@pytest.mark.parametrize("form", ["kernel", "plain"])
def test_a_step_of_0_is_no_step_whatever_the_rate(form: str) -> None:
    given = ssd(40)
    given["dt"] = torch.zeros_like(given["dt"])
    start = torch.randn(1, 4, 16, 16)
    _, h = getattr(OPS["ssd_scan"], form)(**given, initial_state=start, return_final_state=True)
    assert torch.equal(h, start)
    given = scan(11)
    given["dt"] = torch.zeros_like(given["dt"])
    start = torch.randn(1, 5, 4)
    _, h = getattr(OPS["selective_scan"], form)(
        **given, initial_state=start, return_final_state=True
    )
    assert torch.equal(h, start)
    state = start.clone()
    step = {n: t[:, 0] for n, t in given.items() if n not in ("A", "u")}
    getattr(OPS["selective_state_update"], form)(state, given["u"][:, 0], A=given["A"], **step)
    assert torch.equal(state, start)


@pytest.mark.parametrize("op", ["ssd_scan", "selective_scan"])
def test_a_rate_that_is_not_a_number_stays_one(op: str) -> None:
    given = ssd(40) if op == "ssd_scan" else scan(11)
    given["A"] = given["A"].clamp(min=-2.0)
    given["A"].view(-1)[1] = torch.nan
    want, _ = OPS[op].sequential(**given)
    for form in (OPS[op].kernel, OPS[op].plain):
        assert torch.equal(form(**given).isnan(), want.isnan())
    assert want.isnan().any()
