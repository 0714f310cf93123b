"""The packages of the Mamba authors, mamba_ssm and causal_conv1d, where they are installed.

Their calls are adapted to token-major tensors. The CUDA selective scan reads channel-first, so its
adapter copies; where it is chosen, it is chosen including those copies.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

# Chunk mamba_ssm's Mamba-2 module uses.
CHUNK = 256


def find(op: str, name: str, device: torch.device) -> Callable[..., Any] | None:
    """The package's kernel for `op`, None on a CPU or where it is not installed.

    It is imported at its first call, since that takes seconds and another provider may be decided.
    """
    module, function, adapter = ADAPTERS[op]
    if device.type != "cuda" or find_spec(module.partition(".")[0]) is None:
        return None
    return partial(_late, module, function, adapter)


def _late(
    module: str, function: str, adapter: Callable[..., Any], *args: Any, **options: Any
) -> Any:
    return adapter(getattr(import_module(module), function), *args, **options)


def _ssd_scan(
    call: Callable[..., Any],
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    return_final_state: bool | torch.dtype = False,
    initial_state: Tensor | None = None,
    **options: Any,
) -> Any:
    out = call(
        x,
        dt,
        A,
        B,
        C,
        CHUNK,
        initial_states=initial_state,
        return_final_states=return_final_state is not False,
        **options,
    )
    return _with_state(out, return_final_state)


def _selective_scan(
    call: Callable[..., Any],
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    return_final_state: bool | torch.dtype = False,
    initial_state: Tensor | None = None,
    D: Tensor | None = None,
    dt_softplus: bool = False,
) -> Any:
    if initial_state is not None:
        raise NotImplementedError("mamba_ssm's selective scan takes no initial state")
    u, dt, B, C = (t.transpose(1, 2).contiguous() for t in (u, dt, B, C))
    out = call(
        u,
        dt,
        A,
        B,
        C,
        D=D,
        z=None if z is None else z.transpose(1, 2).contiguous(),
        delta_bias=dt_bias,
        delta_softplus=dt_softplus,
        return_last_state=return_final_state is not False,
    )
    if return_final_state is False:
        return out.transpose(1, 2)
    y, state = out
    return _with_state((y.transpose(1, 2), state), return_final_state)


def _with_state(out: Any, wanted: bool | torch.dtype) -> Any:
    """The final state in the dtype asked for, float32 where only asked for."""
    if wanted is False:
        return out
    y, state = out
    return y, state.to(torch.float32 if wanted is True else wanted)


def _state_update(
    call: Callable[..., Any], state: Tensor, *args: Tensor, overlap: bool = False, **options: Any
) -> Tensor:
    del overlap  # it always waits for the kernel before
    return call(state, *args, **options)


def _conv(
    call: Callable[..., Any],
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    activation: str,
    initial_state: Tensor | None = None,
) -> Tensor:
    before = None
    if initial_state is not None:
        before = initial_state.transpose(1, 2).contiguous().transpose(1, 2)
    out = call(x.transpose(1, 2), weight, bias, initial_states=before, activation=activation)
    return out.transpose(1, 2)


def _conv_update(
    call: Callable[..., Any],
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    activation: str,
) -> Tensor:
    return call(x, conv_state, weight, bias, activation)


def _gated_norm(call: Callable[..., Any], x: Tensor, weight: Tensor, **options: Any) -> Tensor:
    return call(x, weight, None, **options)


# Op -> module and function of the package, and how to call it.
ADAPTERS: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "ssd_scan": ("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined", _ssd_scan),
    "selective_scan": (
        "mamba_ssm.ops.selective_scan_interface",
        "selective_scan_fn",
        _selective_scan,
    ),
    "selective_state_update": (
        "mamba_ssm.ops.triton.selective_state_update",
        "selective_state_update",
        _state_update,
    ),
    "gated_rmsnorm": ("mamba_ssm.ops.triton.layernorm_gated", "rmsnorm_fn", _gated_norm),
    "causal_conv1d": ("causal_conv1d", "causal_conv1d_fn", _conv),
    "causal_conv1d_update": ("causal_conv1d", "causal_conv1d_update", _conv_update),
}
