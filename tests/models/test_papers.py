"""Whole mixers against their papers, one token after the other, in plain float64.

Where transformers has the model, `test_logits` compares more; these have no model there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import make
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssmprof.mixers.delta.shape import Kda
from ssmprof.mixers.part import Part
from ssmprof.mixers.rwkv7.shape import Rwkv7
from ssmprof.models.build import build
from ssmprof.models.build.model import Model

B, L, D = 2, 70, 64
RANKS = {"heads": 4, "head_dim": 16, "decay_rank": 8, "step_rank": 6, "gate_rank": 10}


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def mixers(layers: str, **parts: Part) -> tuple[Model, list[nn.Module]]:
    """Layers without vocabulary, and their sub-layers, of whose weights none is one or zero."""
    model = build(make.block("paper", layers=layers, **parts), "cpu", "float32", seed=5)
    assert isinstance(model, Model)
    generator = torch.Generator().manual_seed(11)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return model, [layer.parts[0] for layer in model.stack.layers]


def weights(module: nn.Module) -> Callable[[str], Tensor]:
    """Its parameters in float64, by name."""
    found = dict(module.named_parameters())
    return lambda name: found[name].double()


def inputs() -> Tensor:
    return torch.randn(B, L, D, generator=torch.Generator().manual_seed(3))


def of_head(x: Tensor, eps: float) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def close(found: Tensor, expected: Tensor) -> None:
    error = (found.double() - expected).abs().max() / expected.abs().max()
    assert error < 1e-5
    assert expected.std() > 1e-2


def test_gla_is_equation_3_and_section_4_4_of_its_paper() -> None:
    """arXiv:2312.06635: S_t = (alpha_t 1) S_{t-1} + k_t v_t, o_t = q_t S_t / sqrt(K)."""
    _, (block,) = mixers("gla")
    w, x = weights(block), inputs()
    heads, key, value = 4, 16, 32
    sizes = (heads * key, heads * key, heads * value, heads * value)
    state, rows = torch.zeros(B, heads, key, value, dtype=torch.float64), []
    for token in x.double().unbind(1):
        q, k, v, gate = (token @ w("in_proj.weight").T).split(sizes, -1)
        low = token @ w("decay_down.weight").T @ w("decay_up.weight").T + w("decay_up.bias")
        alpha = torch.sigmoid(low) ** (1 / 16)
        q, k, alpha = (one.view(B, heads, key) for one in (q, k, alpha))
        state = alpha[..., None] * state + k[..., None] * v.view(B, heads, 1, value)
        out = torch.einsum("bhk,bhkv->bhv", q, state) / key**0.5
        out = of_head(out, 1e-5) * w("norm.weight") * F.silu(gate).view(B, heads, value)
        rows.append(out.flatten(1) @ w("out_proj.weight").T)
    close(block(x), torch.stack(rows, 1))


def test_retention_is_equations_5_to_8_of_its_paper() -> None:
    """arXiv:2307.08621: S_n = gamma S_{n-1} + K_n V_n with turned K, gamma = 1 - 2^(-5 - h)."""
    _, (block,) = mixers("retnet")
    w, x = weights(block), inputs()
    heads, key, value = 4, 16, 32
    sizes = (heads * key, heads * key, heads * value, heads * value)
    gamma = 1 - 2.0 ** (-5 - torch.arange(heads, dtype=torch.float64))
    theta = 10_000.0 ** (-torch.arange(key // 2, dtype=torch.float64) / (key // 2))
    state, rows = torch.zeros(B, heads, key, value, dtype=torch.float64), []

    def turned(pairs: Tensor, position: int) -> Tensor:
        """Multiplied with e^(i n theta), pairs being half a head apart."""
        first, second = pairs.view(B, heads, 2, key // 2).unbind(2)
        number = torch.complex(first, second) * torch.polar(
            torch.ones_like(theta), position * theta
        )
        return torch.cat([number.real, number.imag], -1)

    for position, token in enumerate(x.double().unbind(1)):
        q, k, v, gate = (token @ w("in_proj.weight").T).split(sizes, -1)
        q, k = turned(q, position), turned(k, position) / key**0.5
        state = gamma[:, None, None] * state + k[..., None] * v.view(B, heads, 1, value)
        out = torch.einsum("bhk,bhkv->bhv", q, state)
        out = of_head(out, 1e-5) * w("norm.weight") * F.silu(gate).view(B, heads, value)
        rows.append(out.flatten(1) @ w("out_proj.weight").T)
    close(block(x), torch.stack(rows, 1))


def test_deltanet_is_equation_2_and_section_3_4_of_its_paper() -> None:
    """arXiv:2406.06484: S_t = S_{t-1} (I - beta_t k_t k_t) + beta_t v_t k_t, values first."""
    _, (block,) = mixers("delta")
    w, x = weights(block), inputs()
    heads, key, value, width = 4, 16, 32, 4
    sizes = (heads * key, heads * key, heads * value)
    projected = x.double() @ w("in_proj.weight").T
    qkv, logits = projected.split((sum(sizes), heads), -1)
    window = F.pad(qkv, (0, 0, width - 1, 0))
    state, rows = torch.zeros(B, heads, value, key, dtype=torch.float64), []
    for t in range(L):
        taps = window[:, t : t + width].transpose(1, 2) * w("conv.weight")
        q, k, v = F.silu(taps.sum(-1)).split(sizes, -1)
        q, k = (F.normalize(one.view(B, heads, key), dim=-1) for one in (q, k))
        beta = torch.sigmoid(logits[:, t])[..., None, None]
        erased = torch.eye(key, dtype=torch.float64) - beta * k[..., None] * k[..., None, :]
        state = state @ erased + beta * v.view(B, heads, value, 1) * k[..., None, :]
        out = (state @ q[..., None])[..., 0] / key**0.5
        out = of_head(out, 1e-5) * w("norm.weight")
        rows.append(out.flatten(1) @ w("out_proj.weight").T)
    close(block(x), torch.stack(rows, 1))


def time_mix(
    w: Callable[[str], Tensor], x: Tensor, before: Tensor, state: Tensor, first: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """One token of RWKV-7, equations 4 to 22: output, state, and the first layer's values."""
    heads, width = 4, 16

    def low(name: str, x: Tensor, act: Any = None) -> Tensor:
        made = x @ w(f"{name}.down.weight").T
        return (act(made) if act else made) @ w(f"{name}.up.weight").T

    xr, xw, xk, xv, xa, xg = (x + mu * (before - x) for mu in w("mix"))
    r, k, v = (one @ w(f"{name}_proj.weight").T for name, one in (("r", xr), ("k", xk), ("v", xv)))
    decay = low("decay", xw, torch.tanh) + w("decay.up.bias")
    decay = torch.exp(-torch.exp(torch.tensor(-0.5).double()) * torch.sigmoid(decay))
    if first is not None:
        v = v + (first - v) * torch.sigmoid(low("value", xv) + w("value.up.bias"))
    a = torch.sigmoid(low("rate", xa) + w("rate.up.bias"))
    gate = low("gate", xg, torch.sigmoid)
    kk = F.normalize((k * w("removed")).view(B, heads, width), dim=-1)
    k = k + k * (a - 1) * w("added")
    rh, dh, kh, vh, ah = (one.view(B, heads, width) for one in (r, decay, k, v, a))
    state = (
        state * dh[:, :, None]
        - (state @ kk[..., None]) * (kk * ah)[:, :, None]
        + vh[..., None] * kh[:, :, None]
    )
    y = (state @ rh[..., None])[..., 0]
    y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 64e-5).sqrt()
    y = y.flatten(1) * w("norm_weight") + w("norm_bias")
    bonus = (rh * kh * w("bonus").view(heads, width)).sum(-1, keepdim=True) * vh
    return ((y + bonus.flatten(1)) * gate) @ w("out_proj.weight").T, state, v


