"""Linear attention with decay over a prompt and for one token."""

from ssmprof_kernels.linear_attention.prefill import gla, lightning, retention, scan
from ssmprof_kernels.linear_attention.step import gla_step, lightning_step, retention_step, step

__all__ = [
    "gla",
    "gla_step",
    "lightning",
    "lightning_step",
    "retention",
    "retention_step",
    "scan",
    "step",
]
