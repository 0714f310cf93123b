"""SGLang's two pools: slots of states and tokens of keys, shared out in a fixed ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssmprof.serving.layout import Caches
    from ssmprof.serving.rules import Sglang


@dataclass(frozen=True)
class Pools:
    """Sizes of the pools, and how many sequences may run in them at once.

    `tokens` is None where no layer keeps keys, `slots` None where none keeps a state;
    `window_tokens` are those of the windowed layers, which have a pool of their own.
    """

    slots: int | None
    tokens: int | None
    window_tokens: int | None
    window: int | None
    running: int

    def sequences(self, context: int) -> int:
        """Sequences of `context` tokens that run at once."""
        found = [self.running]
        if self.tokens is not None:
            found.append(self.tokens // context)
        if self.window_tokens is not None and self.window is not None:
            found.append(self.window_tokens // min(context, self.window))
        return max(0, min(found))


def pools(
    found: Caches, rules: Sglang, pool_bytes: int, slots_each: int, drafts: int, longest: int
) -> Pools:
    """Slots and tokens of a pool; `longest` is the model's context in tokens."""
    state, rest = found.state_bytes, float(pool_bytes)
    slots = None
    if state:
        budget = pool_bytes * rules.state_ratio / (1 + rules.state_ratio)
        each = state * (1 + drafts / slots_each)
        slots = max(0, int((budget - state * (1 + drafts)) // each))
        rest -= (slots + 1) * state
        if drafts:  # one set per running sequence and one more, for tokens not yet accepted
            rest -= state * (slots // slots_each + 1) * drafts
    tokens, window_tokens = _tokens(found, rules, max(0.0, rest))
    running = rules.running_most
    held = window_tokens if tokens is None else tokens
    if held is not None:
        scaled = int(held / longest * rules.running_scale)
        running = max(min(scaled, rules.running_most), rules.running_least)
        running = min(running, held // 2)
    if slots is not None:
        running = min(running, slots // slots_each)
    windows = [one.window for one in found.keys if one.window is not None]
    return Pools(slots, tokens, window_tokens, max(windows, default=None), running)


def _tokens(found: Caches, rules: Sglang, rest: float) -> tuple[int | None, int | None]:
    """Tokens of layers that see everything, and of windowed ones."""
    full = sum(one.token_bytes for one in found.keys if one.window is None)
    windowed = sum(one.token_bytes for one in found.keys if one.window is not None)
    if full and windowed:
        tokens = int(rest // (full + rules.window_ratio * windowed))
        return tokens, int(tokens * rules.window_ratio)
    if windowed:
        return None, int(rest // windowed)
    return (int(rest // full), None) if full else (None, None)
