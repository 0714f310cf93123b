"""A decode step of Mamba-1 or Mamba-2 that writes its state once in many tokens."""

from ssmprof_kernels.ring_update.op import ring_state_update, settle
from ssmprof_kernels.ring_update.ring import Ring, new_ring, restart

__all__ = ["Ring", "new_ring", "restart", "ring_state_update", "settle"]
