"""Mamba-3 (arXiv:2603.15569): the scan of a prompt and the step of a token."""

from ssmprof_kernels.mamba3.op import mamba3_scan
from ssmprof_kernels.mamba3.step import mamba3_step

__all__ = ["mamba3_scan", "mamba3_step"]
