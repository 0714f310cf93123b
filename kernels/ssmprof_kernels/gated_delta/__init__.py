"""The delta rules: without decay, with one per head (gated) or one per key feature (KDA)."""

from ssmprof_kernels.gated_delta.op import gated_delta, kda
from ssmprof_kernels.gated_delta.step import gated_delta_step, kda_step

__all__ = ["gated_delta", "gated_delta_step", "kda", "kda_step"]
