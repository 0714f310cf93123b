"""What an implementation of a recurrence holds while it reads a prompt, beside inputs and outputs.

Our kernels keep what their chunks hand on, and plain forms a span of tokens in float32. The sizes
are read off the implementations; tests hold them together.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from ssmprof.mixers.part import MIB
from ssmprof.mixers.steps import KERNEL_CHUNK, SPAN
from ssmprof.scalars import DTYPE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ssmprof.mixers.part import Part
    from ssmprof.records import Point

#: Our kernels or cuDNN, the plain form, or one that is left out of the count.
Form = Literal["kernels", "plain", "none"]

#: Elements of a chunk of Mamba-1's plain form on a GPU.
SCAN_ELEMENTS = 1 << 23


def form_of(part: Part, providers: Mapping[str, str]) -> Form:
    """Which implementation reads a prompt where these providers are forced."""
    match providers.get(part.scan_op, "ssmprof"):
        case "ssmprof":
            return "kernels"
        case "reference":
            return "plain"
        case _:
            return "none"


def by_chunks(point: Point, size: float, chunk: int = KERNEL_CHUNK) -> int:
    """Bytes of chunks that hand on `size` each; none in a decode step."""
    if point.phase == "decode":
        return 0
    return int(point.batch * math.ceil(point.context / chunk) * size)


def by_span(point: Point, widths: float, span: int = SPAN) -> int:
    """Bytes of a span of tokens, float32, of so many features; none in a decode step."""
    if point.phase == "decode":
        return 0
    return int(point.batch * min(point.context, span) * widths * 4)


def squares(point: Point, count: int, chunk: int = KERNEL_CHUNK) -> float:
    """Bytes of a chunk's matrices of (tokens, tokens), of the point's dtype."""
    return count * chunk**2 * DTYPE_BYTES[point.dtype]


def tile(width: int) -> int:
    """Features that a kernel's tile of so many has: a power of two."""
    return max(16, 1 << (width - 1).bit_length())


def cudnn(point: Point, weights: int) -> int:
    """Workspace of a recurrent layer of so many weights: seen on an H200, in 16 bits twice their
    bytes and about 10 MiB."""
    size = DTYPE_BYTES[point.dtype]
    return 2 * weights * size + 10 * MIB if size < 4 else 0
