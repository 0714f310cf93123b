"""What a cell should yield: its plain form in fp64.

Promises: inputs are the very numbers that kernels get, widened; nothing is rounded on the way, so
that the distance to it is the error of whoever is measured. A scan is causal: of many tokens the
first `TOKENS` of the first sequence are computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

#: Tokens of a scan that are held against the plain form.
TOKENS = 4096


def exact(
    plain: Callable[..., torch.Tensor], lead: tuple[int, int] | None, *args: Any, **options: Any
) -> torch.Tensor:
    """`plain` on copies of its arguments in fp64.

    Args:
        lead: (B, L) of a scan, whose inputs that begin so are cut; None where nothing is.
    """

    def wide(value: Any) -> Any:
        if isinstance(value, tuple):
            parts = [wide(part) for part in value]
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        if not isinstance(value, torch.Tensor):
            return value
        if lead is not None and value.shape[:2] == lead:
            value = value[:1, :TOKENS]
        # A state is written where it lies: never into the inputs.
        return value.double() if value.is_floating_point() else value.clone()

    return plain(*map(wide, args), **{name: wide(value) for name, value in options.items()})


def error(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Relative RMS distance of `found` (B, L, ...) to `truth`, of the same shape or its beginning
    along B and L, whatever their dtypes."""
    if found.shape != truth.shape and found.dim() >= 2:
        begin = found.reshape(*found.shape[:2], -1)[: truth.shape[0], : truth.shape[1]]
        found, truth = begin, truth.reshape(*truth.shape[:2], -1)
    truth = truth.double()
    return ((found.double().reshape(truth.shape) - truth).norm() / truth.norm()).item()
