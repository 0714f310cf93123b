"""A state that is written once in many tokens: its ring, and how it becomes whole again.

Who runs the steps may change between them, and a prompt may follow steps: whoever reads the state
itself asks for it here.
"""

from __future__ import annotations

from ssmprof_kernels.ring_update import Ring, new_ring, restart, settle
from torch import Tensor

from ssmprof.mixers.cache import Pending, StateCache
from ssmprof.mixers.ops import Op

#: Provider of `selective_state_update` that keeps a ring.
RING = "ssmprof-ring"
#: Tokens between two writings. With a decay per element (Mamba-1) each step rebuilds the state, so
#: that a longer ring costs more than it saves.
TIED, FULL = 16, 4


def is_tied(A: Tensor) -> bool:
    """Whether A (H, P, N) is one rate per head."""
    return A.dim() == 1 or (A.dim() == 3 and A.stride()[1:] == (0, 0))


def ring_of(pending: Pending, state: Tensor, x: Tensor, A: Tensor, B: Tensor) -> Ring:
    """The ring of a state, made at its first use; its tokens count from now on."""
    if pending.ring is None:
        tied = is_tied(A)
        pending.ring = new_ring(state, x, B, tied=tied, tokens=TIED if tied else FULL)
    pending.live = True
    return Ring(*pending.ring)


def planned(op: Op, state: Tensor, x: Tensor, A: Tensor, B: Tensor) -> Pending:
    """What a new cache holds: a ring where `op` is run by who keeps one."""
    pending = Pending()
    if op.name == RING:
        ring_of(pending, state, x, A, B)
    return pending


def settled(cache: StateCache, A: Tensor) -> Tensor:
    """The state of a cache, which has seen all tokens."""
    complete(cache.pending, cache.ssm, A)
    return cache.ssm


def complete(pending: Pending, state: Tensor, A: Tensor) -> None:
    """Apply what is pending, in place."""
    if pending.live and pending.ring is not None:
        settle(state, Ring(*pending.ring), A)
        pending.live = False


def replaced(pending: Pending) -> None:
    """A prompt has left a new state: nothing is pending any more."""
    if pending.ring is not None:
        restart(Ring(*pending.ring))
    pending.live = False