def test_rwkv7_is_its_papers_time_mix() -> None:
    """arXiv:2503.14456, section 4, layer after layer: the second mixes values with the first."""
    model, blocks = mixers("rwkv7 later", later=Rwkv7(**RANKS, value_rank=5))
    for block in blocks:
        block.norm_eps = 64e-5
    cache = model.new_cache(B, L)
    x, first = inputs(), None
    for block, kept in zip(blocks, cache.layers, strict=True):
        w, rows = weights(block), []
        state = torch.zeros(B, 4, 16, 16, dtype=torch.float64)
        before = torch.zeros(B, D, dtype=torch.float64)
        values = []
        for t, token in enumerate(x.double().unbind(1)):
            given = None if first is None else first[:, t]
            out, state, v = time_mix(w, token, before, state, given)
            before = token
            rows.append(out)
            values.append(v)
        first = torch.stack(values, 1) if first is None else first
        expected = torch.stack(rows, 1)
        close(block(x, kept), expected)
        close(kept.ssm.transpose(-1, -2), state)
        x = expected.float()


def test_rwkv7_is_its_papers_channel_mix() -> None:
    """arXiv:2503.14456, section 4.3: a squared rectifier of the token mixed with the one before."""
    _, (block,) = mixers("rwkv7_ffn")
    w, x = weights(block), inputs()
    before = F.pad(x, (0, 0, 1, 0))[:, :-1].double()
    mixed = x.double() + w("mix") * (before - x.double())
    hidden = torch.relu(mixed @ w("up.weight").T) ** 2
    close(block(x), hidden @ w("down.weight").T)


