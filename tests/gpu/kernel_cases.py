"""Inputs for the kernel matrix on a GPU, and the three ways to compute each operation.

Promises: `case(op, ...)` is deterministic in its arguments; inputs are rounded to the tested dtype
before any of the three sees them; options change with `variant`, so that a short list of cases
walks through all of them. An operation's results are a dict of named tensors, states included.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import torch
from ssmprof_kernels import OPS
from ssmprof_kernels.reference.mamba3 import Weights
from ssmprof_kernels.ring_update import new_ring

IN_PLACE = {
    "selective_state_update": "state",
    "causal_conv1d_update": "conv_state",
    "mamba3_step": "state",
    **{
        f"{op}_step": "state"
        for op in ("rwkv7", "gla", "retention", "lightning", "gated_delta", "kda")
    },
}
LINEAR = ("gla", "retention", "lightning")
DELTA = ("gated_delta", "kda")
WITH_STATE = ("ssd_scan", "selective_scan", "causal_conv1d", "rwkv7", *LINEAR, *DELTA)
STEPS = tuple(f"{op}_step" for op in ("rwkv7", *LINEAR, *DELTA))

#: Arguments with an axis of tokens.
BY_TOKEN = (*("x", "u", "dt", "B", "C", "z"), *("q", "k", "v", "a", "r", "w", "kk"), "g", "beta")


@dataclass
class Case:
    """An operation and its arguments by name."""

    op: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def kernel(self, **changes: Any) -> dict[str, torch.Tensor]:
        """What the Triton kernel computes."""
        return self._run(OPS[self.op].kernel, self.arguments | changes)

    def plain(self, **changes: Any) -> dict[str, torch.Tensor]:
        """What the plain torch form computes in fp32."""
        return self._run(OPS[self.op].plain, self.arguments | changes)

    def oracle(self) -> dict[str, torch.Tensor]:
        """What the token-by-token form computes in fp64."""
        wide = {k: _double(v) for k, v in self.arguments.items()}
        if self.op in (*WITH_STATE, "mamba3_scan") and self.op != "causal_conv1d":
            y, state = OPS[self.op].sequential(**wide)
            return {"y": y, "final_state": state}
        if self.op == "ring_state_update":
            return {"y": OPS[self.op].sequential(**wide)[0]}
        if self.op in ("selective_state_update", "mamba3_step", *STEPS):
            y, state = OPS[self.op].sequential(**wide)
            return {"y": y, "state": state}
        return self._run(OPS[self.op].sequential, wide)

    def _run(self, function: Any, arguments: dict[str, Any]) -> dict[str, torch.Tensor]:
        if self.op in IN_PLACE:
            name = IN_PLACE[self.op]
            state = arguments[name].clone()
            y = function(**(arguments | {name: state}))
            return {"y": y, "state": state}
        if self.op == "ring_state_update":
            # The state lags behind: what a token leaves is seen by its output alone.
            own = {name: _copied(arguments[name]) for name in ("state", "ring")}
            return {"y": function(**(arguments | own))}
        if self.op in (*WITH_STATE, "mamba3_scan"):
            y, final = function(**arguments, return_final_state=True)
            return {"y": y, "final_state": final}
        return {"y": function(**arguments)}


def _copied(value: Any) -> Any:
    return value.clone() if torch.is_tensor(value) else type(value)(*map(_copied, value))


def _double(value: Any) -> Any:
    if isinstance(value, Weights):
        return Weights(*map(_double, value))
    return value.double() if torch.is_tensor(value) and value.is_floating_point() else value


class _Random:
    def __init__(self, dtype: torch.dtype, seed: int) -> None:
        self.generator = torch.Generator("cuda").manual_seed(seed)
        self.dtype = dtype

    def __call__(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        values = torch.randn(shape, generator=self.generator, device="cuda")
        return values.to(dtype or self.dtype)

    def wide(self, *shape: int) -> torch.Tensor:
        return self(*shape, dtype=torch.float32)


def _ids(batch: int, length: int) -> torch.Tensor:
    at = torch.arange(length, device="cuda", dtype=torch.int32)
    return (at // 37).expand(batch, length).contiguous()


def _ssd(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = _Random(dtype, v)
    N, P = (128, 16, 64, 256, 8)[v % 5], (64, 32, 19, 128)[v % 4]
    G = (1, 2, 4)[v % 3]
    batch, H = 1 + v % 2, 4
    found = {
        "x": r(batch, length, H, P),
        "dt": r(batch, length, H),
        "A": -r.wide(H).abs() * (8.0, 0.01, 50.0)[v % 3],
        "B": r(batch, length, G, N),
        "C": r(batch, length, G, N),
        "dt_bias": r.wide(H) - 2,
        "dt_softplus": True,
    }
    if v % 2:
        found |= {"D": r.wide(H, P) if v % 4 == 1 else r.wide(H), "z": r(batch, length, H, P)}
    if v % 3 == 0:
        found["initial_state"] = r.wide(batch, H, P, N)
    if v % 5 == 4:
        found["seq_idx"] = _ids(batch, length)
    if v % 7 == 6:
        found["dt_limit"] = (0.01, 0.2)
    return found


def _selective(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = _Random(dtype, v)
    N, D = (16, 8, 64, 5)[v % 4], (70, 192, 33)[v % 3]
    batch = 1 + v % 2
    shape = (batch, length, N) if v % 2 else (batch, length, 1 if D % 2 else 2, N)
    found = {
        "u": r(batch, length, D),
        "dt": r(batch, length, D),
        "A": -r.wide(D, N).abs() * (4.0, 0.01, 50.0)[v % 3],
        "B": r(*shape),
        "C": r(*shape),
        "dt_bias": r.wide(D) - 2,
        "dt_softplus": True,
    }
    if v % 2 == 0:
        found |= {"D": r.wide(D), "z": r(batch, length, D)}
    if v % 3 == 0:
        found["initial_state"] = r.wide(batch, D, N)
    return found


def _update(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = _Random(dtype, v)
    batch, slots, N = 1 + length % 9, 12, (128, 16, 64)[v % 3]
    state_dtype = torch.float32 if v % 2 else dtype
    if v % 2:
        H, P, G = 4, (64, 19)[v // 2 % 2], (1, 2, 4)[v % 3]
        inner: tuple[int, ...] = (H, P)
        A = -r.wide(H).abs().view(H, 1, 1).expand(H, P, N)
        dt = r(batch, H).unsqueeze(-1).expand(batch, H, P)
        skip = r.wide(H).unsqueeze(-1).expand(H, P)
        bc = (batch, G, N)
    else:
        inner = (70,)
        A, dt, skip, bc = -r.wide(70, N).abs(), r(batch, 70), r.wide(70), (batch, N)
    found = {
        "state": r(slots, *inner, N, dtype=state_dtype),
        "x": r(batch, *inner),
        "dt": dt,
        "A": A,
        "B": r(*bc),
        "C": r(*bc),
        "D": skip,
        "dt_bias": skip,
        "dt_softplus": True,
    }
    if v % 3:
        found["z"] = r(batch, *inner)
    if v % 4 == 3:
        order = torch.randperm(slots, generator=r.generator, device="cuda")[:batch]
        found["state_indices"] = torch.where(order == order[0], -1, order).to(torch.int32)
    return found


def _conv(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = _Random(dtype, v)
    W, D, batch = (4, 3, 2)[v % 3], (96, 41, 520)[v % 3], 1 + v % 2
    x = r(batch, length, D)
    if v % 4 == 3:
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    found = {"x": x, "weight": r(D, W), "activation": "silu" if v % 2 else None}
    if v % 3:
        found["bias"] = r(D)
    if v % 2:
        found["initial_state"] = r(batch, D, W - 1)
    if v % 5 == 4:
        found["seq_idx"] = _ids(batch, length)
    return found


def _conv_update(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = _Random(dtype, v)
    batch, D, W, room = 1 + length % 7, 300, 4, 3 + v % 3
    few = 1 + v % 3
    found = {
        "x": r(batch, few, D) if few > 1 else r(batch, D),
        "conv_state": r(12, D, room),
        "weight": r(D, W),
        "bias": r(D),
        "activation": "silu",
    }
    if v % 2:
        order = torch.randperm(12, generator=r.generator, device="cuda")[:batch]
        found["state_indices"] = order.to(torch.int32)
    if v % 4 == 1:
        at = torch.randint(0, 50, (batch,), generator=r.generator, device="cuda")
        found["cache_seqlens"] = at.to(torch.int32)
    return found


def _norm(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = _Random(dtype, v)
    D = (1536, 130, 5120, 64)[v % 4]
    rows = min(length, 300)
    found: dict[str, Any] = {"x": r(2, rows, D), "weight": r(D), "norm_before_gate": v % 2 == 0}
    if v % 3:
        found["z"] = r(2, rows, 2 * D)[..., :D]
    if D % 32 == 0 and v % 2:
        found["group_size"] = D // 4
    return found


def _attention(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = _Random(dtype, v)
    hq, hk = ((8, 2), (7, 1), (4, 4), (8, 1))[v % 4]
    dh, batch, room = (128, 64, 80, 19)[v % 4], 3, min(length, 600)
    found: dict[str, Any] = {
        "q": r(batch, hq, dh),
        "k_cache": r(batch, room, hk, dh),
        "v_cache": r(batch, room, hk, dh),
        "lengths": torch.tensor([room, room // 2, 1], dtype=torch.int32, device="cuda"),
    }
    if v % 3 == 2:
        found["window"] = 100
    return found


def _mamba3(dtype: torch.dtype, v: int, *lead: int) -> dict[str, Any]:
    r = _Random(dtype, v)
    rank, G, H, P, N = (1, 4, 3)[v % 3], (1, 2)[v % 2], 4, (64, 19)[v % 2], (128, 20)[v // 2 % 2]
    found: dict[str, Any] = {
        "q": r(*lead, rank, G, N),
        "k": r(*lead, rank, G, N),
        "v": r(*lead, H, P),
        **{name: r(*lead, H) for name in ("a", "dt", "trap")},
        "angles": r(*lead, N // 4),
    }
    mixed: list[Any] = [None] * 3
    if rank > 1:
        mixed = [r.wide(H, rank, P) for _ in range(3)]
    if v % 4 == 1:
        mixed[2] = None
    biases = [r.wide(H, rank, N) for _ in range(2)]
    found["weights"] = Weights(r.wide(H) - 2, *biases, r.wide(H), *mixed)  # type: ignore[arg-type]
    if v % 2:
        found["z"] = r(*lead, H, P)
    return found


def _state_of(found: dict[str, Any], r: _Random) -> torch.Tensor:
    heads, rank, states = found["weights"].q_bias.shape
    batch, width = found["v"].shape[0], found["v"].shape[-1]
    return r.wide(batch, heads * (width * states + rank * states + width))


def _mamba3_scan(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    found = _mamba3(dtype, v, 1 + v % 2, length)
    if v % 3 == 0:
        found["initial_state"] = _state_of(found, _Random(dtype, v + 50))
    return found


def _mamba3_step(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    found = _mamba3(dtype, v, 1 + length % 9)
    return {"state": _state_of(found, _Random(dtype, v + 50))} | found


def _ring(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    found = _update(dtype, length, v)
    tied = found["A"].stride()[1:] == (0, 0)
    ring = new_ring(found["state"], found["x"], found["B"], tied=tied, tokens=(16, 4)[v % 2])
    r = _Random(dtype, v + 50)
    for tensor in (ring.x, ring.B):
        tensor.copy_(r(*tensor.shape))
    ring.delta.copy_(r.wide(*ring.delta.shape).abs() / 8)
    return {"state": found.pop("state"), "ring": ring} | found


def _latent(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = _Random(dtype, v)
    rank, turned = ((512, 64), (96, 20), (512, 64))[v % 3]
    batch, heads, room = 3, (128, 5, 16)[v % 3], min(length, 600)
    return {
        "q": r(batch, heads, rank + turned),
        "latents": r(batch, room, rank + turned),
        "lengths": torch.tensor([room, room // 2, 1], dtype=torch.int32, device="cuda"),
        "rank": rank,
        "scale": (rank + turned) ** -0.5,
    }


def _grouped(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = _Random(dtype, v)
    rows, experts = min(length, 300), (8, 3, 40)[v % 3]
    N, K = ((128, 256), (70, 33))[v % 2]
    ends = torch.randint(0, rows + 1, (experts,), generator=r.generator, device="cuda").sort()
    weight = (r.wide(experts, N, K) / K**0.5).to(dtype)
    return {"rows": r(rows, K), "weight": weight, "ends": ends.values.to(torch.int32)}


def _linear(op: str, dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = _Random(dtype, v)
    K, V = ((128, 128), (256, 512), (64, 70), (20, 16))[v % 4]
    batch, H, shared = 1 + v % 2, 4, (4, 1, 2)[v % 3]
    found = {
        "q": r(batch, length, H, K),
        "k": r(batch, length, shared, K),
        "v": r(batch, length, shared, V),
        "scale": K**-0.5,
    }
    if op == "gla":
        found["a"] = r(batch, length, shared, K) * (1.0, 20.0, 500.0)[v % 3]
    else:
        found["decay"] = -r.wide(H).abs() * (0.05, 0.0005, 3.0)[v % 3]
    if v % 3 == 0:
        found["initial_state"] = r.wide(batch, H, K, V)
    return found


def _linear_step(op: str, dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    found = _linear(op.removesuffix("_step"), dtype, 1, v)
    found = {k: x[:, 0] if k in ("q", "k", "v", "a") else x for k, x in found.items()}
    found.pop("initial_state", None)
    batch, H, K = found["q"].shape
    state = torch.float32 if v % 2 else dtype
    found["state"] = _Random(dtype, length)(batch, H, K, found["v"].shape[-1], dtype=state)
    return found


def _rwkv7(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    r = _Random(dtype, v)
    shape = (1 + v % 2, length, 4, (64, 64, 32, 20)[v % 4])
    kk = torch.nn.functional.normalize(r.wide(*shape), dim=-1).to(dtype)
    found = {"r": r(*shape), "k": r(*shape), "v": r(*shape), "kk": kk, "a": r(*shape).sigmoid()}
    found["w"] = r(*shape).sigmoid() * (-0.606, -0.606, -20.0)[v % 3]
    if v % 3 == 0:
        found["initial_state"] = r.wide(shape[0], 4, shape[3], shape[3])
    return found


def _rwkv7_step(dtype: torch.dtype, length: int, v: int) -> dict[str, Any]:
    found = {k: x[:, 0] for k, x in _rwkv7(dtype, 1, v).items() if k != "initial_state"}
    state = torch.float32 if v % 2 else dtype
    shape = (*found["v"].shape, found["v"].shape[-1])
    return found | {"state": _Random(dtype, length)(*shape, dtype=state)}


def _delta(
    op: str, dtype: torch.dtype, length: int, v: int, *, step: bool = False
) -> dict[str, Any]:
    r = _Random(dtype, v)
    K, V = (128, 64, 100, 32)[v % 4], (128, 64, 72)[v % 3]
    batch, H, Hk = 1 + v % 2, 4, (4, 2, 1)[v % 3]
    lead = (1 + length % 9,) if step else (batch, length)
    per_head = (H, K) if op.startswith("kda") else (H,)
    found: dict[str, Any] = {
        "q": r(*lead, Hk, K),
        "k": r(*lead, Hk, K),
        "v": r(*lead, H, V),
        "g": r(*lead, *per_head),
        "beta": r(*lead, H),
        "A_log": r.wide(H),
        "dt_bias": r.wide(*per_head) - (4.0, 0.0, 8.0)[v % 3],
        "qk_l2norm": True,
        "beta_sigmoid": True,
        "negative": v % 2 == 1,
    }
    if step:
        found["state"] = r.wide(lead[0], H, K, V)
    elif v % 3 == 0:
        found["initial_state"] = r.wide(batch, H, K, V)
    return found


_BUILDERS = {
    "mamba3_scan": _mamba3_scan,
    "mamba3_step": _mamba3_step,
    "ring_state_update": _ring,
    "latent_decode": _latent,
    "grouped_mm": _grouped,
    "ssd_scan": _ssd,
    "selective_scan": _selective,
    "selective_state_update": _update,
    "causal_conv1d": _conv,
    "causal_conv1d_update": _conv_update,
    "gated_rmsnorm": _norm,
    "attention_decode": _attention,
    "rwkv7": _rwkv7,
    "rwkv7_step": _rwkv7_step,
    **{op: functools.partial(_linear, op) for op in LINEAR},
    **{f"{op}_step": functools.partial(_linear_step, f"{op}_step") for op in LINEAR},
    **{op: functools.partial(_delta, op) for op in DELTA},
    **{f"{op}_step": functools.partial(_delta, f"{op}_step", step=True) for op in DELTA},
}


def case(op: str, dtype: torch.dtype, length: int, variant: int) -> Case:
    """Inputs of `op`; `length` is tokens, or for decode operations chooses the batch."""
    return Case(op, _BUILDERS[op](dtype, length, variant))


def packed(op: str, lengths: list[int], dtype: torch.dtype) -> Case:
    """Sequences of those lengths packed into batch 1, with an initial state each."""
    total, n = sum(lengths), len(lengths)
    r = _Random(dtype, 5)
    ends = torch.tensor([0, *torch.tensor(lengths).cumsum(0)], dtype=torch.int32, device="cuda")
    found = case(op, dtype, max(total, 1), 2).arguments
    for name in BY_TOKEN:
        if name in found:
            found[name] = found[name][:1]

    def matrix() -> torch.Tensor:
        return r.wide(n, found["v"].shape[2], found["q"].shape[3], found["v"].shape[3])

    state = {
        **dict.fromkeys(DELTA, matrix),
        "ssd_scan": lambda: r.wide(n, *found["x"].shape[2:], found["B"].shape[-1]),
        "selective_scan": lambda: r.wide(n, *found["A"].shape),
        "causal_conv1d": lambda: r(n, found["x"].shape[2], found["weight"].shape[1] - 1),
        "rwkv7": lambda: r.wide(n, *found["r"].shape[2:], found["v"].shape[3]),
        **dict.fromkeys(LINEAR, lambda: r.wide(n, *found["q"].shape[2:], found["v"].shape[3])),
    }[op]()
    return Case(op, found | {"cu_seqlens": ends, "initial_state": state})


def split(whole: Case, first: int) -> tuple[Case, Case]:
    """The first `first` tokens, and the rest without its initial state."""
    by_token = (*BY_TOKEN, "seq_idx")
    a = {k: v[:, :first] if k in by_token else v for k, v in whole.arguments.items()}
    b = {k: v[:, first:] if k in by_token else v for k, v in whole.arguments.items()}
    b.pop("initial_state", None)
    return Case(whole.op, a), Case(whole.op, b)
