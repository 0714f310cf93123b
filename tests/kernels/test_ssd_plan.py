"""How the Mamba-2 scan is cut: whole chunks, enough slots, no dependence on the raw length."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ssmprof_kernels import launch
from ssmprof_kernels.ssd import plan as ssd_plan

DEFAULTS = [
    ssd_plan.DEFAULT,
    ssd_plan.DEFAULT_PORTABLE,
    ssd_plan.DEFAULT_BLACKWELL,
    ssd_plan.DEFAULT_FP32,
]


@given(
    batch=st.integers(1, 8),
    length=st.integers(1, 70_000),
    heads=st.integers(1, 128),
    sm_count=st.sampled_from([1, 16, 132]),
    meta=st.sampled_from(DEFAULTS),
)
def test_segments_are_whole_chunks_that_cover_a_sequence(batch, length, heads, sm_count, meta):
    cut = ssd_plan.plan(batch, length, heads, 64, None, meta, sm_count)
    assert cut.T % meta["Q"] == 0
    assert (cut.S - 1) * cut.T < length <= cut.S * cut.T
    assert cut.slots == batch * cut.S
    assert (cut.segments == 0) == (cut.S == 1)


@given(
    lengths=st.lists(st.integers(0, 3000), min_size=1, max_size=40).filter(any),
    heads=st.integers(1, 128),
    meta=st.sampled_from(DEFAULTS),
)
def test_packed_sequences_never_share_a_slot(lengths, heads, meta):
    ends = [0, *itertools.accumulate(lengths)]
    cut = ssd_plan.plan(1, ends[-1], heads, 64, len(lengths), meta, 132)
    slots = [
        start // cut.T + i + segment
        for i, (start, length) in enumerate(zip(ends, lengths, strict=False))
        for segment in range(max(1, -(-length // cut.T)))
    ]
    assert len(set(slots)) == len(slots)
    assert max(slots) < cut.slots
    assert max(-(-n // cut.T) for n in lengths) <= max(1, cut.S)


def test_narrow_shapes_are_cut_and_wide_ones_are_not():
    narrow = ssd_plan.plan(1, 16_384, 24, 64, None, ssd_plan.DEFAULT, 132)
    wide = ssd_plan.plan(8, 16_384, 128, 64, None, ssd_plan.DEFAULT, 132)
    assert narrow.S > 4
    assert wide.S == 1


@pytest.mark.parametrize("size", [1, 16, 17, 64, 65, 256])
def test_a_tile_holds_its_size_and_fits_a_matrix_instruction(size):
    width = ssd_plan.tile(size)
    assert width >= max(16, size)
    assert width & (width - 1) == 0


def test_a_bucket_never_holds_the_raw_length():
    device = torch.device("cpu")
    choose = ssd_plan.choose
    launch.forget()
    one = choose((1, 5000, 24, 64), 128, torch.bfloat16, device)
    other = choose((1, 16_000, 24, 64), 128, torch.bfloat16, device)
    assert one.meta is other.meta
