"""Who runs the scan of Mamba-3 and its step: our kernels, or plain torch."""

from __future__ import annotations

from ssmprof.mixers.finding import Ours, Plain
from ssmprof.mixers.ops import Candidates

LAST = frozenset({"reference"})
OPS = {
    "mamba3_scan": Candidates(
        "scan",
        {
            "ssmprof": Ours("mamba3", "mamba3_scan"),
            "reference": Plain("reference.mamba3", "mamba3_scan"),
        },
        last=LAST,
    ),
    "mamba3_step": Candidates(
        "scan",
        {
            "ssmprof": Ours("mamba3", "mamba3_step"),
            "reference": Plain("reference.mamba3", "mamba3_step"),
        },
        last=LAST,
        mutates=0,
    ),
}
