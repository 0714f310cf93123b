"""Latent attention against the oracle, which expands every key and value."""

from __future__ import annotations

import make
import pytest
import torch
from ssmprof_kernels.reference import latent_attention_sequential
from ssmprof_kernels.rotary.reference import rotate
from torch import Tensor

from ssmprof.mixers.attention import rope
from ssmprof.mixers.mla.block import LatentBlock
from ssmprof.mixers.mla.shape import Latent
from ssmprof.models.build import build

PARTS = {
    "turned": Latent(heads=3, kv_lora_rank=20, qk_nope_head_dim=8, qk_rope_head_dim=6,
                     v_head_dim=10, q_lora_rank=28),
    "unturned": Latent(heads=2, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4,
                       v_head_dim=8, rope_theta=None),
}  # fmt: skip


def oracle(block: LatentBlock, x: Tensor) -> Tensor:
    part = block.part
    low = x if block.q_down is None else block.q_norm(block.q_down(x))
    q = block.q_proj(low).unflatten(-1, (part.heads, -1))
    row = block.kv_down(x)
    latents = block.kv_norm(row[..., : part.kv_lora_rank])
    shared = row[..., part.kv_lora_rank :]
    if block.turned is not None:
        cos, sin = rope.tables(block.turned, x.shape[1], x.device, x.dtype)
        own, turned = q.split((part.qk_nope_head_dim, part.qk_rope_head_dim), dim=-1)
        q = torch.cat([own, rotate(turned, cos, sin)], dim=-1)
        shared = rotate(shared[:, :, None], cos, sin)[:, :, 0]
    up = block.kv_up.weight.unflatten(0, (part.heads, -1))
    up_keys, up_values = up.split((part.qk_nope_head_dim, part.v_head_dim), dim=1)
    out = latent_attention_sequential(q, latents, shared, up_keys, up_values)
    return block.out_proj(out.flatten(2).float())


@torch.inference_mode()
@pytest.mark.parametrize("name", PARTS)
def test_prompt_and_step_equal_the_expanded_form(name: str):
    spec = make.block("latent", layers="mla", mla=PARTS[name])
    model = build(spec, "cpu", "float32", seed=1)
    block = next(module for module in model.modules() if isinstance(module, LatentBlock))
    x = torch.randn(2, 13, 64, generator=torch.Generator().manual_seed(2))
    expected = oracle(block, x)
    assert expected.std() > 0.01
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)
    cache = model.new_cache(2, 13)
    for token in range(13):
        step = block.step(x[:, token], cache.layers[0])
        torch.testing.assert_close(step, expected[:, token], rtol=1e-4, atol=1e-5)
        cache.advance()
