"""What a sequence is when nobody else is served: the tokens that the loop must make of it."""

from __future__ import annotations

import torch

from ssmprof.models.build.model import Model


def alone(made: Model, prompt: torch.Tensor, count: int, room: int) -> list[int]:
    """Greedy tokens after a prompt, one sequence by itself in a cache of `room` tokens."""
    cache = made.new_cache(1, room)
    tokens = [int(made.prefill(prompt[None], cache)[0, -1].argmax())]
    cache.advance(len(prompt))
    while len(tokens) < count:
        out = made.step(torch.tensor(tokens[-1:], device=prompt.device), cache)
        cache.advance()
        tokens.append(int(out[0].argmax()))
    return tokens
