"""Compile the kernels of a call for a GPU that is not there.

Promises: inside `offline.compiling(sm)` any operation of this package can be called on pretended
CUDA tensors; nothing runs, every launch is compiled for that compute capability and collected. It
needs no GPU and no CUDA build of torch. Not thread safe: replaces Triton's active driver.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, cast
from unittest import mock

import torch
import triton
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from ssmprof_kernels import launch

#: Multiprocessors to pretend, where grids depend on them: the usual part of each capability.
MULTIPROCESSORS = {
    80: 108, 86: 84, 87: 16, 89: 128, 90: 132, 100: 148, 103: 148, 110: 20, 120: 170, 121: 48,
}  # fmt: skip


#: Those whose machine code can be read: the assembler that Triton 3.6 ships does not know sm_110,
#: its disassembler neither sm_103 nor sm_121, which are close to sm_100 and sm_120.
CAPABILITIES = (80, 86, 87, 89, 90, 100, 120)


class _PretendedDriver:
    """As much of a Triton driver as compiling asks for."""

    def __init__(self, sm: int) -> None:
        self.sm = sm

    def get_current_device(self) -> int:
        # Triton caches compiled kernels per device: one pretended device per capability.
        return self.sm

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.sm, 32)

    def get_device_interface(self) -> Any:
        return torch.cuda


class _Indexing(TorchFunctionMode):
    """Tensor indexing without a device guard, which a torch without CUDA does not have."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.Tensor.__getitem__:
            return _index(*args)
        return func(*args, **(kwargs or {}))


def _index(tensor: torch.Tensor, key: Any) -> torch.Tensor:
    keys = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        named = sum(k is not None and k is not Ellipsis for k in keys)
        keys[at : at + 1] = [slice(None)] * (tensor.ndim - named)
    axis = 0
    for k in keys:
        if k is None:
            tensor = tensor.unsqueeze(axis)
            axis += 1
        elif isinstance(k, slice):
            start, stop, step = k.indices(tensor.shape[axis])
            sizes, strides = list(tensor.shape), list(tensor.stride())
            offset = tensor.storage_offset() + start * strides[axis]
            sizes[axis] = len(range(start, stop, step))
            strides[axis] *= step
            tensor = tensor.as_strided(sizes, strides, offset)
            axis += 1
        else:
            tensor = tensor.select(axis, int(k))
    return tensor


def _launches_nothing(self: CompiledKernel, grid: Any) -> Any:
    return lambda *args, **options: None


@contextlib.contextmanager
def compiling(sm: int) -> Iterator[list[Any]]:
    """Collect the compiled kernels (`triton.compiler.CompiledKernel`) of all launches inside.

    Args:
        sm: compute capability, for example 87.

    Raises:
        RuntimeError: Triton's interpreter is on; it has no compiler behind it.
    """
    if not isinstance(_probe, JITFunction):
        raise RuntimeError("compiling offline needs TRITON_INTERPRET unset when Python starts")
    compiled: list[Any] = []
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **options)
        compiled.append(kernel)
        return kernel

    device = torch.device("cuda", 0)
    before = driver._active
    shared = launch.SHARED_BYTES.get(sm, min(launch.SHARED_BYTES.values()))
    facts = launch.DeviceFacts(sm, MULTIPROCESSORS.get(sm, 16), shared, f"sm_{sm}")
    launch.forget()
    driver.set_active(cast(Any, _PretendedDriver(sm)))
    JITFunction.run = compile_only
    try:
        with (
            launch.pretend(device, facts),
            mock.patch.object(torch.cuda, "current_device", return_value=0),
            # A recorded launch would go straight to the device that is not there.
            mock.patch.object(CompiledKernel, "__getitem__", _launches_nothing),
            FakeTensorMode(),
            _Indexing(),
            warnings.catch_warnings(),
        ):
            # Triton asks for the alignment of each pointer; a pretended one is 0, hence aligned.
            warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
            yield compiled
    finally:
        JITFunction.run = run
        driver._active = before
        launch.forget()


@triton.jit
def _probe():
    pass
