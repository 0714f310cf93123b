"""How its ops and kernels are called, here and in other packages: regular expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssmprof.records import Family

OPS: dict[Family, str] = {}
KERNELS: dict[Family, str] = {
    "scan": r"wkv chunk_(dplr|rwkv) wu_fwd",
}
