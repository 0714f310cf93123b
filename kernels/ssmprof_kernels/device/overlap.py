"""How a kernel begins while its predecessor ends (programmatic dependent launch, from sm_90 on).

A kernel that is launched with `launch_pdl` calls `await_previous` before it touches memory:
whatever it reads, weights too, the predecessor may have written, and what it writes the predecessor
may still read. Every program waits, so that the end of one kernel implies the end of all before it.
The predecessor lets it take its place early by `let_next_start`, the first thing that the decode
kernels do; one that knows nothing of this is simply waited for.

The one thing allowed before the wait is a prefetch into L2, the place where all multiprocessors
agree on what memory holds: it brings lines nearer and hands no value to anybody.
"""

# Kernel parameters and launch options are not what a type checker takes them for.
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

import torch
import triton
import triton.language as tl

from ssmprof_kernels import door, launch


def possible(device: torch.device) -> bool:
    """Whether kernels on `device` can overlap: Hopper and later, not in Triton's interpreter."""
    return launch.facts(device).sm >= 90 and not door.interpreted()


@triton.jit
def let_next_start(EARLY: tl.constexpr):
    """Let the next kernel's programs take their places; they wait in `await_previous`."""
    if EARLY:
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def await_previous(OVERLAP: tl.constexpr):
    """Until the kernel before has ended and its stores can be read."""
    if OVERLAP:
        tl.extra.cuda.gdc_wait()


@triton.jit
def prefetch_span(first, BYTES: tl.constexpr):
    """Bring `BYTES` contiguous bytes from the pointer `first` into L2; multiples of 16 both."""
    tl.inline_asm_elementwise(
        "{ .reg .pred one; .reg .b32 at; mov.u32 at, %tid.x; setp.eq.u32 one, at, 0;"
        " @one cp.async.bulk.prefetch.L2.global [$1], $2; mov.u32 $0, 0; }",
        "=r,l,r", [first.to(tl.int64), BYTES], dtype=tl.int32, is_pure=False, pack=1,
    )  # fmt: skip
