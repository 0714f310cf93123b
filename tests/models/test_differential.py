"""Differential attention against its equations, head by head and token by token."""

from __future__ import annotations

import make
import torch
from torch import Tensor

from ssmprof.mixers.attention.block import AttentionBlock
from ssmprof.mixers.attention.differential import SHARE
from ssmprof.mixers.attention.shape import Attention
from ssmprof.models.build import build

PART = Attention(heads=8, kv_heads=4, head_dim=6, differential=True, rope_theta=None)


def oracle(block: AttentionBlock, x: Tensor) -> Tensor:
    """Equations 1 to 3 of arXiv:2410.05258, in float64; heads 2i and 2i + 1 are a pair."""
    qkv = block.qkv_proj(x).unflatten(-1, (-1, 6)).double()
    q, k, v = qkv[:, :, :8], qkv[:, :, 8:12], qkv[:, :, 12:]
    assert block.difference is not None
    q1, k1, q2, k2 = (vector.double() for vector in block.difference.vectors)
    share = torch.exp(torch.dot(q1, k1)) - torch.exp(torch.dot(q2, k2)) + SHARE
    out = torch.zeros(*x.shape[:2], 4, 12, dtype=torch.float64)
    for b in range(x.shape[0]):
        for pair in range(4):
            for t in range(x.shape[1]):
                values = torch.cat([v[b, : t + 1, pair // 2 * 2 + i] for i in range(2)], -1)
                maps = [
                    torch.softmax(
                        k[b, : t + 1, pair // 2 * 2 + i] @ q[b, t, 2 * pair + i] / 6**0.5, 0
                    )
                    for i in range(2)
                ]
                out[b, t, pair] = (maps[0] - share * maps[1]) @ values
    scale = (out.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
    return block.out_proj((out * scale * (1 - SHARE)).flatten(2).float())


@torch.inference_mode()
def test_prompt_and_steps_equal_the_equations():
    spec = make.block("attention", layers="attention", attention=PART)
    model = build(spec, "cpu", "float32", seed=1)
    block = next(module for module in model.modules() if isinstance(module, AttentionBlock))
    x = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(2))
    expected = oracle(block, x)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)
    cache = model.new_cache(2, 9)
    for token in range(9):
        step = block.step(x[:, token], cache.layers[0])
        torch.testing.assert_close(step, expected[:, token], rtol=1e-4, atol=1e-5)
        cache.advance()


@torch.inference_mode()
def test_norms_of_heads_have_weights_of_each():
    part = Attention(heads=2, kv_heads=1, head_dim=4, qk_norm="heads", rope_theta=None)
    model = build(make.block("attention", layers="attention", attention=part), "cpu", "float32")
    block = next(module for module in model.modules() if isinstance(module, AttentionBlock))
    assert block.q_norm is not None
    block.q_norm.copy_(torch.arange(1.0, 9.0))
    x = torch.randn(1, 3, 64, generator=torch.Generator().manual_seed(2))
    raw = block.qkv_proj(x)[..., :8].unflatten(-1, (2, 4))
    expected = raw / (raw.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    expected = expected * torch.arange(1.0, 9.0).view(2, 4)
    found, _ = block._project(x, None)
    torch.testing.assert_close(found[:, :, :2], expected)
