"""Every operation in plain torch: the oracle of the tests and the provider on a CPU.

Promises: per operation a sequential form that follows the recurrence token by token (fp64 capable),
and a fast form with the signature of the kernel.
"""

from ssmprof_kernels.reference.selective_scan import selective_scan, selective_scan_sequential
from ssmprof_kernels.reference.ssd import ssd_scan, ssd_scan_sequential
from ssmprof_kernels.reference.state_update import (
    selective_state_update,
    selective_state_update_sequential,
)

__all__ = [
    "selective_scan",
    "selective_scan_sequential",
    "selective_state_update",
    "selective_state_update_sequential",
    "ssd_scan",
    "ssd_scan_sequential",
]
