"""The squared rectifier in plain torch (arXiv:2109.08668); hidden (..., f) is overwritten."""

from __future__ import annotations

import torch
from torch import Tensor


def relu2(hidden: Tensor) -> Tensor:
    """max(hidden, 0)^2 by torch's two kernels."""
    return hidden.relu_().square_()


def relu2_sequential(hidden: Tensor) -> Tensor:
    """Row by row, as it is defined; the oracle of the tests."""
    for row in hidden.view(-1, hidden.shape[-1]):
        row.copy_(torch.where(row < 0, 0.0, row) ** 2)
    return hidden
