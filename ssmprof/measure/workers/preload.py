"""What a launcher imports before it forks, so that no worker has to: it takes seconds each time.

Only imports: a process that has touched the device cannot fork workers for it. A library may touch
it unasked, so the launcher looks (`device_touched`) and starts again without this if one did.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from ssmprof.mixers import registry

# What torch, Triton and our own packages import only when a call, a graph or a profile needs it.
_MODULES = (
    "sympy",
    "torch._dynamo",
    "torch.fx.experimental.symbolic_shapes",
    "torch.nn.attention",
    "torch.profiler",
    "triton.backends.nvidia.compiler",
    "triton.compiler",
    "triton.experimental.gluon",
    "psutil",
    "pynvml",
    "ssmprof.models.build.model",
    "ssmprof.measure.timing.spin",
)
_DEVICE_FILES = ("/dev/nvidia", "/dev/nvhost", "/dev/nvmap", "/dev/nvgpu")


def preload() -> None:
    """Import everything a worker may need; what is not installed is left out."""
    # Asked whether CUDA is there, torch then asks NVML and leaves the driver alone.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    try:
        for name in (*_MODULES, *registry.files("block"), *registry.files("ops"), *_kernels()):
            with suppress(Exception):
                import_module(name)
    finally:
        del os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"]


def _kernels() -> list[str]:
    try:
        from ssmprof.mixers.finding import Ours
        from ssmprof.mixers.ops import table
    except ImportError:
        return []
    finds = (find for entry in table().values() for find in entry.find.values())
    return sorted({f"ssmprof_kernels.{find.module}" for find in finds if isinstance(find, Ours)})


def device_touched() -> bool:
    """Whether this process holds a file of a GPU's driver open."""
    for link in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):
            if os.readlink(link).startswith(_DEVICE_FILES):
                return True
    return False
