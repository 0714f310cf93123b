"""Rates of decay that are too large for a float, and what a step of 0 does with them.

A = -exp(A_log) is -inf in fp32 for A_log above 88. Promises: with a step above 0 such a state is
forgotten, exp(-inf) = 0; a step of 0 is no step, where 0 * -inf would be NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor


def finite_rate(A: Tensor) -> Tensor:
    """A, but the lowest finite number where it is -inf; NaN stays."""
    return torch.clamp(A, min=torch.finfo(A.dtype).min)


def log_decay(step: Tensor, A: Tensor) -> Tensor:
    """step * A, but never so low that a running sum of them loses its digits: below the floor
    its exponential is 0 in the dtype anyway, and differences of -inf would be NaN."""
    floor = -110.0 if step.dtype == torch.float32 else -750.0
    return torch.clamp(step * finite_rate(A), min=floor)
