"""Cost of what surrounds the sub-layers: residuals and norms, embedding, final norm and head."""

from __future__ import annotations

from ssmprof.costs.pieces import (
    Parts,
    add_rms_norm,
    elementwise,
    matmul,
    rms_norm,
    times,
    total,
    work,
)
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


def norms(spec: BlockSpec, point: Point) -> Parts:
    """The norm before each entry of the pattern, which also adds what the entry before it made."""
    tokens, b = call_tokens(point), DTYPE_BYTES[point.dtype]
    later = len(spec.pattern) * spec.depth - 1
    first = rms_norm(tokens, spec.d_model, b)
    return {"norm": total((first, times(add_rms_norm(tokens, spec.d_model, b), later)))}


def ends(spec: BlockSpec, point: Point) -> Parts:
    """Embedding, final sum and norm, and head of a model; the final sum of layers alone."""
    b, tokens, rows = DTYPE_BYTES[point.dtype], call_tokens(point), logit_rows(point)
    parts: Parts = {}
    if spec.vocab is not None:
        looked_up = tokens * spec.d_model * b
        parts["embedding"] = work(read=looked_up + tokens * ID_BYTES, written=looked_up)
    if spec.vocab is None or not rows:
        parts["final.add"] = elementwise(tokens * spec.d_model, b, reads=2, flops=2)
    else:
        parts["final.norm"] = add_rms_norm(rows, spec.d_model, b)
        parts["head"] = matmul(rows, spec.d_model, spec.vocab, b)
    return parts
