"""Linear attention with decay over a prompt and for one token."""

from ssmprof_kernels.linear_attention.prefill import gla, lightning, retention, scan

__all__ = ["gla", "lightning", "retention", "scan"]
