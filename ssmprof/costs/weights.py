"""Parameters of a block from its sizes: tensor by tensor, as `ssmprof.blocks` makes them."""

from __future__ import annotations

from typing import NamedTuple

from ssmprof.costs.state_space import conv_channels, dt_rank
from ssmprof.spec import STORED_BITS, SUBLAYERS, BlockSpec, StoredDtype


class Weight(NamedTuple):
    """One parameter tensor; `float32` ones keep their dtype whatever the model's."""

    elements: int
    float32: bool = False


def sublayer_weights(spec: BlockSpec, name: str) -> list[Weight]:
    """Parameter tensors of one sub-layer, its norm not included."""
    d = spec.d_model
    if name == "attention":
        assert spec.attention is not None
        a = spec.attention
        width = (a.heads + 2 * a.kv_heads) * a.head_dim
        bias = [Weight(width)] if a.qkv_bias else []
        return [Weight(d * width), *bias, Weight(a.heads * a.head_dim * d)]
    if name == "mlp":
        assert spec.mlp is not None
        up = (2 if spec.mlp.kind == "swiglu" else 1) * spec.mlp.d_ff
        return [Weight(d * up), Weight(spec.mlp.d_ff * d)]
    assert spec.state is not None
    s = spec.state
    channels = conv_channels(s, name)
    conv = [Weight(channels * s.d_conv), Weight(channels)]
    if name == "mamba2":
        norm = [Weight(s.d_inner)] if s.gated_norm else []
        return [
            Weight(d * (s.d_inner + channels + s.nheads)),
            *conv,
            *[Weight(s.nheads, float32=True)] * 3,
            *norm,
            Weight(s.d_inner * d),
        ]
    rank = dt_rank(spec)
    return [
        Weight(d * 2 * s.d_inner),
        *conv,
        Weight(s.d_inner * (rank + 2 * s.d_state)),
        Weight(rank * s.d_inner),
        *[Weight(s.d_inner, float32=True)] * 2,
        Weight(s.d_inner * s.d_state, float32=True),
        Weight(s.d_inner * d),
    ]


def weights(spec: BlockSpec) -> list[Weight]:
    """Every parameter tensor of the block, embedding and an untied head included."""
    found = [Weight(spec.d_model)] * (len(spec.pattern) * spec.depth)
    for name in SUBLAYERS:
        if count := spec.count(name):
            found += sublayer_weights(spec, name) * count
    if spec.vocab is not None:
        table = Weight(spec.vocab * spec.d_model)
        found += [table, Weight(spec.d_model)] + ([] if spec.tie_embeddings else [table])
    return found


def parameters(spec: BlockSpec) -> int:
    """Number of parameters; a tied head counts once."""
    return sum(weight.elements for weight in weights(spec))


def weight_bytes(weight: Weight, dtype: StoredDtype) -> int:
    """Bytes of one parameter tensor; scales of a quantised one are not counted."""
    return stored_bytes(weight.elements, "float32" if weight.float32 else dtype)


def stored_bytes(elements: int, dtype: StoredDtype) -> int:
    """Bytes of so many elements, the last byte begun counted whole."""
    return -(-elements * STORED_BITS[dtype] // 8)
