"""Attention sinks against a plain softmax over one more logit per head."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssmprof.mixers.attention.sdpa import attention_decode, attention_prefill

BATCH, HEADS, KV_HEADS, WIDTH, LENGTH = 2, 6, 2, 8, 19
# Sinks that take nothing, some and nearly all of the softmax.
SINKS = torch.tensor([-30.0, -1.0, 0.0, 0.5, 3.0, 30.0])


def plain(q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
    """q (B, Lq, Hq, dh) of the last Lq of Lk tokens, in float64, by one softmax."""
    q, k, v = (t.double() for t in (q, k, v))
    k, v = (t.repeat_interleave(HEADS // KV_HEADS, dim=2) for t in (k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / WIDTH**0.5
    query = torch.arange(k.shape[1] - q.shape[1], k.shape[1])[:, None]
    key = torch.arange(k.shape[1])[None]
    unseen = (key > query) | (key <= query - (window or k.shape[1]))
    scores = scores.masked_fill(unseen, float("-inf"))
    sink = SINKS.double().view(1, HEADS, 1, 1).expand(*scores.shape[:3], 1)
    shares = torch.cat([scores, sink], dim=-1).softmax(dim=-1)[..., :-1]
    return torch.einsum("bhqk,bkhd->bqhd", shares, v).float()


def inputs(queries: int) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(11)
    shapes = ((queries, HEADS), (LENGTH, KV_HEADS), (LENGTH, KV_HEADS))
    q, k, v = (torch.randn(BATCH, *shape, WIDTH, generator=random) for shape in shapes)
    return q, k, v


@pytest.mark.parametrize("window", [None, 1, 4, 30])
@pytest.mark.parametrize("queries", [LENGTH, 7, 1])
def test_a_sink_is_one_more_logit_of_every_row(queries: int, window: int | None):
    q, k, v = inputs(queries)
    found = attention_prefill(q, k, v, window=window, sinks=SINKS)
    torch.testing.assert_close(found, plain(q, k, v, window), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 12, LENGTH])
def test_a_decode_step_has_the_sink_of_its_row(rows: int):
    q, k, v = inputs(1)
    lengths = torch.full((BATCH,), rows, dtype=torch.int32)
    found = attention_decode(q[:, 0], k, v, lengths, rows, sinks=SINKS)
    wanted = plain(q, k[:, :rows], v[:, :rows], None)[:, 0]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
