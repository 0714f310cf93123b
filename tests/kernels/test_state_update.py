"""`selective_state_update` against the recurrence in fp64, on Triton's interpreter."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from ssmprof_kernels import reference
from ssmprof_kernels.state_update.op import selective_state_update
from ssmprof_kernels.state_update.plan import bucket, default

F32 = torch.float32


def heads_case(
    batch: int = 2, heads: int = 4, width: int = 19, states: int = 16, groups: int = 2, **more: Any
) -> dict[str, Any]:
    """Mamba-2: one decay per head, by stride 0."""
    g = torch.Generator().manual_seed(5)

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g).to(more.get("dtype", F32))

    return {
        "state": rand(batch, heads, width, states).to(more.get("state_dtype", F32)),
        "x": rand(batch, heads, width),
        "dt": rand(batch, heads),
        "A": -torch.rand(heads, generator=g) * 4,
        "B": rand(batch, groups, states),
        "C": rand(batch, groups, states),
        "D": torch.randn(heads, generator=g),
        "z": rand(batch, heads, width),
        "dt_bias": torch.randn(heads, generator=g),
        "dt_softplus": True,
    }


def channels_case(batch: int = 2, channels: int = 21, states: int = 16) -> dict[str, Any]:
    """Mamba-1: a decay for every channel and state."""
    g = torch.Generator().manual_seed(6)

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    return {
        "state": rand(batch, channels, states),
        "x": rand(batch, channels),
        "dt": rand(batch, channels),
        "A": -torch.rand(channels, states, generator=g) * 4,
        "B": rand(batch, states),
        "C": rand(batch, states),
        "D": rand(channels),
        "z": rand(batch, channels),
        "dt_bias": rand(channels),
        "dt_softplus": True,
    }


def oracle(case: dict[str, Any], **more: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return reference.selective_state_update_sequential(**{**case, **more})


def step(case: dict[str, Any], **more: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """y and the new state; the case keeps its state."""
    state = case["state"].clone()
    return selective_state_update(**{**case, **more, "state": state}), state


def rms(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b).norm() / b.norm())


@pytest.mark.parametrize("states", [8, 16, 128, 20])
@pytest.mark.parametrize("case", [heads_case, channels_case])
def test_a_step_equals_the_recurrence(case: Any, states: int) -> None:
    given = case(states=states)
    for got, want in zip(step(given), oracle(given), strict=True):
        assert rms(got, want) < 1e-5


@pytest.mark.parametrize("case", [heads_case, channels_case])
def test_the_torch_form_equals_the_recurrence(case: Any) -> None:
    given = case()
    state = given["state"].clone()
    y = reference.selective_state_update(**{**given, "state": state})
    want_y, want_state = oracle(given)
    assert rms(y, want_y) < 1e-6
    assert rms(state, want_state) < 1e-6


@pytest.mark.parametrize("left_out", ["D", "z", "dt_bias", "dt_softplus"])
def test_options_may_be_left_out(left_out: str) -> None:
    given = {**heads_case(), left_out: False if left_out == "dt_softplus" else None}
    for got, want in zip(step(given), oracle(given), strict=True):
        assert rms(got, want) < 1e-5


def test_one_decay_per_head_and_full_tensors_give_the_same() -> None:
    given = heads_case()
    full = dict(given)
    heads, width, states = given["state"].shape[1:]
    full["A"] = given["A"][:, None, None].expand(heads, width, states).contiguous()
    full["dt"] = given["dt"][..., None].expand(-1, -1, width).contiguous()
    for name in ("D", "dt_bias"):
        full[name] = given[name][:, None].expand(heads, width).contiguous()
    for a, b in zip(step(given), step(full), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_head_h_reads_its_group(groups: int) -> None:
    given = heads_case(groups=groups)
    assert rms(step(given)[0], oracle(given)[0]) < 1e-5


def test_channels_may_have_groups() -> None:
    given = channels_case(channels=24)
    g = torch.Generator().manual_seed(1)
    given["B"], given["C"] = torch.randn(2, 2, 3, 16, generator=g)
    for got, want in zip(step(given), oracle(given), strict=True):
        assert rms(got, want) < 1e-5


def test_slots_are_gathered_padding_is_skipped_and_other_slots_stay_bit_equal() -> None:
    given = heads_case(batch=4)
    given["state"] = torch.randn(7, *given["state"].shape[1:])
    indices = torch.tensor([5, -1, 2, -1], dtype=torch.int32)
    y, state = step(given, state_indices=indices)
    want_y, want_state = oracle(given, state_indices=indices)
    assert rms(y, want_y) < 1e-5
    assert rms(state, want_state) < 1e-5
    assert not y[[1, 3]].any()
    untouched = [0, 1, 3, 4, 6]
    assert torch.equal(state[untouched], given["state"][untouched])


@pytest.mark.parametrize("case", [heads_case, channels_case])
def test_a_call_that_may_overlap_gives_the_same_bits(case: Any) -> None:
    given = case()
    for a, b in zip(step(given, overlap=True), step(given), strict=True):
        assert torch.equal(a, b)
    state = given["state"].clone()
    y = reference.selective_state_update(**{**given, "state": state}, overlap=True)
    assert rms(y, oracle(given)[0]) < 1e-6


def test_skipped_rows_of_a_given_output_keep_what_they_hold() -> None:
    given = heads_case(batch=2)
    out = torch.full_like(given["x"], 7.0)
    indices = torch.tensor([-2, 0], dtype=torch.int32)
    y, _ = step(given, state_indices=indices, pad_index=-2, out=out)
    assert y is out
    assert torch.equal(out[0], torch.full_like(out[0], 7.0))
    assert not torch.equal(out[1], torch.full_like(out[1], 7.0))


@pytest.mark.parametrize(("dtype", "state_dtype"), [(torch.float16, torch.float16),
                                                    (torch.float16, F32)])  # fmt: skip
def test_half_precision_stays_within_its_rounding(
    dtype: torch.dtype, state_dtype: torch.dtype
) -> None:
    given = heads_case(dtype=dtype, state_dtype=state_dtype)
    y, state = step(given)
    want_y, want_state = oracle(given)
    assert y.dtype == dtype
    assert state.dtype == state_dtype
    assert rms(y, want_y) < 1e-3
    assert rms(state, want_state) < 1e-3


def test_any_strides_are_accepted() -> None:
    given = heads_case()
    wide = torch.randn(2, 4, 19, 40)
    given["state"] = wide[..., 3:35:2]
    given["x"] = given["x"].transpose(1, 2).contiguous().transpose(1, 2)
    packed = torch.randn(2, 64)
    given["B"] = packed[:, :32].unflatten(1, (2, 16))
    given["C"] = packed[:, 32:].unflatten(1, (2, 16))
    want_y, want_state = oracle(given)
    y = selective_state_update(**given)
    assert rms(y, want_y) < 1e-5
    assert rms(wide[..., 3:35:2], want_state) < 1e-5


def test_large_and_small_step_sizes_keep_their_precision() -> None:
    given = heads_case(width=8)
    given["dt_bias"] = torch.tensor([-12.0, -4.0, 5.0, 60.0])
    for got, want in zip(step(given), oracle(given), strict=True):
        for head in range(4):
            assert rms(got[:, head], want[:, head]) < 1e-5


def test_a_nan_stays_in_its_row_and_head() -> None:
    given = heads_case()
    given["x"][1, 2, 3] = torch.nan
    y, state = step(given)
    bad = torch.zeros_like(y, dtype=torch.bool)
    bad[1, 2, 3] = True
    assert torch.equal(~y.isfinite(), bad)
    assert torch.equal(~state.isfinite().all(-1), bad)


WRONG: list[tuple[str, Any]] = [
    ("x", lambda c: torch.randn(2, 4, 18)),
    ("dt", lambda c: torch.randn(2, 5)),
    ("A", lambda c: torch.randn(4, 19, 15)),
    ("B", lambda c: torch.randn(2, 3, 16)),
    ("C", lambda c: torch.randn(2, 2, 15)),
    ("D", lambda c: torch.randn(3)),
    ("z", lambda c: torch.randn(1, 4, 19)),
    ("dt_bias", lambda c: torch.randn(4, 18)),
    ("state", lambda c: torch.randn(1, 4, 19, 16)),
    ("state", lambda c: torch.zeros(2, 4, 19, 16, dtype=torch.int64)),
    ("state_indices", lambda c: torch.zeros(2, dtype=torch.int64)),
    ("out", lambda c: torch.empty(2, 4, 19, device="meta")),
]


@pytest.mark.parametrize(("name", "make"), WRONG)
def test_a_bad_argument_is_named(name: str, make: Any) -> None:
    case = heads_case()
    with pytest.raises(ValueError, match=rf"^{name} "):
        selective_state_update(**{**case, name: make(case)})


def test_every_bucket_has_a_default_that_fits_registers() -> None:
    for states, rows, bits, tied in itertools.product(
        (1, 8, 16, 64, 128, 256), (1, 8193, 65537), (16, 32), (True, False)
    ):
        assert bucket(rows, states, bits, tied)
        assert 1 <= default(states)["BLOCK_P"] * states <= 8192
