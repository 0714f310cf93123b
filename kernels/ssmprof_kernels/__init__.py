"""State-space operations for GPUs in pure Triton: importing is enough, no build step.

Promises: each operation takes tensors as they lie in memory (any strides), names a wrong argument
in one ValueError before any launch, runs its plain torch form on a CPU, and never copies from the
device to the host. Forwards only: an input that wants a gradient while gradients are recorded is
refused with one RuntimeError, on a GPU and on a CPU alike. State slots, pages and sequence ids
below 0 are padding. `OPS` lists the operations with both plain forms, so that a test or a benchmark
can iterate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ssmprof_kernels import reference
from ssmprof_kernels.attention.op import attention_decode
from ssmprof_kernels.conv.op import causal_conv1d
from ssmprof_kernels.conv.update import causal_conv1d_update
from ssmprof_kernels.experts import grouped_mm
from ssmprof_kernels.gated_delta import gated_delta, gated_delta_step, kda, kda_step
from ssmprof_kernels.latent import latent_decode, latent_rotary
from ssmprof_kernels.linear_attention.op import gla, lightning, retention
from ssmprof_kernels.linear_attention.step import gla_step, lightning_step, retention_step
from ssmprof_kernels.mamba3 import mamba3_scan, mamba3_step
from ssmprof_kernels.norm.op import gated_rmsnorm
from ssmprof_kernels.relu2 import relu2
from ssmprof_kernels.ring_update import ring_state_update
from ssmprof_kernels.rwkv7.keys import rwkv7_keys
from ssmprof_kernels.rwkv7.op import rwkv7
from ssmprof_kernels.rwkv7.output import rwkv7_output
from ssmprof_kernels.rwkv7.shift import token_shift
from ssmprof_kernels.rwkv7.step import rwkv7_step
from ssmprof_kernels.selective_scan.op import selective_scan
from ssmprof_kernels.ssd.op import ssd_scan
from ssmprof_kernels.state_update.op import selective_state_update

__version__ = "0.1.0"

__all__ = [
    "OPS",
    "Op",
    "attention_decode",
    "causal_conv1d",
    "causal_conv1d_update",
    "gated_delta",
    "gated_delta_step",
    "gated_rmsnorm",
    "gla",
    "gla_step",
    "grouped_mm",
    "kda",
    "kda_step",
    "latent_decode",
    "latent_rotary",
    "lightning",
    "lightning_step",
    "mamba3_scan",
    "mamba3_step",
    "relu2",
    "retention",
    "retention_step",
    "ring_state_update",
    "rwkv7",
    "rwkv7_keys",
    "rwkv7_output",
    "rwkv7_step",
    "selective_scan",
    "selective_state_update",
    "ssd_scan",
    "token_shift",
]


class Op(NamedTuple):
    """A kernel, the plain torch form of the same signature, and the fp64-capable walk."""

    kernel: Callable[..., Any]
    plain: Callable[..., Any]
    sequential: Callable[..., Any]


OPS: dict[str, Op] = {
    kernel.__name__: Op(
        kernel,
        getattr(reference, kernel.__name__),
        getattr(reference, f"{kernel.__name__}_sequential"),
    )
    for kernel in (
        ssd_scan,
        selective_scan,
        selective_state_update,
        causal_conv1d,
        causal_conv1d_update,
        gated_rmsnorm,
        attention_decode,
        gla,
        gla_step,
        grouped_mm,
        latent_decode,
        latent_rotary,
        lightning,
        lightning_step,
        mamba3_scan,
        mamba3_step,
        retention,
        retention_step,
        ring_state_update,
        rwkv7,
        rwkv7_step,
        rwkv7_keys,
        rwkv7_output,
        token_shift,
        relu2,
        gated_delta,
        gated_delta_step,
        kda,
        kda_step,
    )
}
