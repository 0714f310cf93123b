"""What a recurrence runs one after the other: kernels that wait for each other, however short.

A plain form walks from chunk to chunk and cuDNN's units from token to token, a few launches each
time: what such a call takes is their number. The numbers are read off the implementations; a test
holds them against the launches that runs counted.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ssmprof.records import Point

#: Tokens of a chunk of our kernels, and of the plain forms.
KERNEL_CHUNK = 64
#: Tokens that plain forms prepare together, and Mamba-3's and the matrix LSTM's.
SPAN = 1024
SHORT_SPAN = 256

#: Launches per chunk of a walk over a matrix state: three products, two sums, a copy, a decay; two
#: more where the state is first asked what it knows (delta rules).
WALK, DELTA_WALK = 7, 9


class Steps(NamedTuple):
    """Kernels that one call launches one after the other, beside the few of every sub-layer.

    `launches` are made by Python, one op each; `native` ones by a library within an op.
    `moved_bytes` are what the steps read and write beyond the work of the sub-layer: weights again
    and again, or every token's state.
    """

    launches: int = 0
    native: int = 0
    moved_bytes: int = 0


class Loops(NamedTuple):
    """A plain form: so many launches per chunk, and so many for each span of `tokens`.

    `within` are kernels per chunk that a GPU launches beyond one per op: copies before products.
    """

    chunk: int = 0
    span: int = 0
    tokens: int = SPAN
    within: int = 0

    def steps(self, point: Point) -> Steps:
        """Those of a prompt, whatever its batch; a decode step has none."""
        if point.phase == "decode":
            return Steps()
        chunks, spans = (math.ceil(point.tokens / size) for size in (KERNEL_CHUNK, self.tokens))
        return Steps(self.chunk * chunks + self.span * spans, native=self.within * chunks)
