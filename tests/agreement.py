"""How close a kernel must come to the fp64 oracle, in one place for every operation's tests.

Promises: `check` passes only if all three hold. The largest error is at most twice that of the
plain fp32 form (16 times for fp32 outputs) plus one unit in the last place of the output; an
operation that rounds factors to 16 bits for the matrix units says so, and then the largest error is
bound in units of the largest value. The RMS error relative to the RMS of the oracle stays below a
bound by dtype. The non-finite positions are the same.
"""

from __future__ import annotations

import torch

RMS_BOUND = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 5e-3}


def check(
    name: str,
    got: torch.Tensor,
    oracle: torch.Tensor,
    plain: torch.Tensor,
    *,
    rms_bound: float | None = None,
    precision: torch.dtype | None = None,
    matrix_ulps: float | None = None,
) -> float:
    """Relative RMS error of `got`; AssertionError with the figures if a criterion fails.

    Args:
        precision: dtype whose bounds hold, got's by default; that of the inputs for fp32 states.
        matrix_ulps: bound of the largest error in units of `precision` at the largest value.
    """
    assert got.shape == oracle.shape, f"{name}: shape {tuple(got.shape)} != {tuple(oracle.shape)}"
    precision = precision or got.dtype
    bound = RMS_BOUND[precision] if rms_bound is None else rms_bound
    eps = torch.finfo(precision).eps
    got, oracle, plain = got.double(), oracle.double(), plain.double()
    finite = oracle.isfinite()
    assert torch.equal(got.isfinite(), finite), f"{name}: non-finite values in other places"
    if not finite.any():
        return 0.0
    truth = oracle[finite]
    error = (got[finite] - truth).abs()
    if matrix_ulps is None:
        # fp32 outputs hide no rounding of the sums inside, whose order and exponentials differ.
        times = 16 if eps < 1e-6 else 2
        allowed = times * (plain[finite] - truth).abs().max() + eps * truth.abs() + 1e-30
    else:
        allowed = matrix_ulps * eps * truth.abs().max() + 1e-30
    worst = (error / allowed).max().item()
    size = truth.square().mean().sqrt().item()
    rms = error.square().mean().sqrt().item() / max(size, 1e-30)
    assert worst <= 1, f"{name}: error is {worst:.2f} times what is allowed (RMS {rms:.2e})"
    assert size == 0 or rms <= bound, f"{name}: relative RMS error {rms:.2e} > {bound:.0e}"
    return rms
