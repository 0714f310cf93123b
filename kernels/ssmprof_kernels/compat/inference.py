"""What all compatible functions check first: they compute forwards only.

Promises: one RuntimeError that names the argument if autograd would need a gradient through a
kernel.
"""

from __future__ import annotations

from typing import overload

import torch


def forward_only(**tensors: torch.Tensor | None) -> None:
    """RuntimeError if gradients are recorded and one of the tensors wants one."""
    if torch.is_grad_enabled():
        for name, tensor in tensors.items():
            if tensor is not None and tensor.requires_grad:
                raise RuntimeError(
                    f"{name} requires a gradient, and ssmprof_kernels computes forwards only; "
                    f"call the model under torch.no_grad() or torch.inference_mode()"
                )


@overload
def fp32(tensor: torch.Tensor) -> torch.Tensor: ...
@overload
def fp32(tensor: None) -> None: ...
def fp32(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """The tensor in fp32, strides of 0 kept so that nothing expanded is written out."""
    if tensor is None or tensor.dtype == torch.float32:
        return tensor
    core = tensor
    for axis, stride in enumerate(tensor.stride()):
        if stride == 0:
            core = core.narrow(axis, 0, 1)
    return core.float().expand(tensor.shape)
