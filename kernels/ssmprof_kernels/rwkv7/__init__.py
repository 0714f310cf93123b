"""RWKV-7's rule over a prompt and for one token."""

from ssmprof_kernels.rwkv7.prefill import rwkv7, scan
from ssmprof_kernels.rwkv7.step import rwkv7_step

__all__ = ["rwkv7", "rwkv7_step", "scan"]
