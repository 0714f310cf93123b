"""Launches of one operation, recorded per shape, so that later calls skip Triton's binding.

Promises: the first `run` of a `Recording` launches through Triton as usual and compiles what is
missing; every later one passes raw addresses to the same compiled kernels, which costs the host a
fraction. A recording is valid for one combination of shapes, strides, dtypes, alignments and
options; whoever keeps recordings puts all of those into the key (see `facts_of`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor


def launch_options(warps: int, stages: int | None = None, *, early: bool = False) -> dict[str, Any]:
    """How a kernel is compiled and launched. `early`: it may take its places before the kernel
    before has ended (programmatic dependent launch), and waits by `device.overlap`."""
    options: dict[str, Any] = {"num_warps": warps, "enable_fp_fusion": True}
    if stages is not None:
        options["num_stages"] = stages
    if early:
        options["launch_pdl"] = True
    return options


Bundle = TypeVar("Bundle", bound=tuple[Any, ...])


def strides(kind: type[Bundle], tensor: Tensor | None) -> Bundle:
    """A tensor's strides as a bundle with one field per axis; zeros where it is not given."""
    make: Any = kind
    return make(*([0] * len(make._fields) if tensor is None else tensor.stride()))


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
    """One compiled kernel. `pointers` and `bundles` say where addresses go among the `values`, and
    which ones; `views` the same of descriptors."""

    compiled: Any
    grid: tuple[int, int, int]
    values: list[Any]
    pointers: list[tuple[int, int]]
    bundles: list[tuple[int, Callable[[list[Any]], Any]]]
    views: list[tuple[int, int, Any]]


def facts_of(tensors: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """What a compiled kernel may depend on in a tensor: size, stride, dtype, place, alignment."""
    return tuple(
        [
            None if t is None else (t.shape, t.stride(), t.dtype, t.device, t.data_ptr() % 16 == 0)
            for t in tensors
        ]
    )


class Recording:
    """A sequence of launches; `add` them in order, then `run` with the tensors of each call, of
    which there are `inputs`."""

    def __init__(self, inputs: int) -> None:
        self._inputs = inputs
        self._extra: list[tuple[tuple[int, ...], torch.dtype]] = []
        self._plan: list[tuple[Any, int, dict[str, Any], dict[str, Any]]] = []
        self._steps: list[_Step] = []
        self._works: list[Work] = []
        self._scratch = 0
        #: What stands behind the addresses of a call: parts of bundles that never change.
        self._fixed: list[Any] = []

    def work(self, *shape: int) -> Work:
        """Reserve fp32 scratch, 128-byte aligned."""
        found = Work(self._scratch, math.prod(shape))
        self._scratch += -(-found.count // 32) * 32
        self._works.append(found)
        return found

    def tensor(self, *shape: int, dtype: torch.dtype) -> Arg:
        """Reserve a tensor of its own: scratch of another dtype than fp32."""
        self._extra.append((shape, dtype))
        return Arg(self._inputs + len(self._extra) - 1)

    def add(self, kernel: Any, grid: int, options: dict[str, Any], **arguments: Any) -> None:
        """One launch of `grid` programs; `arguments` by the kernel's parameter names. A NamedTuple
        among them is one parameter of the kernel: a bundle of tensors, or of numbers."""
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
        addresses = [None if t is None else t.data_ptr() for t in tensors]
        if scratch is not None:
            base = scratch.data_ptr()
            addresses += [base + 4 * work.start for work in self._works]
        addresses += self._fixed
        for compiled, grid, template, pointers, bundles, views in self._steps:
            values = template.copy()
            for at, index in pointers:
                values[at] = addresses[index]
            for at, pick in bundles:
                values[at] = pick(addresses)
            for at, index, like in views:
                values[at] = _Bound(like, tensors[index])
            compiled[grid](*values)

    def _first(self, tensors: Sequence[Any], scratch: Tensor | None) -> None:
        self._fixed = []
        steps = []
        for kernel, grid, arguments, options in self._plan:
            given: dict[str, Any] = {}
            pointers, bundles, views = [], [], []
            for at, name in enumerate(kernel.arg_names):
                value = arguments[name] if name in arguments else options[name]
                if isinstance(value, View):
                    given[name] = value.make(tensors[value.index])
                    like = copy.copy(given[name])
                    like.base = None
                    views.append((at, value.index, like))
                    continue
                given[name] = self._resolved(value, tensors, scratch)
                if isinstance(value, Arg | Work):
                    if given[name] is not None:
                        pointers.append((at, self._index(value)))
                elif _holds_tensors(value):
                    bundles.append((at, itemgetter(*map(self._index, value))))
            compiled = kernel[(grid,)](**{**options, **given})
            values = list(given.values())
            steps.append(_Step(compiled, (grid, 1, 1), values, pointers, bundles, views))
        # A kernel that was interpreted left nothing to launch again.
        if all(step.compiled is not None for step in steps):
            for step in steps:
                for at, *_ in (*step.pointers, *step.bundles, *step.views):
                    step.values[at] = None
            self._steps = steps

    def _resolved(self, value: Any, tensors: Sequence[Any], scratch: Tensor | None) -> Any:
        """What the kernel is first launched with for one argument."""
        if isinstance(value, Arg):
            return tensors[value.index]
        if isinstance(value, Work):
            assert scratch is not None
            return scratch[value.start : value.start + value.count]
        if _holds_tensors(value):
            return type(value)(*(self._resolved(part, tensors, scratch) for part in value))
        return value

    def _index(self, value: Any) -> int:
        """Where an argument, or a part of a bundle, stands among a call's addresses."""
        if isinstance(value, Arg):
            return value.index
        tensors = self._inputs + len(self._extra)
        if isinstance(value, Work):
            return tensors + self._works.index(value)
        self._fixed.append(value)
        return tensors + len(self._works) + len(self._fixed) - 1


def _holds_tensors(value: Any) -> bool:
    """Whether it is a bundle with a tensor in it."""
    bundle = isinstance(value, tuple) and not isinstance(value, Arg | Work)
    return bundle and any(isinstance(part, Arg | Work) for part in value)
