"""Who runs the scan of Mamba-3 and its step: plain torch."""

from __future__ import annotations

from ssmprof.mixers.finding import Plain
from ssmprof.mixers.ops import Candidates

LAST = frozenset({"reference"})
OPS = {
    "mamba3_scan": Candidates({"reference": Plain("reference.mamba3", "mamba3_scan")}, last=LAST),
    "mamba3_step": Candidates(
        {"reference": Plain("reference.mamba3", "mamba3_step")}, last=LAST, mutates=0
    ),
}
