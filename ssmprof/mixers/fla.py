"""How the recurrences of flash-linear-attention are called: tokens before heads, float32 states.

Shape letters: B batch, L tokens, H heads, K and V width of a key and of a value. A state is
(B, H, K, V).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ssmprof.mixers.finding import Find, Ours, Package, Plain
from ssmprof.mixers.ops import Candidates
from ssmprof.mixers.state_update.ops import with_state


def prompt(
    call: Callable[..., Any],
    inputs: Sequence[Tensor],
    options: dict[str, Any],
    initial_state: Tensor | None,
    wanted: Any,
) -> Any:
    """A prompt, inputs (B, L, H, ...): y (B, L, H, V), with the state in the dtype `wanted`."""
    state = None if initial_state is None else initial_state.float()
    found = call(*inputs, initial_state=state, output_final_state=wanted is not False, **options)
    return found[0] if wanted is False else with_state(found, wanted)


def step(
    call: Callable[..., Any], state: Tensor, inputs: Sequence[Tensor], options: dict[str, Any]
) -> Tensor:
    """One token as a sequence, inputs (B, 1, H, ...): y (B, H, V).

    fla returns a new state, which is copied to where ours lies.
    """
    y, new = call(*inputs, initial_state=state.float(), output_final_state=True, **options)
    state.copy_(new)
    return y.squeeze(1)


def sequence(*tensors: Tensor) -> tuple[Tensor, ...]:
    """One token (B, ...) as a sequence of one, (B, 1, ...)."""
    return tuple(tensor.unsqueeze(1) for tensor in tensors)


def grouped(heads: int, *shared: Tensor) -> list[Tensor]:
    """What several of `heads` share, (B, L, H', ...), for each of them."""
    per_head = heads // shared[0].shape[2]
    return [x if per_head == 1 else x.repeat_interleave(per_head, dim=2) for x in shared]


def candidates(
    package: Package,
    module: str,
    reference: str,
    *,
    ours: Ours | None = None,
    mutates: int | None = None,
) -> Candidates:
    """fla, our kernel where there is one, and the plain torch form `reference.MODULE` as the last
    resort.

    Ours was measured at single lengths only, so fla runs until a run decides on the block.
    """
    find: dict[str, Find] = {"fla": package} if ours is None else {"fla": package, "ssmprof": ours}
    return Candidates(
        "scan",
        {**find, "reference": Plain(f"reference.{module}", reference)},
        last=frozenset({"reference"}),
        mutates=mutates,
    )
