"""Who runs RWKV-7's rule: fla, plain torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ssmprof.mixers.finding import Package, Plain
from ssmprof.mixers.ops import Candidates
from ssmprof.mixers.rwkv7.shape import LOWEST
from ssmprof.mixers.state_update.ops import with_state


def _chunks(
    call: Callable[..., Any],
    r: Tensor,
    w: Tensor,
    k: Tensor,
    v: Tensor,
    kk: Tensor,
    a: Tensor,
    *,
    initial_state: Tensor | None = None,
    return_final_state: Any = False,
) -> Any:
    """As fla's own layer calls it: the bound of log decays lets it use matrix units."""
    found = call(
        r,
        w,
        k,
        v,
        -kk,
        kk * a,
        scale=1.0,
        initial_state=None if initial_state is None else initial_state.float(),
        output_final_state=return_final_state is not False,
        safe_gate=True,
        lower_bound=LOWEST,
        chunk_size=64,
    )
    return found[0] if return_final_state is False else with_state(found, return_final_state)


def _step(call: Callable[..., Any], state: Tensor, *inputs: Tensor) -> Tensor:
    """One token as a sequence; fla returns a new state, which is copied to where ours lies."""
    y, new = call(
        *(x.unsqueeze(1) for x in inputs),
        scale=1.0,
        initial_state=state.float(),
        output_final_state=True,
    )
    state.copy_(new)
    return y.squeeze(1)


OPS = {
    "rwkv7": Candidates(
        {
            "fla": Package("fla.ops.rwkv7", "chunk_rwkv7", _chunks),
            "reference": Plain("rwkv7", "rwkv7"),
        },
        last=frozenset({"reference"}),
    ),
    "rwkv7_step": Candidates(
        {
            "fla": Package("fla.ops.rwkv7", "fused_mul_recurrent_rwkv7", _step),
            "reference": Plain("rwkv7", "rwkv7_step"),
        },
        last=frozenset({"reference"}),
        mutates=0,
    ),
}
