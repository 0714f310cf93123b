"""Who runs the scan of the RG-LRU and its step: plain torch."""

from __future__ import annotations

from ssmprof.mixers.finding import Plain
from ssmprof.mixers.ops import Candidates

OPS = {
    "rglru_scan": Candidates({"reference": Plain("rglru", "rglru_scan")}),
    "rglru_step": Candidates({"reference": Plain("rglru", "rglru_step")}, mutates=0),
}
