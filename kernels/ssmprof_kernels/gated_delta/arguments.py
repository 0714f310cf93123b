"""What is wrong with the arguments of a delta rule; nothing here launches or copies."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ssmprof_kernels import door

_MAX_KEY = 256


class Inputs(NamedTuple):
    """The tensors that a prompt and a step have in common, in the order of the kernels."""

    q: Tensor
    k: Tensor
    v: Tensor
    g: Tensor | None
    beta: Tensor
    A_log: Tensor | None
    dt_bias: Tensor | None


def check(
    given: Inputs, *, tokens: bool, channels: bool, beta_sigmoid: bool, negative: bool
) -> None:
    """ValueError for the first that does not fit; `tokens` (B, L, ...) or a step (B, ...)."""
    if negative and not beta_sigmoid:
        raise ValueError("negative doubles step sizes that are made of logits: pass beta_sigmoid")
    q, k, v, g, _, A_log, dt_bias = given
    axes, letters = (4, "B,L,") if tokens else (3, "B,")
    if v.dim() != axes or min(v.shape) < 1:
        raise ValueError(
            f"v must have shape ({letters}H,V) with every size at least 1, got {tuple(v.shape)}"
        )
    door.dtype("v", v, door.FLOATS)
    lead, heads = tuple(v.shape[:-2]), v.shape[-2]
    key_heads, key = q.shape[-2:] if q.dim() == axes else (0, 0)
    if key_heads < 1 or heads % key_heads or not 1 <= key <= _MAX_KEY:
        raise ValueError(
            f"q must have shape ({letters}Hk,K) with Hk a divisor of {heads} and K in "
            f"1..{_MAX_KEY}, got {tuple(q.shape)}"
        )
    shape = (*lead, key_heads, key)
    for name, tensor in (("q", q), ("k", k)):
        door.shape(name, tensor, shape, f"({letters}Hk,K)")
        if tensor.dtype != v.dtype:
            raise ValueError(f"{name} must have the dtype of v, {v.dtype}; got {tensor.dtype}")
    if channels and g is None:
        raise ValueError(f"g must be a tensor of shape ({letters}H,K), got None")
    if A_log is None and dt_bias is not None:
        raise ValueError("dt_bias needs A_log: it is added to the logits of decays")
    if g is None and A_log is not None:
        raise ValueError("A_log needs g, the logits of decays")
    per_head = (heads, key) if channels else (heads,)
    names = "H,K" if channels else "H"
    for name, expected, spelled in (
        ("g", (*lead, *per_head), f"({letters}{names})"),
        ("beta", (*lead, heads), f"({letters}H)"),
        ("A_log", (heads,), "(H)"),
        ("dt_bias", per_head, f"({names})"),
    ):
        tensor = getattr(given, name)
        if tensor is not None:
            door.shape(name, tensor, expected, spelled)
            door.dtype(name, tensor, door.FLOATS)
    door.same_device(v, **given._asdict())


def check_state(name: str, state: Tensor, given: Inputs, rows: int) -> None:
    """ValueError unless the state is (rows, H, K, V) beside the values."""
    heads, value = given.v.shape[-2:]
    door.shape(name, state, (rows, heads, given.q.shape[-1], value), "(B,H,K,V)")
    door.dtype(name, state, door.FLOATS)
    door.same_device(given.v, **{name: state})


def sequences(given: Inputs, cu_seqlens: Tensor | None) -> int:
    """How many there are; ValueError where `cu_seqlens` does not fit."""
    if cu_seqlens is None:
        return given.v.shape[0]
    count = door.cu_seqlens(cu_seqlens, given.v.shape[0])
    door.same_device(given.v, cu_seqlens=cu_seqlens)
    return count


def state_dtype(wanted: bool | torch.dtype) -> torch.dtype:
    """Of a final state that is asked for by True or by a dtype."""
    return torch.float32 if isinstance(wanted, bool) else wanted
