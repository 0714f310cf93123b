"""Cost of what surrounds the sub-layers: residuals and norms, embedding, final norm and head."""

from __future__ import annotations

from ssmprof.costs.pieces import Parts, elementwise, matmul, rms_norm, work
from ssmprof.records import Point
from ssmprof.spec import DTYPE_BYTES, BlockSpec

ID_BYTES = 8  # token ids are int64


def call_tokens(point: Point) -> int:
    """Tokens one call reads: the whole prompt, or one per sequence."""
    return point.batch * (1 if point.phase == "decode" else point.context)


def logit_rows(point: Point) -> int:
    """Positions whose logits one call returns."""
    if point.logits == "none":
        return 0
    return call_tokens(point) if point.logits == "all" else point.batch


def residual(spec: BlockSpec, point: Point) -> Parts:
    """Norm before and sum after the sub-layers of one entry of the pattern."""
    tokens, b = call_tokens(point), DTYPE_BYTES[point.dtype]
    return {
        "norm": rms_norm(tokens, spec.d_model, b),
        "add": elementwise(tokens * spec.d_model, b, reads=2, flops=2),
    }


def ends(spec: BlockSpec, point: Point) -> Parts:
    """Embedding and head of a model; nothing for layers alone."""
    if spec.vocab is None:
        return {}
    b, tokens, rows = DTYPE_BYTES[point.dtype], call_tokens(point), logit_rows(point)
    looked_up = tokens * spec.d_model * b
    parts = {"embedding": work(read=looked_up + tokens * ID_BYTES, written=looked_up)}
    if rows:
        parts["final.norm"] = rms_norm(rows, spec.d_model, b)
        parts["head"] = matmul(rows, spec.d_model, spec.vocab, b)
    return parts
