"""Gated DeltaNet (arXiv:2412.06464), as flash-linear-attention writes it."""

from __future__ import annotations

from ssmprof.mixers.delta.shape import GatedDelta
from ssmprof.models.config.fla import Fla, conv, fla_recipe, width
from ssmprof.models.config.keys import Factor
from ssmprof.models.config.reader import Family
from ssmprof.models.recipe import Recipe
from ssmprof.scalars import Size


class GatedDeltaNet(Fla, frozen=True, kw_only=True):
    """Keys of a gated DeltaNet; `expand_v` is of a head."""

    num_heads: Size = 6
    num_v_heads: Size | None = None
    head_dim: Size = 256
    expand_v: Factor = 2.0
    use_gate: bool = True
    use_short_conv: bool = True
    conv_size: Size = 4
    conv_bias: bool = False
    allow_neg_eigval: bool = False


def _gated_deltanet(keys: GatedDeltaNet, name: str) -> Recipe:
    part = GatedDelta(
        heads=keys.num_v_heads or keys.num_heads,
        key_heads=keys.num_heads,
        key_dim=keys.head_dim,
        value_dim=width(keys.head_dim, keys.expand_v, 1, "expand_v"),
        gate=keys.use_gate,
        d_conv=conv(keys, keys.use_short_conv, keys.conv_size),
        conv_bias=keys.conv_bias,
        negative_eigenvalues=keys.allow_neg_eigval,
    )
    return fla_recipe(keys, name, "gated_delta", part)


FAMILIES = {"gated_deltanet": Family(GatedDeltaNet, _gated_deltanet)}
