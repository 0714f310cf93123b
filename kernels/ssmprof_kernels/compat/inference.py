"""What all compatible functions check first: they compute forwards only.

Promises: one RuntimeError that names the argument if autograd would need a gradient through a
kernel.
"""

from __future__ import annotations

from typing import overload

import torch

from ssmprof_kernels import door


def forward_only(**tensors: torch.Tensor | None) -> None:
    """RuntimeError if gradients are recorded and one of the tensors wants one: before a cast hides
    which, and by the name the caller knows."""
    door.forward_only(tuple(tensors), tuple(tensors.values()))


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
