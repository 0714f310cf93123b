"""Kernels whose work is known: one spins, one only exponentiates, one reads the clocks.

The spin stores how long it took by the device's global timer, which no event, graph or profiler has
a part in. Needs Triton and a CUDA device.
"""
# The checker takes a Triton kernel for Python.
# pyright: reportOperatorIssue=false, reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import globaltimer


@triton.jit
def spin_kernel(spun_ptr, cycles_ptr, nanoseconds):
    """One warp that waits; stores nanoseconds spun and SM cycles passed."""
    first_cycle = tl.inline_asm_elementwise(
        "mov.u64 $0, %clock64;", "=l", [], dtype=tl.int64, is_pure=False, pack=1
    )
    start = globaltimer()
    now = start
    while now - start < nanoseconds:
        now = globaltimer()
    last_cycle = tl.inline_asm_elementwise(
        "mov.u64 $0, %clock64;", "=l", [], dtype=tl.int64, is_pure=False, pack=1
    )
    tl.store(spun_ptr, now - start)
    tl.store(cycles_ptr, last_cycle - first_cycle)


class Spin:
    """A call that occupies the device for `seconds` by its own timer."""

    def __init__(self, seconds: float) -> None:
        self._nanoseconds = round(seconds * 1e9)
        self._spun = torch.zeros(1, dtype=torch.int64, device="cuda")
        self._cycles = torch.zeros(1, dtype=torch.int64, device="cuda")

    def __call__(self) -> None:
        spin_kernel[(1,)](self._spun, self._cycles, self._nanoseconds, num_warps=1)

    def spun_s(self) -> float:
        """How long the latest call spun, in seconds of the device's timer; waits for it."""
        return self._spun.item() / 1e9

    def clock_hz(self) -> float:
        """SM clock during the latest call: cycles over seconds."""
        return self._cycles.item() / self.spun_s()


@triton.jit
def clock_stamp_kernel(stamp_ptr):
    """Stores SM cycles, nanoseconds of the global timer, and the multiprocessor they are of."""
    cycles = tl.inline_asm_elementwise(
        "mov.u64 $0, %clock64;", "=l", [], dtype=tl.int64, is_pure=False, pack=1
    )
    processor = tl.inline_asm_elementwise(
        "mov.u32 $0, %smid;", "=r", [], dtype=tl.int32, is_pure=False, pack=1
    )
    tl.store(stamp_ptr, cycles)
    tl.store(stamp_ptr + 1, globaltimer())
    tl.store(stamp_ptr + 2, processor.to(tl.int64))


class ClockSpan:
    """The mean SM clock of what runs on the stream between `begin` and `end`."""

    KERNEL = "clock_stamp_kernel"

    def __init__(self) -> None:
        self._stamps = torch.zeros(2, 3, dtype=torch.int64, device="cuda")
        self.begin()
        self.end()

    def begin(self) -> None:
        clock_stamp_kernel[(1,)](self._stamps[0], num_warps=1)

    def end(self) -> None:
        clock_stamp_kernel[(1,)](self._stamps[1], num_warps=1)

    def hz(self) -> float | None:
        """Cycles over seconds; None where the stamps come from two multiprocessors."""
        begin, end = self._stamps.tolist()
        if begin[2] != end[2] or end[1] <= begin[1]:
            return None
        return (end[0] - begin[0]) / (end[1] - begin[1]) * 1e9


@triton.jit
def exp_kernel(out_ptr, depth, BLOCK: tl.constexpr):
    """`depth` exponentials in a chain per element; x <- 2^-x stays within (0, 1]."""
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = (index % 97).to(tl.float32) * 0.01
    for _ in range(depth):
        value = tl.exp2(-value)
    # Reads: 0. Writes: one element each, against `depth` special-function results.
    tl.store(out_ptr + index, value)


class Exponentials:
    """A call of `count` special-function results and next to nothing else."""

    _BLOCK, _PROGRAMS = 1024, 132 * 64

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._out = torch.empty(self._BLOCK * self._PROGRAMS, device="cuda")
        self.count = depth * self._BLOCK * self._PROGRAMS

    def __call__(self) -> None:
        exp_kernel[(self._PROGRAMS,)](self._out, self._depth, BLOCK=self._BLOCK)
