"""Cells and peers of Mamba-3, of latent decode, of grouped products and of the ring update.

Promises: as `cases` and `peers`. A rotation counts 3 FLOPs per element, a pair of rows of one chunk
2 (N + P). The ring is measured beside the plain update, its peer, on the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from cases import Call, Case, bf16, decay_rates, f32, sets_of, step_bias
from exact import exact
from peers import Missing, function
from ssmprof_kernels import OPS
from ssmprof_kernels.reference.mamba3 import Weights
from ssmprof_kernels.ring_update import new_ring

CHUNK = 64
Found = dict[str, list[Call] | Missing]


def _mamba3(model: dict[str, Any], *lead: int) -> tuple[list[torch.Tensor], Weights]:
    """Normed keys and queries, values, rates and angles; biases near 1, as models have them."""
    H, P, N, R = (model[k] for k in "HPNR")

    def normed() -> torch.Tensor:
        return F.rms_norm(bf16(*lead, R, 1, N), (N,))

    rates = [bf16(*lead, H) for _ in range(3)]
    tokens = [normed(), normed(), bf16(*lead, H, P), *rates, bf16(*lead, N // 4)]
    keys, queries = (1 + 0.3 * f32(H, R, N) for _ in range(2))
    weights = Weights(step_bias(H), queries, keys, f32(H))
    if R > 1:
        into, gate, out = (f32(H, R, P) for _ in range(3))
        weights = weights._replace(mimo_v=1 + 0.3 * into, mimo_z=1 + 0.3 * gate, mimo_out=out / R)
    return tokens, weights


def _mamba3_bytes(model: dict[str, Any]) -> int:
    """Of a token: values and outputs, keys and queries, rates and angles."""
    H, P, N, R = (model[k] for k in "HPNR")
    return 2 * (2 * H * P + 2 * R * N + 3 * H + N // 4)


def mamba3(model: dict[str, Any], batch: int, length: int) -> Case:
    """A prompt, without a gate, so that it can be set beside `ssd_scan`."""
    H, P, N, R = (model[k] for k in "HPNR")
    given, weights = _mamba3(model, batch, length)
    tokens, op = batch * length, OPS["mamba3_scan"]
    turned = 2 * 3 * R * (N // 2)
    return Case(
        "mamba3", model["name"], length, batch, H * P,
        {"tokens": given, "weights": weights},
        [lambda: op.kernel(*given, weights=weights)],
        lambda: exact(op.plain, (batch, length), *given, weights=weights),
        tokens * _mamba3_bytes(model),
        tokens * H * (R * (4 * P * N + CHUNK * R * (N + P)) + turned),
        tokens * H * (CHUNK / 2 + 6 + N // 2),
    )  # fmt: skip


def mamba3_step(model: dict[str, Any], batch: int, length: int) -> Case:
    """One token, on fp32 states."""
    H, P, N, R = (model[k] for k in "HPNR")
    given, weights = _mamba3(model, batch)
    size, op = H * (P * N + R * N + P), OPS["mamba3_step"]
    nbytes = 4 * batch * size
    states = [f32(batch, size) for _ in range(min(400, sets_of(nbytes)))]

    def call(state: torch.Tensor) -> Call:
        return lambda: op.kernel(state, *given, weights=weights)

    return Case(
        "mamba3_step", model["name"], length, batch, H * P,
        {"states": states, "tokens": given, "weights": weights},
        [call(s) for s in states],
        lambda: exact(op.plain, None, states[0], *given, weights=weights),
        2 * nbytes + batch * _mamba3_bytes(model),
        batch * H * P * N * (1 + 6 * R + 3),
        batch * H * (6 + N // 2),
        rotated=True,
    )  # fmt: skip


def ring(model: dict[str, Any], batch: int, length: int) -> Case:
    """One token of Mamba-2 or Mamba-1 on fp32 states, written once in W tokens."""
    N, W = model["N"], model["W"]
    tied = "H" in model
    inner = (model["H"], model["P"]) if tied else (model["D"],)
    D = model["H"] * model["P"] if tied else model["D"]
    per_head = inner[:1]
    A = decay_rates(*per_head) if tied else decay_rates(D, N)
    x, bc = bf16(batch, *inner), (batch, 1, N) if tied else (batch, N)
    token = (x, bf16(batch, *per_head), A, bf16(*bc), bf16(*bc))
    options = {"D": f32(*per_head), "dt_bias": step_bias(*per_head), "dt_softplus": True}
    nbytes = 4 * batch * D * N
    states = [f32(batch, *inner, N) for _ in range(min(400, sets_of(nbytes)))]
    rings = [new_ring(s, x, token[3], tied=tied, tokens=W) for s in states]
    op, update = OPS["ring_state_update"], OPS["selective_state_update"]

    def call(at: int) -> Call:
        return lambda: op.kernel(states[at], rings[at], *token, **options, overlap=True)

    def plain(state: torch.Tensor) -> Call:
        return lambda: update.kernel(state, *token, **options, overlap=True)

    return Case(
        "ring_state_update", model["name"], length, batch, D,
        {"states": states, "plain": [plain(s) for s in states]},
        [call(at) for at in range(len(states))],
        None,
        nbytes * (1 + 1 / W) + rings[0].nbytes / 2 + 4 * batch * D,
        batch * D * N * 6,
        batch * (model["H"] if tied else D * N),
        rotated=True,
    )  # fmt: skip


def mla(model: dict[str, Any], batch: int, length: int) -> Case:
    """One token against a full cache of latents."""
    H, rank, turned = (model[k] for k in ("H", "rank", "turned"))
    width = rank + turned
    q, latents = bf16(batch, H, width), bf16(batch, length, width)
    lengths = torch.full((batch,), length, dtype=torch.int32, device="cuda")
    op, given = OPS["latent_decode"], {"rank": rank, "scale": 192**-0.5}
    return Case(
        "mla_decode", model["name"], length, batch, H * rank,
        {"q": q, "latents": latents} | given,
        [lambda: op.kernel(q, latents, lengths, **given)],
        lambda: exact(op.plain, None, q, latents, lengths, **given),
        2 * batch * (length * width + H * (width + rank)),
        2 * batch * length * H * (width + rank),
        batch * length * H,
    )  # fmt: skip


def moe(model: dict[str, Any], batch: int, length: int) -> Case:
    """The first product of all experts; `length` tokens, each sent to k experts at random."""
    E, k, N, K = (model[n] for n in "EkNK")
    rows = batch * length * k
    chosen = torch.rand(batch * length, E, device="cuda").topk(k, 1).indices.flatten().sort().values
    numbers = torch.arange(E, device="cuda")
    ends = torch.searchsorted(chosen, numbers, right=True, out_int32=True)
    x = bf16(rows, K)
    weight = torch.empty(E, N, K, device="cuda", dtype=torch.bfloat16).normal_(0, K**-0.5)
    op, touched = OPS["grouped_mm"], int(chosen.unique().numel())
    return Case(
        "moe", model["name"], length, batch, N,
        {"rows": x, "weight": weight, "ends": ends},
        [lambda: op.kernel(x, weight, ends)],
        lambda: exact(_by_expert, None, x, weight, ends.tolist()),
        2 * (touched * N * K + rows * (N + K)),
        2 * rows * N * K,
        0,
    )  # fmt: skip


def _by_expert(rows: torch.Tensor, weight: torch.Tensor, ends: list[int]) -> torch.Tensor:
    """One product after the other, whose shapes the host knows."""
    out, start = rows.new_empty(len(rows), weight.shape[1]), 0
    for number, end in enumerate(ends):
        if end > start:
            torch.mm(rows[start:end], weight[number].t(), out=out[start:end])
        start = end
    return out


def mamba3_peers(i: dict[str, Any]) -> Found:
    """mamba_ssm's prompt of one rank: gates in fp32 and head-first, angles per head."""
    call = function("mamba_ssm.ops.triton.mamba3.mamba3_siso_combined", "mamba3_siso_combined")
    if isinstance(call, Missing):
        return {"mamba_ssm": call}
    q, k, v, a, dt, trap, angles = i["tokens"]
    weights = i["weights"]
    if q.shape[2] > 1:
        return {"mamba_ssm": Missing("its form for one rank is called here")}
    heads = v.shape[2]
    step = F.softplus(dt.float() + weights.dt_bias).transpose(1, 2).contiguous()
    rate = -F.softplus(a.float()).clamp_min(1e-4).transpose(1, 2)
    wide = angles[:, :, None].expand(-1, -1, heads, -1)
    biases = weights.q_bias[:, 0], weights.k_bias[:, 0]
    gates = (rate * step).contiguous(), step, trap.transpose(1, 2).contiguous()
    scan = call
    return {
        "mamba_ssm": [lambda: scan(q[:, :, 0], k[:, :, 0], v, *gates, *biases, wide, D=weights.D)]
    }


