"""A kernel of known duration: it reads the device's global timer until so much time has passed.

It stores how long it spun by that timer, which no event, graph or profiler has a part in. Needs
Triton and a CUDA device.
"""
# The checker takes a Triton kernel for Python.
# pyright: reportOperatorIssue=false, reportCallIssue=false

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


def sm_clock_hz(seconds: float = 200e-6) -> float:
    """The SM clock of this moment, counted on the device itself."""
    spin = Spin(seconds)
    spin()
    return spin.clock_hz()
