"""RMS normalisation over groups of channels, with or without a gate, in Triton.

Promises: one launch, one pass: each input is read once, kept in registers and written once; mean
square in fp32; the last axis may have any stride, leading axes any strides. y = norm(x) * act(z)
with `norm_before_gate`, else norm(x * act(z)), act being SiLU or the sigmoid;
norm(v) = v / sqrt(mean(v^2) + eps) * weight (Zhang and Sennrich, arXiv:1910.07467).
"""

from __future__ import annotations

import torch

from ssmprof_kernels import door, launch
from ssmprof_kernels.launch import recorded
from ssmprof_kernels.norm import plan, reference
from ssmprof_kernels.norm.reference import Gate

_recordings: recorded.Recordings = {}
_lookups = launch.lookups()
_MAX_GROUP = 65536


def _as_rows(x: torch.Tensor) -> torch.Tensor:
    """(outer, inner, D) by strides; a copy only where leading axes cannot be merged."""
    if x.ndim == 3:
        return x
    if x.ndim == 2:
        return x.unsqueeze(0)
    if x.ndim < 2:
        return x.reshape(1, 1, -1)
    return x.flatten(0, -3)


def gated_rmsnorm(
    x: torch.Tensor,
    weight: torch.Tensor,
    *,
    z: torch.Tensor | None = None,
    group_size: int | None = None,
    norm_before_gate: bool = False,
    eps: float = 1e-5,
    bias: torch.Tensor | None = None,
    subtract_mean: bool = False,
    activation: Gate = "silu",
) -> torch.Tensor:
    """RMS norm of the last axis, gated by silu(z) or sigmoid(z) where z is given.

    Args:
        x: (...,D) fp32, fp16 or bf16, any strides.
        weight: (D).
        z: (...,D) like x, or None for a plain RMS norm.
        group_size: channels that share one mean square; a divisor of D, D itself by default.
        norm_before_gate: gate the normalised value instead of the input.
        eps: added to the mean square.
        bias: (D), added to the normalised value, before a gate behind it.
        subtract_mean: normalise x less its mean in the group, which makes it a LayerNorm
            (arXiv:1607.06450).
        activation: of the gate; "sigmoid" is that of KDA's layer (arXiv:2510.26692, section 4).

    Returns:
        y of x's shape and dtype.

    Raises:
        ValueError: an argument's shape, dtype, device or value does not fit; names it.
        RuntimeError: an input wants a gradient while gradients are recorded.
    """
    door.forward_only(("x", "weight", "z", "bias"), (x, weight, z, bias))
    if not (x.is_cuda or door.interpreted()):
        _lookup(x, weight, z, bias, group_size, activation)
        return reference.gated_rmsnorm(
            x, weight, z=z, group_size=group_size, norm_before_gate=norm_before_gate, eps=eps,
            bias=bias, subtract_mean=subtract_mean, activation=activation,
        )  # fmt: skip
    rows = (_as_rows(x), None if z is None else _as_rows(z))
    key = recorded.key_of(
        (*rows, weight, bias), x.ndim, group_size, norm_before_gate, eps, subtract_mean, activation
    )
    meta = recorded.meta_of(
        _lookups, key, lambda: _lookup(x, weight, z, bias, group_size, activation)
    )
    # More than two leading axes are merged, which only dense memory allows without a copy.
    y = torch.empty_like(x) if x.ndim <= 3 else torch.empty(x.shape, dtype=x.dtype, device=x.device)
    size = group_size or x.shape[-1]
    tensors = (*rows, weight, bias, _as_rows(y))
    recorded.run(
        _recordings, key, meta, tensors, x.device,
        lambda: plan.record(
            tensors, meta, size, eps, before=norm_before_gate, mean=subtract_mean,
            sigmoid=activation == "sigmoid",
        ),
    )  # fmt: skip
    return y


def _lookup(
    x: torch.Tensor,
    weight: torch.Tensor,
    z: torch.Tensor | None,
    bias: torch.Tensor | None,
    group_size: int | None,
    activation: str,
) -> launch.Lookup:
    """Where the blocks are looked up; ValueError for the first argument that does not fit."""
    if x.numel() == 0:
        raise ValueError(f"x must have shape (...,D), none of them 0, got {tuple(x.shape)}")
    dim = x.shape[-1]
    door.shape("weight", weight, (dim,), "(D,)")
    if bias is not None:
        door.shape("bias", bias, (dim,), "(D,)")
    if z is not None:
        door.shape("z", z, x.shape, "x's")
    size = group_size or dim
    if size < 1 or dim % size or size > _MAX_GROUP:
        raise ValueError(
            f"group_size must divide D = {dim} and be at most {_MAX_GROUP}, got {group_size}"
        )
    if activation not in ("silu", "sigmoid"):
        raise ValueError(f'activation must be "silu" or "sigmoid", got {activation!r}')
    door.same_device(x, weight=weight, z=z, bias=bias)
    if x.is_cuda:
        door.dtype("x", x, door.FLOATS)
    return plan.lookup(size, x.device)
