"""Grouped products in Triton (interpreter here) and plain torch against fp64."""

from __future__ import annotations

import pytest
import torch
from agreement import check
from ssmprof_kernels import grouped_mm, reference


def inputs(rows, experts, outputs, width, dtype=torch.float32):
    g = torch.Generator().manual_seed(rows)
    return (
        torch.randn(rows, width, generator=g).to(dtype),
        torch.randn(experts, outputs, width, generator=g).to(dtype),
    )


def compare(rows, weight, ends):
    ends = torch.tensor(ends, dtype=torch.int32)
    want = reference.grouped_mm_sequential(rows, weight, ends)
    plain = reference.grouped_mm(rows, weight, ends)
    check("product", grouped_mm(rows, weight, ends), want, plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize(
    ("ends", "outputs", "width"),
    [
        ([1], 5, 7),
        ([0, 3, 3, 40], 20, 33),
        ([40, 40, 40, 40], 64, 64),
        ([0, 0, 0, 1], 70, 40),
        ([17, 18, 90], 130, 50),
    ],
)
def test_every_way_to_share_rows_agrees(ends, outputs, width, dtype):
    compare(*inputs(ends[-1], len(ends), outputs, width, dtype), ends)


def test_rows_behind_the_last_end_belong_to_nobody():
    rows, weight = inputs(50, 3, 20, 16)
    rows[41:] = float("nan")
    out = grouped_mm(rows, weight, torch.tensor([5, 5, 41], dtype=torch.int32))
    assert (out[41:] == 0).all()
    assert out[:41].isfinite().all()


@pytest.mark.parametrize("experts", [2, 8])
def test_many_rows_per_expert_take_larger_tiles(experts):
    rows, weight = inputs(150, experts, 12, 20)
    compare(rows, weight, [150 * (i + 1) // experts for i in range(experts)])


def test_a_row_depends_on_nothing_but_itself_and_its_expert():
    rows, weight = inputs(40, 2, 20, 16)
    whole = grouped_mm(rows, weight, torch.tensor([17, 40], dtype=torch.int32))
    alone = grouped_mm(rows[20:30], weight, torch.tensor([0, 10], dtype=torch.int32))
    # Not in bits here: the interpreter multiplies by numpy, whose order depends on the shape.
    torch.testing.assert_close(whole[20:30], alone, rtol=1e-6, atol=1e-6)


def test_strided_inputs_agree():
    rows, weight = inputs(30, 3, 20, 16)
    compare(rows.t().contiguous().t(), weight.transpose(1, 2).contiguous().transpose(1, 2),
            [3, 10, 30])  # fmt: skip


def test_no_rows_are_no_work():
    rows, weight = inputs(4, 2, 5, 6)
    out = grouped_mm(rows[:0], weight, torch.zeros(2, dtype=torch.int32))
    assert out.shape == (0, 5)


@pytest.mark.parametrize(
    ("rows", "ends", "message"),
    [
        (torch.zeros(4, 7), torch.zeros(2, dtype=torch.int32), "weight must have shape"),
        (torch.zeros(4, 6), torch.zeros(3, dtype=torch.int32), "ends must have shape"),
        (torch.zeros(4, 6), torch.zeros(2, dtype=torch.int64), "ends of shape .* must be int32"),
    ],
)
def test_a_wrong_argument_is_named(rows, ends, message):
    with pytest.raises(ValueError, match=message):
        grouped_mm(rows, torch.zeros(2, 5, 6), ends)
