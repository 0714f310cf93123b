"""Mixtures of experts: against the oracle, with every option of the router."""

from __future__ import annotations

from typing import Any

import make
import pytest
import torch
from ssmprof_kernels.reference import experts, moe_sequential
from torch import Tensor

from ssmprof.mixers.moe.block import ALPHA, MoeBlock
from ssmprof.mixers.moe.shape import Moe
from ssmprof.models.build import build

D, TOKENS = 24, 37
SIZES: dict[str, Any] = {"experts": 8, "experts_per_token": 3, "d_ff": 16}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "not-renormalised": {"renormalise": False, "scale": 2.5},
    "deepseek": {
        "score": "sigmoid", "selection_bias": True, "groups": 4, "top_groups": 2, "scale": 2.5,
    },
    "best-of-group": {"groups": 4, "top_groups": 2, "group_score": "best"},
    "groups-of-one": {"groups": 8, "top_groups": 5},
    "gpt-oss": {"bias": True, "router_bias": True, "clamp": 7.0},
    "relu2": {"act": "relu2", "score": "sigmoid"},
    "all-experts": {"experts_per_token": 8},
    "one-expert": {"experts": 1, "experts_per_token": 1},
}  # fmt: skip


def built(**options: Any) -> tuple[MoeBlock, Tensor]:
    part = Moe(**(SIZES | options))
    spec = make.block("experts", layers="moe", d_model=D, moe=part)
    model = build(spec, "cpu", "float32", seed=1)
    block = next(module for module in model.modules() if isinstance(module, MoeBlock))
    return block, torch.randn(TOKENS, D, generator=torch.Generator().manual_seed(2))


def activation(part: Moe):
    def swiglu(hidden: Tensor) -> Tensor:
        gate, value = hidden.chunk(2)
        return gate / (1 + torch.exp(-gate)) * value

    def clamped(hidden: Tensor) -> Tensor:
        gate, value = hidden.chunk(2)
        gate, value = gate.clamp(max=part.clamp), value.clamp(-part.clamp, part.clamp)
        return gate / (1 + torch.exp(-ALPHA * gate)) * (value + 1)

    if part.act == "relu2":
        return lambda hidden: hidden.clamp(min=0) ** 2
    return clamped if part.clamp else swiglu


def oracle(block: MoeBlock, part: Moe, x: Tensor) -> Tensor:
    router = block.router
    return moe_sequential(
        x, router.proj.weight, block.up, block.down, activation(part),
        k=part.experts_per_token, router_bias=router.proj.bias, score=part.score,
        selection_bias=router.selection_bias, groups=part.groups, top_groups=part.top_groups,
        best_of_group=1 if part.group_score == "best" else 2, renormalise=part.renormalise,
        scale=part.scale, up_bias=block.up_bias, down_bias=block.down_bias,
    )  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_equal_to_token_by_token_and_expert_by_expert(name: str):
    block, x = built(**OPTIONS[name])
    part = Moe(**(SIZES | OPTIONS[name]))
    expected = oracle(block, part, x)
    assert expected.std() > 0.01
    torch.testing.assert_close(block(x).double(), expected, rtol=1e-4, atol=1e-5)


def test_a_token_alone_is_sent_where_it_is_sent_among_others():
    block, x = built(**OPTIONS["deepseek"])
    alone = torch.cat([block(x[i : i + 1]) for i in range(TOKENS)])
    torch.testing.assert_close(alone, block(x))


def test_experts_read_and_write_the_latent_and_the_shared_one_the_stream():
    block, x = built(latent=12, shared_d_ff=20, shared_gate=True)
    part = Moe(**SIZES)
    assert block.latent_in is not None
    assert block.latent_out is not None
    assert block.shared is not None
    low = block.latent_in(x)
    sent = block.router(x)
    routed = torch.zeros_like(low, dtype=torch.float64)
    for token in range(TOKENS):
        for row, weight in zip(sent.rows[token], sent.weights[token], strict=True):
            expert = int(sent.expert[row])
            assert int(sent.token[row]) == token
            made = block.down[expert] @ activation(part)(block.up[expert] @ low[token])
            routed[token] += float(weight) * made.double()
    shared = block.shared
    assert shared.gate is not None
    share = torch.sigmoid(shared.gate(x))
    whole = block.latent_out(routed.float()) + share * shared.down(block.act(shared.up(x)))
    torch.testing.assert_close(block(x), whole, rtol=1e-4, atol=1e-5)


def test_rows_end_where_the_next_expert_begins():
    block, x = built()
    sent = block.router(x)
    counts = torch.bincount(sent.expert, minlength=8)
    assert torch.equal(sent.ends.long(), counts.cumsum(0))
    assert len(sent.expert) == 3 * TOKENS


def test_every_expert_on_all_rows_gives_what_each_on_its_own_gives():
    random = torch.Generator().manual_seed(4)
    rows, weight = (torch.randn(*shape, generator=random) for shape in ((20, 6), (5, 7, 6)))
    ends = torch.tensor([3, 3, 11, 20, 20], dtype=torch.int32)  # two experts without a row
    own = experts.grouped_mm(rows, weight, ends)
    torch.testing.assert_close(experts._masked(rows, weight, ends), own)
    torch.testing.assert_close(own[2:4], torch.stack([weight[0] @ rows[2], weight[2] @ rows[3]]))
