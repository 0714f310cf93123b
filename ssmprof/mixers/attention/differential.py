"""The difference of two attention maps (arXiv:2410.05258, section 2.1).

Heads stand in pairs: one map is that of the first head of a pair, the other that of the second,
and both weigh the values of both heads, 2 dv wide. Four learned vectors say how much of the second
map is taken away; what is left is normed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ssmprof.mixers.attention.shape import Attention
from ssmprof.mixers.building import Building
from ssmprof.mixers.norm.block import RMSNorm
from ssmprof.mixers.weights import frozen
from ssmprof.scopes import scope

# lambda_init = 0.8 - 0.6 exp(-0.3 depth) (equation 3), that of a deep layer.
SHARE = 0.8


class Difference(nn.Module):
    """What stands between the scores and the output projection."""

    def __init__(self, part: Attention, building: Building) -> None:
        super().__init__()
        self.vectors = nn.ParameterList(
            frozen(building.weights.uniform(part.head_dim, low=-0.1, high=0.1, float32=True))
            for _ in range(4)
        )
        self.norm = RMSNorm(2 * part.v_dim, building)

    def forward(
        self, attend: Callable[[Tensor, Tensor, Tensor], Tensor], q: Tensor, k: Tensor, v: Tensor
    ) -> Tensor:
        """q (..., Hq, dh), k and v (..., Hk, dh) -> (..., Hq dh); `attend` maps half the heads.

        Each map is attended with twice, since kernels take values as wide as keys.
        """
        with scope("attention", "attention"):
            first, second = (
                torch.cat(
                    [
                        attend(q[..., one::2, :], k[..., one::2, :], v[..., other::2, :])
                        for other in range(2)
                    ],
                    -1,
                )
                for one in range(2)
            )
        with scope("difference"):
            q1, k1, q2, k2 = self.vectors
            share = torch.exp(q1 @ k1) - torch.exp(q2 @ k2) + SHARE
            first.addcmul_(second, -share.to(first.dtype))
            del second
            return self.norm(first).mul_(1 - SHARE).flatten(-2)
