"""What the device itself can do, measured in the same run as the kernels.

Promises: copy bandwidth (bytes read plus written), bf16 matrix rate, rate of base-2 exponentials
and the cost of one launch inside a CUDA graph; `shares` turns the cost of a cell into the fraction
of its time that each ceiling alone would need.
"""

# Launch options (num_warps ...) are no parameters of the Python function a kernel is written as.
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from dataclasses import dataclass

import timing
import torch
import triton
import triton.language as tl


@dataclass(frozen=True)
class Ceilings:
    """Rates in SI units per second; `launch_s` is one kernel node in a graph."""

    bytes_per_s: float
    flops_per_s: float
    exps_per_s: float
    launch_s: float


@triton.jit
def _exps(out_ptr, rounds, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = at.to(tl.float32) * 1e-6
    for _ in range(rounds):
        for _ in tl.static_range(16):  # pyright: ignore[reportGeneralTypeIssues]
            value = tl.exp2(value)
            value = -value
    tl.store(out_ptr + at, value)


@triton.jit
def _copy(source_ptr, target_ptr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target_ptr + at, tl.load(source_ptr + at))


@triton.jit
def _nothing(out_ptr):
    pass


def _copy_rate() -> float:
    source = torch.empty(1 << 28, dtype=torch.int32, device="cuda")
    target = torch.empty_like(source)
    grid = (source.numel() // 4096,)
    # The driver's copy is not always the fastest way to move bytes; the ceiling is the better one.
    ms = min(
        timing.graph_ms(lambda: target.copy_(source), k=3),
        timing.graph_ms(lambda: _copy[grid](source, target, BLOCK=4096), k=3),
    )
    return 2 * source.numel() * source.element_size() / ms * 1e3


def _matmul_rate(n: int = 8192) -> float:
    a = torch.randn(n, n, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(n, n, device="cuda", dtype=torch.bfloat16)
    return 2 * n**3 / timing.graph_ms(lambda: a @ b, k=3) * 1e3


def _exps_rate() -> float:
    sms = torch.cuda.get_device_properties(torch.cuda.current_device()).multi_processor_count
    programs, block, rounds = sms * 16, 512, 200
    out = torch.empty(programs * block, device="cuda")
    ms = timing.graph_ms(lambda: _exps[(programs,)](out, rounds, BLOCK=block))
    return programs * block * rounds * 16 / ms * 1e3


def _launch_s() -> float:
    out = torch.empty(1, device="cuda")
    many = timing.capture([lambda: _nothing[(1,)](out)] * 400)
    few = timing.capture([lambda: _nothing[(1,)](out)] * 200)
    return min((timing.replay_ms(many) - timing.replay_ms(few)) / 200 for _ in range(20)) / 1e3


def measure() -> Ceilings:
    """Measure all four on the current CUDA device, in about two seconds."""
    return Ceilings(_copy_rate(), _matmul_rate(), _exps_rate(), _launch_s())


def shares(
    ceilings: Ceilings, ms: float, moved_bytes: float, flops: float, exps: float
) -> dict[str, float]:
    """Fraction of `ms` that each ceiling alone would need, by ceiling name."""
    seconds = ms / 1e3
    return {
        "bandwidth": moved_bytes / ceilings.bytes_per_s / seconds,
        "matrix": flops / ceilings.flops_per_s / seconds,
        "exponentials": exps / ceilings.exps_per_s / seconds,
        "launch": ceilings.launch_s / seconds,
    }
