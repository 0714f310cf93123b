"""A mixture of experts in plain torch: products of rows sorted by expert, and the oracle.

Promises: `grouped_mm` gives `rows[i] @ weight[expert of i].T`, as does `grouped_mm_sequential`
row by row; on a GPU it neither waits for the
device nor has shapes that depend on the rows, at the price of E products of all rows.
`moe_sequential` walks token by token and expert by expert in the dtype asked for: `y_t = sum over
the chosen e of g_e(t) E_e(x_t)` (arXiv:1701.06538, equation 1), experts chosen by affinity plus
bias within the best groups (arXiv:2412.19437, equations 12 to 16).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def grouped_mm(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """rows (R, K), sorted by expert; weight (E, N, K); ends (E), int32: the row behind the last of
    each expert. Returns (R, N).
    """
    if rows.device.type != "cpu":
        return _masked(rows, weight, ends)
    out = rows.new_zeros(len(rows), weight.shape[1])
    start = 0
    for number, end in enumerate(ends.tolist()):
        if end > start:
            torch.mm(rows[start:end], weight[number].t(), out=out[start:end])
        start = end
    return out


def grouped_mm_sequential(
    rows: Tensor, weight: Tensor, ends: Tensor, *, compute_dtype: torch.dtype = torch.float64
) -> Tensor:
    """Row by row, in `compute_dtype`; arguments of `grouped_mm`, and 0 behind the last end."""
    rows, weight = rows.to(compute_dtype), weight.to(compute_dtype)
    out = rows.new_zeros(len(rows), weight.shape[1])
    start = 0
    for number, end in enumerate(ends.tolist()):
        for row in range(start, end):
            out[row] = weight[number] @ rows[row]
        start = max(start, end)
    return out


def _masked(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """Every expert on all rows, of which its own are kept."""
    index = torch.arange(len(rows), dtype=ends.dtype, device=rows.device)
    expert = torch.searchsorted(ends, index, right=True)
    out = rows.new_zeros(len(rows), weight.shape[1])
    for number, matrix in enumerate(weight):
        out = torch.where((expert == number)[:, None], F.linear(rows, matrix), out)
    return out


def moe_sequential(
    x: Tensor,
    router: Tensor,
    up: Tensor,
    down: Tensor,
    act: Callable[[Tensor], Tensor],
    *,
    k: int,
    router_bias: Tensor | None = None,
    score: Literal["softmax", "sigmoid"] = "softmax",
    selection_bias: Tensor | None = None,
    groups: int = 1,
    top_groups: int = 1,
    best_of_group: int = 2,
    renormalise: bool = True,
    scale: float = 1.0,
    up_bias: Tensor | None = None,
    down_bias: Tensor | None = None,
    compute_dtype: torch.dtype = torch.float64,
) -> Tensor:
    """x (T, d), router (E, d), up (E, F, d), down (E, d, f); `act` maps F features to f.

    Returns (T, d), in `compute_dtype`.
    """
    x, router, up, down = (t.to(compute_dtype) for t in (x, router, up, down))
    out = torch.zeros(len(x), down.shape[1], dtype=compute_dtype)
    size = len(router) // groups
    for t, token in enumerate(x):
        logits = router @ token + (0 if router_bias is None else router_bias.to(compute_dtype))
        odds = torch.exp(logits - logits.max())
        scores = odds / odds.sum() if score == "softmax" else 1 / (1 + torch.exp(-logits))
        ranked = scores + (0 if selection_bias is None else selection_bias.to(compute_dtype))
        of_group = [
            sum(sorted(ranked[g * size : (g + 1) * size].tolist())[-best_of_group:])
            for g in range(groups)
        ]
        best = sorted(range(groups), key=lambda g: -of_group[g])[:top_groups]
        eligible = [e for e in range(len(router)) if e // size in best]
        chosen = sorted(eligible, key=lambda e: -float(ranked[e]))[:k]
        whole = scores[chosen].sum() if renormalise else 1.0
        for e in chosen:
            hidden = up[e] @ token
            if up_bias is not None:
                hidden = hidden + up_bias[e].to(compute_dtype)
            made = down[e] @ act(hidden)
            if down_bias is not None:
                made = made + down_bias[e].to(compute_dtype)
            out[t] += scale * scores[e] / whole * made
    return out
