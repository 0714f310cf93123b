"""Cost of a feed-forward sub-layer: SwiGLU, GELU or squared ReLU."""

from __future__ import annotations

from ssmprof.costs.pieces import Parts, elementwise, matmul, work
from ssmprof.records import Point
from ssmprof.spec import DTYPE_BYTES, BlockSpec

# FLOPs and special functions of one output of the activation. GELU's erf is one special function.
ACTIVATION = {"swiglu": (3, 2), "gelu": (5, 1), "relu2": (2, 0)}


def mlp(spec: BlockSpec, point: Point) -> Parts:
    """Up and down projections and the activation between them."""
    assert spec.mlp is not None
    m, b = spec.mlp, DTYPE_BYTES[point.dtype]
    tokens = point.batch * (1 if point.phase == "decode" else point.context)
    width = (2 if m.kind == "swiglu" else 1) * m.d_ff
    flops, exps = ACTIVATION[m.kind]
    outputs = tokens * m.d_ff
    return {
        "up": matmul(tokens, spec.d_model, width, b),
        "act": work(
            flops=outputs * flops,
            read=tokens * width * b,
            written=outputs * b,
            exps=outputs * exps,
        ),
        "down": matmul(tokens, m.d_ff, spec.d_model, b),
    }


def mean(spec: BlockSpec, point: Point) -> Parts:
    """Adding the output of one more sub-layer that runs side by side with another."""
    tokens = point.batch * (1 if point.phase == "decode" else point.context)
    b = DTYPE_BYTES[point.dtype]
    return {"mean": elementwise(tokens * spec.d_model, b, reads=2, flops=1)}
