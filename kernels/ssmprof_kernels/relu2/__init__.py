"""The squared rectifier of a feed-forward layer: `op.relu2`."""

from ssmprof_kernels.relu2.op import relu2

__all__ = ["relu2"]