def step_peers(i: dict[str, Any]) -> Found:
    """Its step is a CuTe kernel of another layout; not called."""
    return {}


def ring_peers(i: dict[str, Any]) -> Found:
    """Our own update, which writes the state in every step."""
    return {"ssmprof-plain": i["plain"]}


def mla_peers(i: dict[str, Any]) -> Found:
    """Three calls of torch."""
    q, latents = i["q"], i["latents"]
    given = {"rank": i["rank"], "scale": i["scale"]}
    return {"torch": [lambda: OPS["latent_decode"].plain(q, latents, **given)]}


def moe_peers(i: dict[str, Any]) -> Found:
    """torch's grouped product, and a loop whose bounds the host knows beforehand."""
    x, weight, ends = i["rows"], i["weight"], i["ends"]
    known = ends.tolist()
    return {
        "torch": [lambda: torch.ops.aten._grouped_mm(x, weight.transpose(1, 2), ends)],
        "loop": [lambda: _by_expert(x, weight, known)],
    }


BUILDERS: dict[str, Callable[[dict[str, Any], int, int], Case]] = {
    "mamba3": mamba3,
    "mamba3_step": mamba3_step,
    "ring_state_update": ring,
    "mla_decode": mla,
    "moe": moe,
}
PEERS: dict[str, Callable[[dict[str, Any]], Found]] = {
    "mamba3": mamba3_peers,
    "mamba3_step": step_peers,
    "ring_state_update": ring_peers,
    "mla_decode": mla_peers,
    "moe": moe_peers,
}
