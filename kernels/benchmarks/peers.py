"""The implementations we are measured against, where they are installed.

Promises: a peer is found by import and never required; `calls` returns the same work on the same
inputs in the layout the peer itself prefers, prepared outside the timed call; a missing peer comes
back as a reason with the command that installs it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import peers_linear
import torch
import torch.nn.functional as F
from cases import MIXERS, Call, Case
from torch.nn.attention import SDPBackend, sdpa_kernel

INSTALL = {
    "mamba_ssm": "pip install mamba-ssm --no-build-isolation (needs nvcc)",
    "causal_conv1d": "pip install causal-conv1d --no-build-isolation (needs nvcc)",
    "fla": "pip install flash-linear-attention",
}


#: The package of every module that `calls` takes a function from.
MODULES = {
    "mamba_ssm.ops.triton.ssd_combined": "mamba_ssm",
    "mamba_ssm.ops.triton.selective_state_update": "mamba_ssm",
    "mamba_ssm.ops.triton.layernorm_gated": "mamba_ssm",
    "mamba_ssm.ops.triton.mamba3.mamba3_siso_combined": "mamba_ssm",
    "selective_scan_cuda": "mamba_ssm",
    "causal_conv1d": "causal_conv1d",
    "fla.ops.simple_gla": "fla",
    "fla.modules.causal_conv1d": "fla",
    **{module: "fla" for module, _ in peers_linear.FUNCTIONS.values()},
    "fla.ops.gated_delta_rule": "fla",
    "fla.ops.kda": "fla",
}

#: What a reader must know of a row, by operation and provider.
NOTES = {
    ("selective_state_update", "ssmprof"): "behind its own call, which it overlaps",
    ("selective_state_update", "ssmprof-alone"): "begins when the call before has ended",
    ("ssd_scan", "fla"): "without D skip, step bias and softplus, hence its error; q, k per head",
    ("gated_delta_step", "fla"): "returns a new state; copying it back is not counted",
    ("kda_step", "fla"): "returns a new state; copying it back is not counted",
    ("mamba3", "mamba_ssm"): "gates in fp32 and rates prepared outside; warmed at each length",
    ("ring_state_update", "ssmprof"): "behind its own call; tiles take turns to write",
    ("mla_decode", "torch"): "knows the length on the host",
    ("moe", "loop"): "knows the rows of each expert on the host",
    ("gla", "fla"): "makes the gates, as our kernel does",
    ("rwkv7", "fla"): "-kk and kk a made before",
    ("attention_decode", "sdpa-cudnn"): "head-first cache",
    ("attention_decode", "sdpa-flash"): "head-first cache",
}


#: Whether an update starts before the kernel before has ended, by operation and provider.
EARLY = {
    ("selective_state_update", "ssmprof"): True,
    ("selective_state_update", "ssmprof-alone"): False,
    ("selective_state_update", "mamba_ssm"): False,
    **{(op, "ssmprof"): False for op in ("gated_delta_step", "kda_step")},
    **{(op, "ssmprof-early"): True for op in ("gated_delta_step", "kda_step")},
    ("ring_state_update", "ssmprof"): True,
    ("ring_state_update", "ssmprof-plain"): True,
    ("mamba3_step", "ssmprof"): False,
    ("causal_conv1d_update", "ssmprof"): False,
    ("causal_conv1d_update", "causal_conv1d"): False,
}


#: Operation and provider of the peers that Triton compiles, and of those among them that choose
#: their blocks by measuring.
TUNED = frozenset(
    {
        *(("ssd_scan", "mamba_ssm"), ("ssd_scan", "fla"), ("causal_conv1d", "fla")),
        *((op, "fla") for op in peers_linear.FUNCTIONS),
        *(("gated_delta", "fla"), ("kda", "fla")),
    }
)
TRITON = TUNED | {
    ("mamba3", "mamba_ssm"),
    ("selective_state_update", "mamba_ssm"),
    ("gated_rmsnorm", "mamba_ssm"),
    *(("gated_delta_step", "fla"), ("kda_step", "fla")),
}


@dataclass(frozen=True)
class Missing:
    """Why a peer has no time in a cell."""

    reason: str


def _function(module: str, name: str) -> Callable[..., Any] | Missing:
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:
        package = MODULES[module]
        return Missing(f"{package}: {type(error).__name__}: {error}; {INSTALL[package]}")


def load() -> None:
    """Import every peer that is there, so that no import falls into a measurement."""
    for module in MODULES:
        with contextlib.suppress(Exception):
            importlib.import_module(module)


def calls(case: Case) -> dict[str, list[Call] | Missing]:
    """Provider name to its calls on the inputs of `case` (one call, or one per state set)."""
    return PEERS[case.op](case.inputs)


def version(package: str) -> str:
    """Version of an installed peer, '' where it has none."""
    try:
        return str(getattr(importlib.import_module(package), "__version__", ""))
    except Exception:
        return ""


def _ssd(i: dict[str, Any]) -> dict[str, list[Call] | Missing]:
    found: dict[str, list[Call] | Missing] = {}
    mamba = _function("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined")
    if isinstance(mamba, Missing):
        found["mamba_ssm"] = mamba
    else:
        options = {k: i[k] for k in ("D", "dt_bias", "dt_softplus")}
        found["mamba_ssm"] = [
            lambda: mamba(i["x"], i["dt"], i["A"], i["B"], i["C"], 256, **options)
        ]
    gla = _function("fla.ops.simple_gla", "chunk_simple_gla")
    if isinstance(gla, Missing):
        found["fla"] = gla
    else:
        # Its layout: keys and queries per head, step sizes already in the values and gates.
        heads, groups = i["x"].shape[2], i["B"].shape[2]
        q, k = (t.repeat_interleave(heads // groups, 2) for t in (i["C"], i["B"]))
        step = F.softplus(i["dt"].float() + i["dt_bias"])
        g = step * i["A"]
        v = (i["x"].float() * step.unsqueeze(-1)).to(i["x"].dtype)
        found["fla"] = [lambda: gla(q, k, v, g, scale=1.0)[0]]
    return found


def _selective(i: dict[str, Any]) -> dict[str, list[Call] | Missing]:
    scan = _function("selective_scan_cuda", "fwd")
    if isinstance(scan, Missing):
        return {"mamba_ssm": scan}
    # Its layout: channel first, B and C with a group axis.
    u, dt, z = (i[k].transpose(1, 2).contiguous() for k in ("u", "dt", "z"))
    B, C = (i[k].transpose(1, 2).contiguous().unsqueeze(1) for k in ("B", "C"))
    # The last of its outputs is the gated one.
    return {
        "mamba_ssm": [
            lambda: scan(u, dt, i["A"], B, C, i["D"], z, i["dt_bias"], True)[-1].transpose(1, 2)
        ]
    }


def _update(i: dict[str, Any]) -> dict[str, list[Call] | Missing]:
    update = _function("mamba_ssm.ops.triton.selective_state_update", "selective_state_update")
    if isinstance(update, Missing):
        return {"mamba_ssm": update}
    options = {k: i[k] for k in ("D", "dt_bias", "dt_softplus")}

    def call(state: torch.Tensor) -> Call:
        return lambda: update(state, i["x"], i["dt"], i["A"], i["B"], i["C"], **options)

    return {"mamba_ssm": [call(s) for s in i["states"]]}


def _conv(i: dict[str, Any]) -> dict[str, list[Call] | Missing]:
    found: dict[str, list[Call] | Missing] = {}
    cuda = _function("causal_conv1d", "causal_conv1d_fn")
    if isinstance(cuda, Missing):
        found["causal_conv1d"] = cuda
    else:
        x = i["x"].transpose(1, 2)
        found["causal_conv1d"] = [
            lambda: cuda(x, i["weight"], i["bias"], activation="silu").transpose(1, 2)
        ]
    own = _function("fla.modules.causal_conv1d", "causal_conv1d")
    if isinstance(own, Missing):
        found["fla"] = own
    else:
        found["fla"] = [
            lambda: own(i["x"], i["weight"], i["bias"], activation="silu", backend="triton")[0]
        ]
    return found


def _conv_update(i: dict[str, Any]) -> dict[str, list[Call] | Missing]:
    update = _function("causal_conv1d", "causal_conv1d_update")
    if isinstance(update, Missing):
        return {"causal_conv1d": update}

    def call(state: torch.Tensor) -> Call:
        return lambda: update(i["x"], state, i["weight"], i["bias"], activation="silu")

    return {"causal_conv1d": [call(s) for s in i["states"]]}


def _norm(i: dict[str, Any]) -> dict[str, list[Call] | Missing]:
    norm = _function("mamba_ssm.ops.triton.layernorm_gated", "rmsnorm_fn")
    if isinstance(norm, Missing):
        return {"mamba_ssm": norm}
    return {
        "mamba_ssm": [
            lambda: norm(
                i["x"],
                i["weight"],
                None,
                z=i["z"],
                group_size=i["group_size"],
                norm_before_gate=False,
            )
        ]
    }


def _decode(i: dict[str, Any]) -> dict[str, list[Call] | Missing]:
    q = i["q"].unsqueeze(2)
    # Head first, as its kernels stream a head's tokens from consecutive rows; and only the tokens
    # that a window shows.
    k, v = (i[n][:, -(i["window"] or 0) :].transpose(1, 2).contiguous() for n in ("k", "v"))
    sinks = i["sinks"]
    aten = torch.ops.aten

    def call(backend: SDPBackend) -> Call:
        def run() -> torch.Tensor:
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v, enable_gqa=True).squeeze(2)

        def with_sinks() -> torch.Tensor:
            if backend is SDPBackend.FLASH_ATTENTION:
                out, rows, *_ = aten._scaled_dot_product_flash_attention(q, k, v)
            else:
                found = aten._scaled_dot_product_cudnn_attention(q, k, v, None, True)
                out, rows = found[0], found[1].view(*q.shape[:3])
            share = torch.sigmoid(rows[..., :1].float() - sinks[:, None])
            return out.mul_(share[..., None].to(out.dtype)).squeeze(2)

        return run if sinks is None else with_sinks

    return {
        "sdpa-cudnn": [call(SDPBackend.CUDNN_ATTENTION)],
        "sdpa-flash": [call(SDPBackend.FLASH_ATTENTION)],
    }


def _mixer(op: str) -> Callable[[dict[str, Any]], dict[str, list[Call] | Missing]]:
    def found(inputs: dict[str, Any]) -> dict[str, list[Call] | Missing]:
        import mixers  # it needs what stands above

        return mixers.PEERS[op](inputs)

    return found


def _linear(op: str, i: dict[str, Any]) -> dict[str, list[Call] | Missing]:
    found = _function(*peers_linear.FUNCTIONS[op])
    return {"fla": found if isinstance(found, Missing) else peers_linear.calls(op, found, i)}


def _delta(op: str, i: dict[str, Any]) -> dict[str, list[Call] | Missing]:
    import delta  # it needs what stands above

    return delta.fla(op, i)


function = _function

PEERS: dict[str, Callable[[dict[str, Any]], dict[str, list[Call] | Missing]]] = {
    "ssd_scan": _ssd,
    "selective_scan": _selective,
    "selective_state_update": _update,
    "causal_conv1d": _conv,
    "causal_conv1d_update": _conv_update,
    "gated_rmsnorm": _norm,
    "attention_decode": _decode,
    **{op: _mixer(op) for op in MIXERS},
    **{op: functools.partial(_linear, op) for op in peers_linear.FUNCTIONS},
    **{
        op: functools.partial(_delta, op)
        for op in ("gated_delta", "gated_delta_step", "kda", "kda_step")
    },
}
