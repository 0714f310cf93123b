"""Multi-head latent attention in plain torch (arXiv:2405.04434, section 2.1): step and oracle.

Promises: `latent_rotary` norms latents, turns queries and keys and writes all to their places;
`latent_decode` looks at latents as keys and values of all heads. Their `_sequential` forms do so
token by token, pair by pair and head by head;
`latent_attention_sequential` expands every key and value and goes token by token and head by head:
`k_t = [W_k c_t; r_t]`, `v_t = W_v c_t` (equations 9 to 13, 16 to 18), with c_t and r_t as given.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ssmprof_kernels.rotary.reference import rotate


def latent_rotary(
    q: Tensor,
    row: Tensor,
    weight: Tensor,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    *,
    eps: float,
    q_out: Tensor | None = None,
    row_out: Tensor | None = None,
    positions: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Norm the latents of `row` (B, L, r + dr) with `weight` (r); turn the shared keys behind them
    and the last dr features of `q` (B, L, H, dn + dr) by cos, sin (L, dr / 2), None for neither.

    Queries go to the last features of `q_out` (B, L, H, n + dr), rows to `row_out` (B, L, r + dr);
    both in place where None. With `positions` (B) the tokens of each sequence stand there, in
    tables of all positions and in all rows of a cache, `row_out` (B, rows, r + dr). Returns what
    was written.
    """
    if positions is not None:
        assert row_out is not None
        at = positions.long()[:, None] + torch.arange(q.shape[1], device=q.device)
        if cos is not None and sin is not None:
            cos, sin = cos[at], sin[at]
        new = torch.empty_like(row)
        q, _ = latent_rotary(q, row, weight, cos, sin, eps=eps, q_out=q_out, row_out=new)
        row_out[torch.arange(len(at), device=at.device)[:, None], at] = new
        return q, row_out
    rank = weight.shape[0]
    turned = row.shape[-1] - rank
    latents = row if row_out is None else row_out
    latents[..., :rank].copy_(F.rms_norm(row[..., :rank], (rank,), weight, eps))
    keys = None if row_out is None else row_out[:, :, None]
    _turn(row[:, :, None], keys, turned, cos, sin)
    _turn(q, q_out, turned, cos, sin)
    return q if q_out is None else q_out, latents


def _turn(
    x: Tensor, out: Tensor | None, turned: int, cos: Tensor | None, sin: Tensor | None
) -> None:
    """Rotate the last features of x (B, L, heads, D) into those of `out`, in place where None."""
    last = x[..., -turned:]
    if cos is not None and sin is not None:
        last = rotate(last, cos, sin)
    elif out is None:
        return
    (x if out is None else out)[..., -turned:].copy_(last)


def latent_rotary_sequential(
    q: Tensor,
    row: Tensor,
    weight: Tensor,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    *,
    eps: float,
    q_out: Tensor | None = None,
    row_out: Tensor | None = None,
    positions: Tensor | None = None,
    compute_dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """Token by token and pair by pair; arguments and result as in `latent_rotary`, but nothing is
    overwritten: results are copies in `compute_dtype`.
    """
    q, row, weight = (t.to(compute_dtype) for t in (q, row, weight))
    queries = (q if q_out is None else q_out).to(compute_dtype, copy=True)
    rows = row.clone()
    first = [0] * len(q)
    if positions is not None:
        assert row_out is not None
        rows, first = row_out.to(compute_dtype, copy=True), positions.tolist()
    rank = weight.shape[0]
    turned = row.shape[-1] - rank
    for b, t in torch.cartesian_prod(*map(torch.arange, q.shape[:2])).tolist():
        latent, at = row[b, t, :rank], t + first[b]
        rows[b, at, :rank] = latent / ((latent * latent).sum() / rank + eps).sqrt() * weight
        for x, y in ((q[b, t], queries[b, t]), (row[b, t, None], rows[b, at, None])):
            y[:, -turned:] = x[:, -turned:]
            if cos is None or sin is None:
                continue
            for n in range(turned // 2):
                low, high = n - turned, n - turned // 2
                c, s = cos[at, n].to(compute_dtype), sin[at, n].to(compute_dtype)
                y[:, low] = x[:, low] * c - x[:, high] * s
                y[:, high] = x[:, high] * c + x[:, low] * s
    return queries, rows


def latent_decode(
    q: Tensor, latents: Tensor, lengths: Tensor | None = None, *, rank: int, scale: float
) -> Tensor:
    """One token against the first `lengths` (B), int32, rows of a cache, against all if None.

    q (B, H, r + dr): queries absorbed into the latent, and what is turned; latents (B, Lmax, r +
    dr), whose first `rank` features are the values. Returns (B, H, r); 0 where nothing is seen.
    """
    scores = torch.baddbmm(q.new_zeros(1, 1, 1), q, latents.transpose(1, 2), beta=0, alpha=scale)
    if lengths is not None:
        row = torch.arange(latents.shape[1], device=q.device)
        hidden = (row >= lengths[:, None])[:, None]
        scores = scores.masked_fill(hidden, -torch.inf)
        odds = torch.softmax(scores, -1).masked_fill(hidden, 0.0)
        # A token that is not seen has no say, even if it is not finite.
        latents = latents.masked_fill(hidden.transpose(1, 2), 0.0)
    else:
        odds = torch.softmax(scores, -1)
    return torch.bmm(odds, latents[..., :rank])


def latent_decode_sequential(
    q: Tensor,
    latents: Tensor,
    lengths: Tensor | None = None,
    *,
    rank: int,
    scale: float,
    compute_dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Row by row and head by head; arguments and result as in `latent_decode`."""
    q, latents = q.to(compute_dtype), latents.to(compute_dtype)
    out = q.new_zeros(*q.shape[:2], rank)
    for b, queries in enumerate(q):
        seen = latents[b] if lengths is None else latents[b, : int(lengths[b])]
        for h, query in enumerate(queries):
            if len(seen):
                scores = scale * (seen @ query)
                odds = torch.exp(scores - scores.max())
                out[b, h] = (odds / odds.sum()) @ seen[:, :rank]
    return out


def latent_attention_sequential(
    q: Tensor,
    latents: Tensor,
    shared: Tensor,
    up_keys: Tensor,
    up_values: Tensor,
    *,
    compute_dtype: torch.dtype = torch.float64,
) -> Tensor:
    """q (B, L, H, dn + dr), turned; latents (B, L, r), normed; shared (B, L, dr), turned; up_keys
    (H, dn, r), up_values (H, dv, r). Returns (B, L, H, dv) in `compute_dtype`.
    """
    q, latents, shared, up_keys, up_values = (
        t.to(compute_dtype) for t in (q, latents, shared, up_keys, up_values)
    )
    batch, length, heads, width = q.shape
    out = q.new_zeros(batch, length, heads, up_values.shape[1])
    for b in range(batch):
        for h in range(heads):
            keys = torch.cat([latents[b] @ up_keys[h].t(), shared[b]], dim=1)
            values = latents[b] @ up_values[h].t()
            for t in range(length):
                odds = torch.exp(keys[: t + 1] @ q[b, t, h] / width**0.5)
                out[b, t, h] = (odds / odds.sum()) @ values[: t + 1]
    return out
