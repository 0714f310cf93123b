"""A step in which every sequence of a batch is at its own position, against each one by itself."""

from __future__ import annotations

import make
import pytest
import torch
from models.cast import CAST, VOCAB
from models.options import OPTIONS

from ssmprof.engine.calls import served
from ssmprof.engine.slots import Slots
from ssmprof.mixers import registry
from ssmprof.mixers.attention.shape import Attention
from ssmprof.models.recipe import Recipe

ROOM, STEPS = 20, 3
READ = (9, 1, 14)
ALL = [
    *(make.block(name, layers=name, depth=2, vocab=VOCAB)
      for name, part in registry.parts().items() if part.memory != "none" and registry.runs(name)),
    *CAST,
    *OPTIONS,
]  # fmt: skip


def refused(block: Recipe) -> bool:
    parts = (part for part in block.parts.values() if isinstance(part, Attention))
    return any(part.window is not None for part in parts)


BLOCKS = [block for block in ALL if not refused(block)]


@torch.inference_mode()
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_sequences_that_stand_apart_are_stepped_as_if_alone(block: Recipe) -> None:
    made = served(block, "cpu", "float32", 3, "last")
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(VOCAB, (len(READ), max(READ) + STEPS), generator=draw)
    slots = Slots(made, len(READ), ROOM)
    expected = torch.empty(STEPS, len(READ), VOCAB)
    for slot, read in enumerate(READ):
        alone = made.new_cache(1, ROOM)
        made.prefill(tokens[slot, None, :read], alone)
        alone.advance(read)
        slots.put(slot, alone, read)
        for step in range(STEPS):
            expected[step, slot] = made.step(tokens[slot, None, read + step], alone)[0]
            alone.advance()
    together = slots.first(len(READ), ROOM)
    for step in range(STEPS):
        newest = torch.stack([tokens[slot, read + step] for slot, read in enumerate(READ)])
        found = made.step(newest, together)
        slots.each.add_(1)
        slots.visible.add_(1)
        torch.testing.assert_close(found, expected[step], rtol=1e-3, atol=1e-4)
