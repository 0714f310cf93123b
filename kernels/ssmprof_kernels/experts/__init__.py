"""Products of a mixture of experts (arXiv:1701.06538): rows sorted by expert, all at once."""

from ssmprof_kernels.experts.op import grouped_mm

__all__ = ["grouped_mm"]
