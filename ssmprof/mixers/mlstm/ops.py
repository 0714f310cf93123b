"""Who runs the matrix LSTM and its step: plain torch."""

from __future__ import annotations

from ssmprof.mixers.finding import Plain
from ssmprof.mixers.ops import Candidates

LAST = frozenset({"reference"})
OPS = {
    "mlstm_scan": Candidates(
        "scan", {"reference": Plain("reference.mlstm", "mlstm_scan")}, last=LAST
    ),
    "mlstm_step": Candidates(
        "scan", {"reference": Plain("reference.mlstm", "mlstm_step")}, last=LAST, mutates=0
    ),
}
