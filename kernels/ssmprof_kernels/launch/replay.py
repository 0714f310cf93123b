"""Launches of one operation, recorded per shape, so that later calls skip Triton's binding.

Promises: the first `run` of a `Recording` launches through Triton as usual and compiles what is
missing; every later one passes raw addresses to the same compiled kernels, which costs the host a
fraction. A recording is valid for one combination of shapes, strides, dtypes, alignments and
options; whoever keeps recordings puts all of those into the key (see `facts_of`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Arg(NamedTuple):
    """The tensor at `index` of the call."""

    index: int


class View(NamedTuple):
    """A tensor-memory descriptor: `make(tensor at index)`, which reads nothing but metadata."""

    index: int
    make: Callable[[Any], Any]


class Work(NamedTuple):
    """fp32 scratch of a call: `count` numbers from `start` on."""

    start: int
    count: int


class _Bound:
    """What Triton's launcher reads of a descriptor, without checking it all again."""

    __slots__ = ("base", "padding", "shape", "strides")

    def __init__(self, like: Any, base: Tensor) -> None:
        self.base = base
        self.shape = like.shape
        self.strides = like.strides
        self.padding = like.padding


class _Step(NamedTuple):
    compiled: Any
    grid: tuple[int, int, int]
    values: list[Any]
    pointers: list[tuple[int, int]]
    views: list[tuple[int, int, Any]]
    works: list[tuple[int, int]]


def facts_of(tensors: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """What a compiled kernel may depend on, for each tensor: size, stride, dtype, alignment."""
    return tuple(
        None if t is None else (t.shape, t.stride(), t.dtype, t.data_ptr() % 16 == 0)
        for t in tensors
    )


class Recording:
    """A sequence of launches; `add` them in order, then `run` with the tensors of each call, of
    which there are `inputs`."""

    def __init__(self, inputs: int) -> None:
        self._inputs = inputs
        self._extra: list[tuple[tuple[int, ...], torch.dtype]] = []
        self._plan: list[tuple[Any, int, dict[str, Any], dict[str, Any]]] = []
        self._steps: list[_Step] = []
        self._scratch = 0

    def work(self, *shape: int) -> Work:
        """Reserve fp32 scratch, 128-byte aligned."""
        count = 1
        for size in shape:
            count *= size
        start = self._scratch
        self._scratch += -(-count // 32) * 32
        return Work(start, count)

    def tensor(self, *shape: int, dtype: torch.dtype) -> Arg:
        """Reserve a tensor of its own: scratch of another dtype than fp32."""
        self._extra.append((shape, dtype))
        return Arg(self._inputs + len(self._extra) - 1)

    def add(self, kernel: Any, grid: int, options: dict[str, Any], **arguments: Any) -> None:
        """One launch of `grid` programs; `arguments` by the kernel's parameter names."""
        self._plan.append((kernel, grid, arguments, options))

    def run(self, tensors: Sequence[Any], device: torch.device) -> None:
        """Launch everything; `tensors` is what `Arg` and `View` point into."""
        if self._extra:
            more = [torch.empty(shape, dtype=dtype, device=device) for shape, dtype in self._extra]
            tensors = (*tensors, *more)
        scratch = None
        if self._scratch:
            scratch = torch.empty(self._scratch, dtype=torch.float32, device=device)
        if len(self._steps) < len(self._plan):
            self._first(tensors, scratch)
            return
        base = 0 if scratch is None else scratch.data_ptr()
        addresses = [None if t is None else t.data_ptr() for t in tensors]
        for compiled, grid, template, pointers, views, works in self._steps:
            values = template.copy()
            for at, index in pointers:
                values[at] = addresses[index]
            for at, start in works:
                values[at] = base + start
            for at, index, like in views:
                values[at] = _Bound(like, tensors[index])
            compiled[grid](*values)

    def _first(self, tensors: Sequence[Any], scratch: Tensor | None) -> None:
        steps = []
        for kernel, grid, arguments, options in self._plan:
            given: dict[str, Any] = {}
            pointers, views, works = [], [], []
            for at, name in enumerate(kernel.arg_names):
                value = arguments[name] if name in arguments else options[name]
                if isinstance(value, Arg):
                    if tensors[value.index] is not None:
                        pointers.append((at, value.index))
                    given[name] = tensors[value.index]
                elif isinstance(value, View):
                    given[name] = value.make(tensors[value.index])
                    like = copy.copy(given[name])
                    like.base = None
                    views.append((at, value.index, like))
                elif isinstance(value, Work):
                    assert scratch is not None
                    works.append((at, value.start * 4))
                    given[name] = scratch[value.start : value.start + value.count]
                else:
                    given[name] = value
            compiled = kernel[(grid,)](**{**options, **given})
            steps.append(
                _Step(compiled, (grid, 1, 1), list(given.values()), pointers, views, works)
            )
        # A kernel that was interpreted left nothing to launch again.
        if all(step.compiled is not None for step in steps):
            for step in steps:
                for at, *_ in (*step.pointers, *step.views, *step.works):
                    step.values[at] = None
            self._steps = steps
