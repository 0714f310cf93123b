"""RG-LRU, mLSTM, LSTM and GRU against the equations of their papers, token by token."""

from __future__ import annotations

import make
import pytest
import torch
from ssmprof_kernels.reference import (
    causal_conv1d_sequential,
    mlstm_scan,
    mlstm_sequential,
    mlstm_step,
    rglru_scan,
    rglru_sequential,
    rglru_step,
    ssd_scan_sequential,
)
from ssmprof_kernels.reference import rglru as rglru_module
from torch import Tensor

from ssmprof.mixers.lstm.block import RecurrentBlock
from ssmprof.mixers.plamo2.block import Plamo2Block
from ssmprof.models.build import build


def draw(*shapes: tuple[int, ...], seed: int = 3) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=random) for shape in shapes]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 37, 150])
def test_rglru_equals_its_recurrence_at_once_and_by_steps(
    length: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rglru_module, "CHUNK", 64)
    x, gate, decay, rate = draw(*[(2, length, 3, 4)] * 3, (3, 4))
    expected = rglru_sequential(x, gate, decay, rate)
    close(rglru_scan(x, gate, decay, rate), expected)
    state = torch.full((2, 3, 4), 9.0)
    for t in range(length):
        y = rglru_step(state, x[:, t], gate[:, t], decay[:, t], rate, first=t == 0)
        close(y, expected[:, t])


@pytest.mark.parametrize("cap", [None, 15.0])
@pytest.mark.parametrize("length", [1, 64, 150])
def test_mlstm_equals_its_recurrence_at_once_and_by_steps(length: int, cap: float | None):
    q, k, v, i, f = draw(*[(2, length, 3, 8)] * 2, (2, length, 3, 5), *[(2, length, 3)] * 2)
    i, f = 4 * i, 4 * f + 2
    expected = mlstm_sequential(q, k, v, i, f, cap=cap)
    close(mlstm_scan(q, k, v, i, f, cap=cap), expected)
    state = torch.zeros(2, 3 * (8 * 5 + 8 + 1))
    for t in range(length):
        y = mlstm_step(state, q[:, t], k[:, t], v[:, t], i[:, t], f[:, t], cap=cap)
        close(y, expected[:, t])


def test_mlstm_goes_on_from_its_state_over_the_end_of_a_segment():
    q, k, v, i, f = draw(*[(1, 2100, 2, 8)] * 2, (1, 2100, 2, 5), *[(1, 2100, 2)] * 2)
    tokens = (q, k, v, 3 * i, f + 3)
    whole, last = mlstm_scan(*tokens, return_final_state=True)
    head, state = mlstm_scan(*[t[:, :1000] for t in tokens], return_final_state=True)
    tail, end = mlstm_scan(
        *[t[:, 1000:] for t in tokens], initial_state=state, return_final_state=True
    )
    torch.testing.assert_close(torch.cat([head, tail], 1), whole, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(end, last, rtol=1e-3, atol=1e-3)


def test_mlstm_survives_gates_that_overflow_without_a_maximum():
    q, k, v, i, f = draw(*[(1, 130, 2, 8)] * 2, (1, 130, 2, 5), *[(1, 130, 2)] * 2)
    i = 200 * i
    assert not torch.isfinite(mlstm_sequential(q, k, v, i, f, compute_dtype=torch.float32)).all()
    assert torch.isfinite(mlstm_scan(q, k, v, i, f)).all()


@torch.inference_mode()
def test_plamo2_selects_as_mamba1_and_scans_as_mamba2():
    model = build(make.block("plamo2", layers="plamo2"), "cpu", "float32", seed=2)
    block = next(module for module in model.modules() if isinstance(module, Plamo2Block))
    part = block.part
    (x,) = draw((2, 9, 64))
    z, u = block.in_proj(x).chunk(2, dim=-1)
    u = causal_conv1d_sequential(u, block.conv.weight, activation="silu")
    assert isinstance(u, Tensor)
    B, C, low = block.x_proj(u).split((part.d_state, part.d_state, part.dt_rank), dim=-1)
    B, C, low = (t / (t.square().mean(-1, keepdim=True) + block.eps).sqrt() for t in (B, C, low))
    z, u = (t.unflatten(-1, (part.nheads, part.headdim)) for t in (z, u))
    y, _ = ssd_scan_sequential(
        u, block.dt_proj(low), block.A, B[:, :, None], C[:, :, None], D=block.D, z=z,
        dt_bias=block.dt_bias, dt_softplus=True,
    )  # fmt: skip
    expected = block.out_proj(y.flatten(-2).float())
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_torchs_units_equal_the_equations(name: str):
    model = build(make.block(name, layers=name), "cpu", "float32", seed=2)
    block = next(module for module in model.modules() if isinstance(module, RecurrentBlock))
    unit = block.unit
    (x,) = draw((2, 9, 64))
    h, c = torch.zeros(2, 64), torch.zeros(2, 64)
    rows = []
    for t in range(9):
        inside = x[:, t] @ unit.weight_ih_l0.T + unit.bias_ih_l0
        hidden = h @ unit.weight_hh_l0.T + unit.bias_hh_l0
        if name == "lstm":
            i, f, g, o = (inside + hidden).chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        else:
            (r, z, n), (hr, hz, hn) = inside.chunk(3, dim=1), hidden.chunk(3, dim=1)
            z = torch.sigmoid(z + hz)
            h = (1 - z) * torch.tanh(n + torch.sigmoid(r + hr) * hn) + z * h
        rows.append(h)
    torch.testing.assert_close(block(x), torch.stack(rows, 1), rtol=1e-4, atol=1e-5)
