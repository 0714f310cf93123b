"""Where an implementation of an op is looked for: our kernels, plain torch, other packages.

Each is a `Find`: called with a device, it gives the implementation or None where there is none.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

Implementation = Callable[..., Any]
Find = Callable[[torch.device], Implementation | None]


@dataclass(frozen=True)
class Ours:
    """A Triton kernel of `ssmprof_kernels`: its module and function; None for all shapes is called
    through `adapter(kernel, ...)` where one is given. On a CPU only under Triton's interpreter.
    """

    module: str
    function: str
    adapter: Callable[..., Any] | None = None

    def __call__(self, device: torch.device) -> Implementation | None:
        if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
            return None
        return _function(f"ssmprof_kernels.{self.module}", self.function, self.adapter)


@dataclass(frozen=True)
class Plain:
    """The plain torch form of an op: its module in `ssmprof_kernels` and its function."""

    module: str
    function: str
    adapter: Callable[..., Any] | None = None

    def __call__(self, device: torch.device) -> Implementation | None:
        return _function(f"ssmprof_kernels.{self.module}", self.function, self.adapter)


@dataclass(frozen=True)
class Always:
    """An implementation that needs nothing but torch."""

    call: Implementation

    def __call__(self, device: torch.device) -> Implementation | None:
        return self.call


@dataclass(frozen=True)
class Package:
    """A function of another package, called through `adapter(function, ...)`; None on a CPU.

    It is imported at its first call, since that takes seconds and another may be decided.
    """

    module: str
    function: str
    adapter: Callable[..., Any]

    def __call__(self, device: torch.device) -> Implementation | None:
        if device.type != "cuda" or find_spec(self.module.partition(".")[0]) is None:
            return None
        return self._late

    def _late(self, *args: Any, **options: Any) -> Any:
        return self.adapter(getattr(import_module(self.module), self.function), *args, **options)


def _function(
    module: str, function: str, adapter: Callable[..., Any] | None
) -> Implementation | None:
    if find_spec(module) is None:
        return None
    found = getattr(import_module(module), function)
    return found if adapter is None else partial(adapter, found)
