"""Who runs the scan of the RG-LRU and its step: plain torch."""

from __future__ import annotations

from ssmprof.mixers.finding import Plain
from ssmprof.mixers.ops import Candidates

LAST = frozenset({"reference"})
OPS = {
    "rglru_scan": Candidates(
        "scan", {"reference": Plain("reference.rglru", "rglru_scan")}, last=LAST
    ),
    "rglru_step": Candidates(
        "scan", {"reference": Plain("reference.rglru", "rglru_step")}, last=LAST, mutates=0
    ),
}