def published(module: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Random weights for a module of transformers; its tensors by name."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            flat = parameter.dim() == 1 or "A_log" in name
            size = 0.3 if flat else parameter.shape[-1] ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * size + 0.7 * flat)
    return dict(module.named_parameters())


@pytest.mark.parametrize("layer", [0, 2])
def test_lightning_attention_is_minimaxs(layer: int) -> None:
    module = pytest.importorskip("transformers.models.minimax.modeling_minimax")
    from transformers import MiniMaxConfig

    config = MiniMaxConfig(
        hidden_size=D, num_attention_heads=4, head_dim=16, num_hidden_layers=3, block_size=16,
        layer_types=["linear_attention"] * 3,
    )  # fmt: skip
    theirs = module.MiniMaxLightningAttention(config, layer)
    tensors = published(theirs, torch.Generator().manual_seed(1))
    _, blocks = mixers("lightning lightning lightning")
    block = blocks[layer]
    with torch.no_grad():
        qkv = tensors["qkv_proj.weight"].view(4, 3, 16, D).transpose(0, 1).flatten(0, 2)
        block.in_proj.weight.copy_(torch.cat([qkv, tensors["output_gate.weight"]]))
        block.norm.weight.copy_(tensors["norm.weight"])
        block.out_proj.weight.copy_(tensors["out_proj.weight"])
    block.norm.eps = 1e-6
    x = inputs()
    expected, _ = theirs(x, (x, x), None)
    close(block(x), expected.double())


def test_kimi_delta_attention_is_kimi_linears() -> None:
    module = pytest.importorskip("transformers.models.kimi_linear.modeling_kimi_linear")
    from transformers import KimiLinearConfig

    config = KimiLinearConfig(
        hidden_size=D, linear_num_heads=4, linear_head_dim=12, linear_conv_kernel_dim=4,
        num_hidden_layers=1, layer_types=["linear_attention"], rms_norm_eps=1e-5,
    )  # fmt: skip
    theirs = module.KimiLinearDeltaAttention(config, 0)
    tensors = published(theirs, torch.Generator().manual_seed(1))
    _, (block,) = mixers("kda", kda=Kda(heads=4, key_dim=12, value_dim=12))
    named = {
        "in_proj": [f"{name}_proj" for name in "qkvb"],
        "decay_down": ["forget_gate.f_a_proj"],
        "decay_up": ["forget_gate.f_b_proj"],
        "gate_down": ["g_a_proj"],
        "gate_up": ["g_b_proj"],
        "norm": ["o_norm"],
        "out_proj": ["o_proj"],
    }
    with torch.no_grad():
        for mine, names in named.items():
            found = torch.cat([tensors[f"{name}.weight"] for name in names])
            getattr(block, mine).weight.copy_(found)
        block.conv.weight.copy_(tensors["conv1d.weight"].squeeze(1))
        block.A_log.copy_(tensors["forget_gate.A_log"].flatten())
        block.dt_bias.copy_(tensors["forget_gate.dt_bias"])
    x = inputs()
    close(block(x), theirs(x).double())
