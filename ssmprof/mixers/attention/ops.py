"""Who runs attention: SDPA by backend, our decode kernel; and who turns queries and keys."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ssmprof.mixers.attention.sdpa import Backend, attention_decode, attention_prefill
from ssmprof.mixers.finding import Find, Ours, Plain
from ssmprof.mixers.ops import Candidates

_LAST = frozenset({"sdpa", "sdpa-math"})
_BACKENDS = ("sdpa-cudnn", "sdpa-flash", "sdpa-efficient", "sdpa", "sdpa-math")


def _sdpa(call: Callable[..., Tensor]) -> dict[str, Find]:
    return {name: Backend(call, name) for name in _BACKENDS}


def _without_rows(
    kernel: Callable[..., Tensor],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    rows: int,
    **options: Tensor,
) -> Tensor:
    """The kernel reads the lengths on the device, so that a graph stays valid as they grow."""
    return kernel(q, k, v, lengths, **options)


OPS = {
    # It writes the same rows of its caches again, so that no copy is needed to time it.
    "rotary": Candidates(
        "rope",
        {"ssmprof": Ours("rotary.op", "rotary"), "torch": Plain("rotary.reference", "rotary")},
    ),
    "attention_prefill": Candidates("attention", _sdpa(attention_prefill), last=_LAST),
    "attention_decode": Candidates(
        "attention",
        {
            "ssmprof": Ours("attention.op", "attention_decode", _without_rows),
            **_sdpa(attention_decode),
            "reference": Plain("attention.reference", "attention_decode", _without_rows),
        },
        last=_LAST | {"reference"},
    ),
}
