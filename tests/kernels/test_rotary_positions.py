"""Tokens of sequences that stand apart are turned and kept as each sequence's by itself."""

from __future__ import annotations

import pytest
import torch
from ssmprof_kernels.rotary.op import rotary
from ssmprof_kernels.rotary.reference import rotary as plain_rotary

TABLE = torch.arange(32.0)[:, None] * torch.tensor([1.0, 0.5, 0.1, 0.02])
COS, SIN = TABLE.cos(), TABLE.sin()


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("call", [rotary, plain_rotary])
def test_each_sequence_is_turned_at_its_own_position(call, turned: bool) -> None:
    at = torch.tensor([3, 0, 17], dtype=torch.int32)
    qkv = torch.randn(3, 1, 6, 8, generator=torch.Generator().manual_seed(0))
    tables = (COS, SIN) if turned else (None, None)
    k, v = torch.zeros(3, 20, 1, 8), torch.zeros(3, 20, 1, 8)
    q = call(qkv.clone(), *tables, k, v, 0, positions=at)
    for index, position in enumerate(at.tolist()):
        own = tuple(t[position : position + 1] if turned else None for t in (COS, SIN))
        one_k, one_v = torch.zeros(1, 20, 1, 8), torch.zeros(1, 20, 1, 8)
        one = call(qkv[index : index + 1].clone(), *own, one_k, one_v, position)
        torch.testing.assert_close(q[index : index + 1], one)
        torch.testing.assert_close(k[index : index + 1], one_k)
        torch.testing.assert_close(v[index : index + 1], one_v)


def test_positions_are_one_per_sequence() -> None:
    qkv, cache = torch.randn(2, 1, 6, 8), torch.zeros(2, 4, 1, 8)
    with pytest.raises(ValueError, match="positions must"):
        rotary(qkv, None, None, cache, cache, 0, positions=torch.zeros(3, dtype=torch.int32))
