"""How its ops and kernels are called, here and in other packages: regular expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssmprof.records import Family

OPS: dict[Family, str] = {
    "scan": r"^_?cudnn_rnn ^mkldnn_rnn ^_thnn_fused_(lstm|gru)_cell ^(lstm|gru)(_cell)?$",
}
KERNELS: dict[Family, str] = {
    "scan": r"RNN_block persistRNN elemWiseRNNcell LSTM_elementWise GRU_elementWise",
}
