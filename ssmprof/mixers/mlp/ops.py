"""Who runs SwiGLU and the squared rectifier: our kernels, or torch in two passes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ssmprof.mixers.finding import Always, Ours, Plain
from ssmprof.mixers.ops import Candidates


def _swiglu(hidden: Tensor) -> Tensor:
    gate, value = hidden.chunk(2, dim=-1)
    return F.silu(gate).mul_(value)


OPS = {
    "swiglu": Candidates(None, {"ssmprof": Ours("swiglu.op", "swiglu"), "torch": Always(_swiglu)}),
    "relu2": Candidates(
        None,
        {"ssmprof": Ours("relu2.op", "relu2"), "torch": Plain("relu2.reference", "relu2")},
        mutates=0,
    ),
}
