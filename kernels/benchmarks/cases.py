"""The cells of the kernel benchmark: inputs, our call, its exact result, the least the work costs.

Promises: random inputs with decays spread from near 0 to near 1; bytes, FLOPs and exponentials are
lower bounds of the operation itself, whoever serves it, one multiply-add being 2 FLOPs. Operations
that change a state in place get as many state sets as exceed twice the L2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cases_linear
import timing
import torch
from exact import exact
from plan import Cell
from ssmprof_kernels import OPS

Call = Callable[[], Any]


@dataclass
class Case:
    """One cell. `calls` holds one call, or one per state set where `rotated`; `exact` what they
    should yield (of a long scan the beginning, see `exact`); `others` further forms of ours, shown
    beside it under names of their own."""

    op: str
    shape: str
    length: int
    batch: int
    width: int
    inputs: dict[str, Any]
    calls: list[Call]
    exact: Call | None
    moved_bytes: float
    flops: float
    exps: float
    rotated: bool = False
    others: dict[str, list[Call]] = field(default_factory=dict)

    def restore(self) -> None:
        """Put the first state set back to random values that depend on nothing but its shape."""
        if self.rotated:
            state = self.inputs["states"][0]
            g = torch.Generator(state.device).manual_seed(1)
            state.copy_(torch.randn(state.shape, generator=g, device=state.device))


def build(cell: Cell) -> Case:
    """Inputs and calls of a cell on the current CUDA device."""
    return BUILDERS[cell.op](cell.model, cell.batch, cell.length)


def _bf16(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device="cuda", dtype=torch.bfloat16)


def _f32(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device="cuda")


def decay_logs(*shape: int) -> torch.Tensor:
    """Logarithms of rates from 1 to 16, as `_decay_rates` has them."""
    return (-_decay_rates(*shape)).log()


def _decay_rates(*shape: int) -> torch.Tensor:
    # A from -1 to -16 and step sizes from softplus(-4.6) = 0.01 to 0.7, as models initialise them.
    return -(1 + 15 * torch.rand(shape, device="cuda"))


def _step_bias(*shape: int) -> torch.Tensor:
    return 4.6 * torch.rand(shape, device="cuda") - 4.6


def _ssd(model: dict[str, Any], batch: int, length: int) -> Case:
    H, P, N, G = (model[k] for k in "HPNG")
    x, dt = _bf16(batch, length, H, P), _bf16(batch, length, H)
    B, C = _bf16(batch, length, G, N), _bf16(batch, length, G, N)
    inputs = {"x": x, "dt": dt, "A": _decay_rates(H), "B": B, "C": C}
    options = {"D": _f32(H), "dt_bias": _step_bias(H), "dt_softplus": True}
    tokens = batch * length
    op = OPS["ssd_scan"]
    chunk = 64
    return Case(
        "ssd_scan",
        model["name"],
        length,
        batch,
        H * P,
        inputs | options,
        [lambda: op.kernel(x, dt, inputs["A"], B, C, **options)],
        lambda: exact(op.plain, (batch, length), x, dt, inputs["A"], B, C, **options),
        tokens * 2 * (2 * H * P + 2 * G * N + H),
        tokens * (H * (4 * P * N + 2 * chunk * P) + 2 * chunk * N * G),
        tokens * H * (chunk / 2 + 4),
    )


def _selective(model: dict[str, Any], batch: int, length: int) -> Case:
    D, N = model["D"], model["N"]
    u, dt, z = (_bf16(batch, length, D) for _ in range(3))
    B, C = _bf16(batch, length, N), _bf16(batch, length, N)
    A = -torch.arange(1, N + 1, device="cuda", dtype=torch.float32).repeat(D, 1)
    options = {"D": _f32(D), "z": z, "dt_bias": _step_bias(D), "dt_softplus": True}
    tokens = batch * length
    op = OPS["selective_scan"]
    return Case(
        "selective_scan",
        model["name"],
        length,
        batch,
        D,
        {"u": u, "dt": dt, "A": A, "B": B, "C": C} | options,
        [lambda: op.kernel(u, dt, A, B, C, **options)],
        lambda: exact(op.plain, (batch, length), u, dt, A, B, C, **options),
        tokens * (2 * 4 * D + 2 * 2 * N),
        tokens * 6 * D * N,
        tokens * D * (N + 4),
    )


def _sets(nbytes: int) -> int:
    return max(2, -(-2 * timing.l2_bytes() // nbytes) + 1)


def _update(model: dict[str, Any], batch: int, length: int) -> Case:
    N = model["N"]
    if "H" in model:
        H, P, G = model["H"], model["P"], model["G"]
        inner, D = (H, P), H * P
        dt = _bf16(batch, H).unsqueeze(-1).expand(batch, H, P)
        A = _decay_rates(H).view(H, 1, 1).expand(H, P, N)
        skip, bias = (_f32(H).unsqueeze(-1).expand(H, P) for _ in range(2))
        B, C = _bf16(batch, G, N), _bf16(batch, G, N)
        exps = batch * H
    else:
        D = model["D"]
        inner = (D,)
        dt, A, skip, bias = _bf16(batch, D), _decay_rates(D, N), _f32(D), _f32(D)
        B, C = _bf16(batch, N), _bf16(batch, N)
        exps = batch * D * N
    x = _bf16(batch, *inner)
    nbytes = 2 * batch * D * N
    states = [_bf16(batch, *inner, N) for _ in range(min(400, _sets(nbytes)))]
    options = {"D": skip, "dt_bias": bias, "dt_softplus": True}
    op = OPS["selective_state_update"]

    def call(state: torch.Tensor, overlap: bool) -> Call:
        return lambda: op.kernel(state, x, dt, A, B, C, **options, overlap=overlap)

    return Case(
        "selective_state_update",
        model["name"],
        length,
        batch,
        D,
        {"states": states, "x": x, "dt": dt, "A": A, "B": B, "C": C} | options,
        [call(s, True) for s in states],
        lambda: exact(op.plain, None, states[0], x, dt, A, B, C, **options),
        2 * nbytes + 2 * batch * D * 2,
        batch * D * N * 6,
        exps,
        rotated=True,
        others={"ssmprof-alone": [call(s, False) for s in states]},
    )


def _conv(model: dict[str, Any], batch: int, length: int) -> Case:
    D, W = model["D"], model["W"]
    x, weight, bias = _bf16(batch, length, D), _bf16(D, W), _bf16(D)
    op = OPS["causal_conv1d"]
    tokens = batch * length
    return Case(
        "causal_conv1d",
        model["name"],
        length,
        batch,
        D,
        {"x": x, "weight": weight, "bias": bias},
        [lambda: op.kernel(x, weight, bias, activation="silu")],
        lambda: exact(op.plain, (batch, length), x, weight, bias, activation="silu"),
        2 * 2 * tokens * D,
        2 * tokens * D * W,
        tokens * D,
    )


def _conv_update(model: dict[str, Any], batch: int, length: int) -> Case:
    D, W = model["D"], model["W"]
    x, weight, bias = _bf16(batch, D), _bf16(D, W), _bf16(D)
    nbytes = 2 * batch * D * (W - 1)
    states = [_bf16(batch, D, W - 1) for _ in range(min(400, _sets(nbytes)))]
    op = OPS["causal_conv1d_update"]

    def call(state: torch.Tensor) -> Call:
        return lambda: op.kernel(x, state, weight, bias, activation="silu")

    return Case(
        "causal_conv1d_update",
        model["name"],
        length,
        batch,
        D,
        {"x": x, "states": states, "weight": weight, "bias": bias},
        [call(s) for s in states],
        lambda: exact(op.plain, None, x, states[0], weight, bias, activation="silu"),
        2 * nbytes + 4 * batch * D,
        2 * batch * D * W,
        batch * D,
        rotated=True,
    )


def _norm(model: dict[str, Any], batch: int, length: int) -> Case:
    D, group = model["D"], model["group"]
    x, z, weight = _bf16(batch, length, D), _bf16(batch, length, D), _bf16(D)
    op = OPS["gated_rmsnorm"]
    tokens = batch * length
    return Case(
        "gated_rmsnorm",
        model["name"],
        length,
        batch,
        D,
        {"x": x, "z": z, "weight": weight, "group_size": group},
        [lambda: op.kernel(x, weight, z=z, group_size=group)],
        lambda: exact(op.plain, None, x, weight, z=z, group_size=group),
        3 * 2 * tokens * D,
        6 * tokens * D,
        tokens * D,
    )


def _decode(model: dict[str, Any], batch: int, length: int) -> Case:
    Hq, Hk, dh = model["Hq"], model["Hk"], model["dh"]
    q = _bf16(batch, Hq, dh)
    k, v = _bf16(batch, length, Hk, dh), _bf16(batch, length, Hk, dh)
    lengths = torch.full((batch,), length, dtype=torch.int32, device="cuda")
    options = {
        "window": model.get("window"),
        "sinks": torch.randn(Hq, device="cuda") if model.get("sinks") else None,
    }
    seen = min(length, options["window"] or length)
    op = OPS["attention_decode"]
    return Case(
        "attention_decode",
        model["name"],
        length,
        batch,
        Hq * dh,
        {"q": q, "k": k, "v": v, **options},
        [lambda: op.kernel(q, k, v, lengths, **options)],
        lambda: exact(op.plain, None, q, k, v, lengths, **options),
        2 * 2 * batch * seen * Hk * dh,
        4 * batch * seen * Hq * dh,
        batch * seen * Hq,
    )


def _delta(op: str) -> Callable[[dict[str, Any], int, int], Case]:
    def built(model: dict[str, Any], batch: int, length: int) -> Case:
        import delta  # it needs what stands above

        form = delta.step if op.endswith("step") else delta.prompt
        return form(op, model, batch, length)

    return built


def _mixer(op: str) -> Callable[[dict[str, Any], int, int], Case]:
    def built(model: dict[str, Any], batch: int, length: int) -> Case:
        import mixers  # it needs what stands above

        return mixers.BUILDERS[op](model, batch, length)

    return built


#: What `mixers` measures.
MIXERS = ("mamba3", "mamba3_step", "ring_state_update", "mla_decode", "moe")
bf16, f32, step_bias, decay_rates, sets_of = _bf16, _f32, _step_bias, _decay_rates, _sets

BUILDERS: dict[str, Callable[[dict[str, Any], int, int], Case]] = {
    "ssd_scan": _ssd,
    "selective_scan": _selective,
    "selective_state_update": _update,
    "causal_conv1d": _conv,
    "causal_conv1d_update": _conv_update,
    "gated_rmsnorm": _norm,
    "attention_decode": _decode,
    **{op: _mixer(op) for op in MIXERS},
    **{
        op: lambda model, batch, length, fields=fields: Case(**fields(model, batch, length))
        for op, fields in cases_linear.FIELDS.items()
    },
    **{op: _delta(op) for op in ("gated_delta", "gated_delta_step", "kda", "kda_step")},
}
