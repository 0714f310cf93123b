"""How its ops and kernels are called, here and in other packages: regular expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssmprof.records import Family

OPS: dict[Family, str] = {
    "scan": r"chunk_scan ssd_scan ssd_chunk mamba_(split|chunk)",
}
KERNELS: dict[Family, str] = {
    "scan": r"_chunk_cumsum chunk_state _state_passing bmm_chunk _chunk_scan ssd_ _ssd\b mamba2_",
}
